"""NumPy files: `.npy` memory-mapped or read, `.npz` read. Headers are checked against the file before use."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from psiphi.basis.errors import DataError, FileError
from psiphi.basis.shapes import show
from psiphi.data._convert import check_kind
from psiphi.data._guard import RATIO, check_size, reading
from psiphi.data._items import X_KEYS, Y_KEYS, pick
from psiphi.data._raw import Raw, channels_first

IN_MEMORY = 64 << 20  # smaller files are read, since tensors in memory are faster and simpler to use


class Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], name: str) -> Header:
    """The header of a `.npy` stream; a `DataError` for objects, before anything is read of them."""
    with reading(name, ".npy"):
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        shape = tuple(int(n) for n in shape)
        if any(n < 0 for n in shape):
            raise FileError(f"{name} has the shape {show(shape)} in its header: it is corrupt.")
        check_kind(dtype, name)
        return Header(shape, fortran, dtype, stream.tell())


def read_npy(path: Path, *, mapped: bool | None = None) -> Raw:
    """A `.npy` file: mapped, never read whole, when it is larger than 64 MB (mapped=None) or as told."""
    return Raw(channels_first(open_npy(path, mapped=mapped)))


def open_npy(path: Path, *, mapped: bool | None = None) -> np.ndarray:
    """The array of a `.npy` file, an `np.memmap` when it is mapped."""
    with reading(path, ".npy"), path.open("rb") as file:
        head = read_header(file, str(path))
        held = file.seek(0, 2) - head.offset
    if held != head.nbytes:
        kind = "cut short" if held < head.nbytes else "longer than it should be"
        raise FileError(
            f"{path} is {kind}: its header promises {show(head.shape)} {head.dtype}, {head.nbytes} bytes, "
            f"and it holds {held}. Restore it from a copy."
        )
    if head.nbytes == 0:
        raise DataError(f"{path} is empty: its shape is {show(head.shape)}; at least two rows are needed.")
    if mapped is None:
        mapped = head.nbytes > IN_MEMORY
    if not mapped:
        check_size(head.nbytes, path, "leave out mapped=False")
    with reading(path, ".npy"):
        order = "F" if head.fortran else "C"
        array = np.memmap(path, head.dtype, "r", head.offset, head.shape, order=order)
        return array if mapped else np.array(array, order="C")


def read_npz(path: Path, *, labels: Any = None) -> Raw:
    """A `.npz` file with x (or X, images, data, ...) and maybe y (or label, labels, target, ...)."""
    with reading(path, ".npz"), zipfile.ZipFile(path) as archive:
        held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        x, y = pick(held, X_KEYS), pick(held, Y_KEYS)
        tests = [
            pick(held, [f"{k}_test" for k in keys] + [f"test_{k}" for k in keys]) for keys in (X_KEYS, Y_KEYS)
        ]
        x = x or pick(held, [f"{k}_train" for k in X_KEYS] + [f"train_{k}" for k in X_KEYS])
        y = y or pick(held, [f"{k}_train" for k in Y_KEYS] + [f"train_{k}" for k in Y_KEYS])
        if isinstance(labels, str):
            y = labels
        if x is None and len(held) == 1:
            x, y = next(iter(held)), None
        if x is None or (y is not None and y not in held):
            missing = "x" if x is None else repr(y)
            raise DataError(
                f"{path} has no array {missing}; it holds {', '.join(sorted(held)) or 'nothing'}: name the "
                "data x, X, images or data, and the labels y, label or labels."
            )
        arrays = {key: _member(archive, held[key], path) for key in {x, y, *tests} - {None}}
        own = (channels_first(arrays[tests[0]]), arrays.get(tests[1])) if tests[0] else None
        return Raw(channels_first(arrays[x]), arrays.get(y), own)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    name = f"{path}:{info.filename}"
    if info.file_size > RATIO * info.compress_size + 1024:
        raise FileError(
            f"{name} claims {info.file_size} bytes from {info.compress_size} compressed ones; none can grow "
            "that much."
        )
    check_size(info.file_size, name, "save it as .npy, which is mapped")
    with archive.open(info) as stream:
        head = read_header(stream, name)
        held = info.file_size - head.offset
        if held != head.nbytes:
            raise FileError(
                f"{name} is corrupt: its header promises {show(head.shape)} {head.dtype}, {head.nbytes} "
                f"bytes, and it holds {held}."
            )
        content = stream.read()
        if len(content) != held:
            raise FileError(f"{name} is cut short: {len(content)} bytes of {held}.")
    array = np.frombuffer(bytearray(content), head.dtype)
    return array.reshape(head.shape, order="F" if head.fortran else "C")
