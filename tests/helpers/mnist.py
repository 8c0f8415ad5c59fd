"""Scikit-learn's digits in the four files of MNIST, so that recipes run small."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def _idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), 1))


def as_mnist(root: Path, train: int = 1200, test: int = 400) -> Path:
    """root/mnist with the first `train` digits to train on and the next `test` to test on, 15 of 255 a level."""
    folder = root / "mnist"
    folder.mkdir()
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8) * 15).astype(np.uint8)
    for name, rows in (("train", slice(0, train)), ("t10k", slice(train, train + test))):
        _idx(folder / f"{name}-images-idx3-ubyte.gz", x[rows])
        _idx(folder / f"{name}-labels-idx1-ubyte.gz", y[rows])
    return folder
