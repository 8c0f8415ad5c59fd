"""idx files, MNIST's format, raw or gzip.

Layout: two zero bytes, a byte for the type, a byte for the number of dimensions, the dimensions as
big-endian 32-bit integers, the values big-endian (LeCun, Cortes, Burges, "The MNIST database", 1998).
"""

from __future__ import annotations

import gzip
import re
import struct
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np

from psiphi.basis.errors import DataError, FileError
from psiphi.basis.shapes import show
from psiphi.data._guard import RATIO, check_size, reading
from psiphi.data._raw import Raw, channels_first

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES = re.compile(r"images[-_.]?idx3[-_.]?ubyte(\.gz)?$")


def is_images(path: Path) -> bool:
    """Whether the name is that of an idx file of images."""
    return bool(_IMAGES.search(path.name))


def is_idx(path: Path) -> bool:
    """Whether the file's first bytes, unpacked if it is gzip, are those of idx."""
    with reading(path, "idx"):
        try:
            with _open(path) as stream:
                start = stream.read(4)
        except (OSError, EOFError, ValueError):
            return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES


def open_idx(path: Path) -> np.ndarray:
    """The array of one idx file. Errors: `FileError` when it is no idx file or its length is another."""
    with reading(path, "idx"), _open(path) as stream:
        start = stream.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
            raise FileError(
                f"{path} is no idx file: it starts with {start.hex(' ') or 'nothing'}; 00 00, a type "
                "(08..0e) and a number of dimensions are needed."
            )
        sizes = stream.read(4 * start[3])
        if len(sizes) < 4 * start[3] or start[3] == 0:
            raise FileError(f"{path} is cut short in its header of {start[3]} dimensions.")
        shape = struct.unpack(f">{start[3]}I", sizes)
        dtype = np.dtype(TYPES[start[2]])
        promised = prod(shape) * dtype.itemsize
        held = path.stat().st_size
        most = held * RATIO if _packed(path) else held
        if promised > most:
            raise FileError(
                f"{path} is cut short or lies: its header promises {show(shape)}, {promised} bytes, and the "
                f"file has {held}. Restore it from a copy."
            )
        check_size(promised, path, "save it as .npy, which is mapped")
        content = bytearray()
        while len(content) <= promised and (part := stream.read(min(1 << 20, promised + 1 - len(content)))):
            content += part
        if len(content) != promised:
            kind = "cut short" if len(content) < promised else "longer than it should be"
            raise FileError(
                f"{path} is {kind}: its header promises {show(shape)}, {promised} bytes, and it holds "
                f"{len(content)}{' or more' if len(content) > promised else ''}. Restore it from a copy."
            )
        return np.frombuffer(content, dtype).reshape(shape)


def read_idx(path: Path) -> Raw:
    """One file of images, with the labels file beside it if there is one."""
    x = open_idx(path)
    beside = [path.with_name(name) for name in _label_names(path.name)]
    found = next((p for p in beside if p != path and p.is_file()), None)
    return Raw(channels_first(x), None if found is None else _labels(found, len(x), path))


def read_idx_folder(folder: Path) -> Raw:
    """A folder of the four files: `train-*` is the training data, `t10k-*` or `test-*` its own test split."""
    files = sorted(p for p in folder.iterdir() if is_images(p))
    test = [p for p in files if re.search(r"t10k|test", p.name)]
    train = [p for p in files if p not in test] or test
    if (
        len({p.name.removesuffix(".gz") for p in train}) > 1
        or len({p.name.removesuffix(".gz") for p in test}) > 1
    ):
        raise DataError(
            f"{folder} holds {len(files)} files of images ({', '.join(p.name for p in files[:6])}); one to "
            "train on and one to test on are needed: name one of the files."
        )
    raw = read_idx(train[0])
    if not test or test == train:
        return raw
    own = read_idx(test[0])
    if own.x.shape[1:] != raw.x.shape[1:] or (own.y is None) != (raw.y is None):
        raise DataError(
            f"{train[0].name} has samples {show(raw.x.shape[1:])}, {test[0].name} {show(own.x.shape[1:])}; "
            "both need one shape, and labels or none."
        )
    return Raw(raw.x, raw.y, (own.x, own.y))


def _labels(path: Path, rows: int, images: Path) -> np.ndarray:
    y = open_idx(path)
    if y.shape != (rows,):
        raise DataError(
            f"{path} has shape {show(y.shape)}, and {images.name} has {rows} images: one label each is "
            "needed."
        )
    return y


def _label_names(name: str) -> list[str]:
    plain = name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    return [f"{plain}.gz", plain] if name.endswith(".gz") else [plain, f"{plain}.gz"]


def _packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if _packed(path) else path.open("rb"))
