"""Rows of a memory-mapped array, read as tensors, with flat resident memory.

Pages of a mapped file that were touched count as resident memory until the map is dropped. So the map is
ours, and is dropped and opened anew after `BUDGET` bytes of touched pages. The kernel maps the pages around
a fault too (64 KiB, up to twice that where the page cache holds large folios: Linux 6.18), so that a random
row is counted as its own bytes plus 128 KiB.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.basis.shapes import show
from psiphi.data._convert import check_kind, to_tensor, torch_dtype

BUDGET = 128 << 20
FAULT_AROUND = 128 << 10
_SHARED = {"r", "r+", "w+"}  # what others write to the file is seen by a map opened anew


class _Window:
    """One array in a file: opened when it is read, dropped when enough of it was touched."""

    def __init__(self, array: np.memmap):
        check_kind(array.dtype)
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype
        self.row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
        reach = array.dtype.itemsize + sum(
            (n - 1) * abs(s) for n, s in zip(array.shape[1:], array.strides[1:])
        )
        if reach > 4 * self.row_bytes:
            raise DataError(
                f"the mapped array {show(array.shape)} is stored by columns: one row is scattered over "
                f"{reach} bytes; rows are needed: np.save(path, np.ascontiguousarray(x))."
            )
        self.path: Path | None = None
        self.touched = 0
        self.view: np.ndarray | None = None
        backing, name = getattr(array, "_mmap", None), getattr(array, "filename", None)
        if backing is None or name is None or array.mode not in _SHARED or not Path(name).is_file():
            self.view = np.asarray(array)  # cannot be opened anew, so it is read as it is
            return
        self.path = Path(name)
        first = np.frombuffer(backing, dtype=np.uint8)
        # A view's `.offset` is its parent's: the true place is told by the addresses.
        inside = array.__array_interface__["data"][0] - first.__array_interface__["data"][0]
        start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY + inside
        steps = [(n - 1) * s for n, s in zip(self.shape, self.strides)]
        lowest = start + sum(min(step, 0) for step in steps)
        self.end = start + sum(max(step, 0) for step in steps) + self.dtype.itemsize
        self.begin = lowest - lowest % mmap.ALLOCATIONGRANULARITY
        self.offset = start - self.begin

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"view": None, "touched": 0} if self.path else {})

    def _open(self, cost: int) -> np.ndarray:
        """The array, in a map of which so many bytes are about to be touched."""
        if self.path is not None and self.touched + cost > BUDGET:
            self.view, self.touched = None, 0
        self.touched += cost
        if self.view is None:
            assert self.path is not None
            try:
                with self.path.open("rb") as file:
                    held = file.seek(0, 2)
                    if held < self.end:
                        raise FileError(
                            f"{self.path} was cut short while in use: it holds {held} bytes of {self.end}."
                        )
                    length = self.end - self.begin
                    whole = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=self.begin)
            except OSError as error:
                raise FileError(f"{self.path} cannot be opened again ({error}).") from None
            self.view = np.ndarray(self.shape, self.dtype, whole, self.offset, self.strides)
        return self.view

    def span(self, first: int, last: int, out: np.ndarray) -> None:
        """Copy the rows first..last-1 to `out`."""
        step = max(1, BUDGET // max(1, self.row_bytes))
        for start in range(first, last, step):
            stop = min(last, start + step)
            out[start - first : stop - first] = self._open((stop - start) * self.row_bytes)[start:stop]

    def scattered(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy any rows to `out`, read in the order in which they lie in the file."""
        order = np.argsort(rows, kind="stable")
        cost = self.row_bytes + FAULT_AROUND
        step = max(1, BUDGET // cost)
        for start in range(0, len(rows), step):
            mine = order[start : start + step]
            out[mine] = self._open(len(mine) * cost)[rows[mine]]


class Mapped:
    """A view of the rows of a memory-mapped array: `x[rows]` is a tensor, `x` itself stays in the file.

    `array`: an `np.memmap` (n, ...); `index`: the rows that the view has, in its order (all of them when
    None). `len`, `shape` (n, ...), `ndim` and `dtype` are those of a tensor; an integer, a slice, a mask or
    an index gives a tensor of those rows. `tensor()`, and NumPy or torch when handed the view, read it whole.
    Errors: `DataError` for objects or arrays stored by columns, `FileError` when the file shrinks or goes.
    """

    def __init__(self, array: np.memmap, index: Tensor | None = None):
        self._set(_Window(array), None if index is None else index.cpu().numpy().astype(np.int64))

    def _set(self, window: _Window, index: np.ndarray | None) -> None:
        self._window, self._index = window, index
        rows = window.shape[0] if index is None else len(index)
        self.shape = torch.Size((rows, *window.shape[1:]))
        self.dtype = torch_dtype(window.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return len(self) * self._window.row_bytes

    def __repr__(self) -> str:
        return f"Mapped({show(self.shape)}, {self.dtype}, {self._window.path})"

    def subset(self, index: Tensor) -> Mapped:
        """The view of some of these rows, still in the file."""
        rows = index.cpu().numpy().astype(np.int64)
        made = object.__new__(Mapped)
        made._set(self._window, rows if self._index is None else self._index[rows])
        return made

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, tuple):
            first, *rest = key or (...,)
            return self[first][tuple(rest) if isinstance(first, int | np.integer) else (slice(None), *rest)]
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            return self[[int(key)]][0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1 and self._index is None:
                out = np.empty((max(0, stop - start), *self.shape[1:]), self._window.dtype)
                self._window.span(start, max(start, stop), out)
                return to_tensor(out)
            rows = np.arange(start, stop, step)
        elif key is Ellipsis:
            return self[:]
        else:
            rows = key.detach().cpu().numpy() if isinstance(key, Tensor) else np.asarray(key)
            if rows.dtype == bool:
                if rows.shape != (len(self),):
                    raise ArgumentError(
                        f"a mask of shape {show(rows.shape)} for {len(self)} rows; ({len(self)},) is needed."
                    )
                rows = rows.nonzero()[0]
            if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
                raise ArgumentError(
                    f"rows are an integer, a slice, a mask or a list of integers; got {key!r}."
                )
            rows = rows.astype(np.int64)
            if rows.size and not (-len(self) <= rows.min() and rows.max() < len(self)):
                raise IndexError(f"rows {rows.min()}..{rows.max()} of {len(self)}")
            rows = np.where(rows < 0, rows + len(self), rows)
        if self._index is not None:
            rows = self._index[rows]
        out = np.empty((len(rows), *self.shape[1:]), self._window.dtype)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            self._window.span(int(rows[0]), int(rows[-1]) + 1, out)
        else:
            self._window.scattered(rows, out)
        return to_tensor(out)

    def tensor(self) -> Tensor:
        """All rows in memory."""
        return self[:]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].numpy() if dtype is None else self[:].numpy().astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        return self[:].__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return torch.empty(0).__dlpack_device__()
