"""A hash that tells data sets apart."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from psiphi.data._mapped import Mapped
from psiphi.data.streams import as_rows

WHOLE = 256 << 20
EDGE = 4 << 20
STRIDED = 4096


def fingerprint(x: Any, y: Any = None) -> str:
    """SHA-256, as 64 hexadecimal digits, of shape, dtype and content of x, and of y if given.

    Up to 256 MB all of the content counts. Of more, a sample does: the rows of the first and the last 4 MB,
    and 4096 rows at even distances between; a change elsewhere is then not seen.
    """
    digest = hashlib.sha256()
    for part in (x, y):
        if part is not None:
            _add(digest, as_rows(part))
    return digest.hexdigest()


def _add(digest: Any, x: Tensor | Mapped) -> None:
    digest.update(f"{tuple(x.shape)} {x.dtype}".encode())
    rows = len(x)
    row = max(1, x.nbytes // max(1, rows))
    if x.nbytes <= WHOLE:
        step = max(1, EDGE // row)
        for start in range(0, rows, step):
            _content(digest, x[start : start + step])
        return
    edge = min(max(1, EDGE // row), rows)
    _content(digest, x[:edge])
    _content(digest, x[rows - edge :])
    middle = torch.linspace(0, rows - 1, min(rows, STRIDED), dtype=torch.float64).round().long()
    for part in middle.split(max(1, EDGE // row)):
        _content(digest, x[part])


def _content(digest: Any, x: Tensor) -> None:
    if x.ndim == 0 or x.numel() == 0:
        return
    digest.update(x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
