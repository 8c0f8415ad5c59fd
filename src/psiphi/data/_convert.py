"""Foreign arrays and labels to tensors, each refusal one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import DataError, ShapeError
from psiphi.basis.shapes import show

_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "float64"}  # torch has no arithmetic on these
_TORCH = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}
_NEEDED = "numbers (booleans, integers or floats) are needed"


def check_kind(dtype: np.dtype, what: str = "x") -> None:
    """A `DataError` unless the dtype is a plain real number."""
    if dtype.kind in "biuf":
        return
    if dtype.kind == "O":
        raise DataError(
            f"{what} is an array of Python objects; {_NEEDED}: rows of one length, without None or text, "
            f"give numbers. psiphi never unpickles; save again with x.astype('float32')."
        )
    why = "complex" if dtype.kind == "c" else f"of dtype {dtype}"
    raise DataError(f"{what} is {why}; {_NEEDED}: convert it, or give only its numeric columns.")


def torch_dtype(dtype: np.dtype) -> torch.dtype:
    """The torch dtype that `as_tensor` gives for a NumPy dtype."""
    return torch.from_numpy(np.empty(0, _plain(dtype))).dtype


def _plain(dtype: np.dtype) -> np.dtype:
    """A dtype that torch knows: native byte order, no wide unsigned integers, at most 64 bits."""
    name = dtype.newbyteorder("=").name
    return np.dtype(_WIDER.get(name, name if name in _TORCH else "float64"))


def to_tensor(array: np.ndarray) -> Tensor:
    """A plain array as a tensor; memory is shared when dtype, order and writability allow."""
    array = array.astype(_plain(array.dtype), copy=False)
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    return torch.from_numpy(np.asarray(array))


def as_tensor(x: Any, what: str = "x") -> Tensor:
    """Anything array-like (tensor, array, nested list, data frame, sparse matrix) as a detached tensor.

    Errors: `DataError` for text, objects, complex numbers, rows of several lengths, quantised tensors.
    """
    if isinstance(x, Tensor):
        if x.is_complex() or x.is_quantized or x.layout != torch.strided:
            raise DataError(f"{what} is a tensor {x.dtype}, {x.layout}; dense real numbers are needed.")
        return x.detach()
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        x = _numeric_columns(x, what)
    elif hasattr(x, "toarray"):
        x = x.toarray()
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} is no array ({error}); {_NEEDED}, in rows of one length.") from None
    check_kind(array.dtype, what)
    return to_tensor(array)


def _numeric_columns(frame: Any, what: str) -> np.ndarray:
    """The values of a data frame; a `DataError` names columns that are no numbers."""
    dtypes = list(frame.dtypes)
    text = [
        str(name) for name, dtype in zip(frame.columns, dtypes) if getattr(dtype, "kind", "O") not in "biuf"
    ]
    if text:
        raise DataError(
            f"{what} has {len(text)} columns that are no numbers ({', '.join(text[:5])}); {_NEEDED}: drop "
            f"them, or read the table with psiphi.data.load, which codes them; labels are named by labels='…'."
        )
    return np.asarray(frame.to_numpy(dtype="float64"))


def as_labels(y: Any, rows: int, what: str = "y") -> Tensor:
    """Labels 0..K−1, −1 = unknown, as int64 (rows,).

    Errors: `DataError` when the length differs, values are no integers, lie below −1, or are so large
    that they cannot number classes; it says what to do.
    """
    if hasattr(y, "to_numpy") and not isinstance(y, Tensor):
        y = y.to_numpy()
    y = as_tensor(y, what)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.shape[0] == rows:
        raise DataError(
            f"{what} has shape {show(y.shape)}, one row a sample; integers are needed: pass {what}.argmax(1)."
        )
    if y.ndim != 1 or len(y) != rows:
        raise DataError(
            f"{what} has shape {show(y.shape)} for {rows} rows of x; one label a row is needed: shape "
            f"({rows},)."
        )
    if y.is_floating_point():
        odd = ~(y == y.round())
        if odd.any():
            first = int(odd.nonzero()[0])
            raise DataError(
                f"{what} has {int(odd.sum())} values that are no integers (row {first}: "
                f"{float(y[first]):g}); labels "
                f"0..K-1 are needed, -1 for unknown."
            )
    y = y.to(torch.int64)
    low, high = int(y.min()) if rows else 0, int(y.max()) if rows else 0
    if low < -1:
        raise DataError(
            f"{what} reaches down to {low}; labels are 0..K-1, and -1 means unknown: number the classes from "
            "0."
        )
    if high >= max(rows, 10_000):
        raise DataError(
            f"{what} reaches {high} in {rows} rows; labels are 0..K-1: number the classes from 0."
        )
    return y


def name_classes(y: Any, rows: int, names: Sequence[str] = ()) -> tuple[Tensor, list[str]]:
    """Labels of any kind (text, integers with gaps) as 0..K−1, and the K names; −1 stays unknown."""
    if hasattr(y, "to_numpy") and not isinstance(y, Tensor):
        y = y.to_numpy()
    if not isinstance(y, Tensor):
        try:
            array = np.asarray(y)
        except (TypeError, ValueError) as error:
            raise DataError(f"labels are no array ({error}); one label a row is needed.") from None
        if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
            array = array.astype(str)
        if array.dtype.kind in "US":
            if array.shape != (rows,):
                raise DataError(
                    f"labels have shape {show(array.shape)} for {rows} rows of x; ({rows},) is needed."
                )
            found, numbers = np.unique(array.astype(str), return_inverse=True)
            return torch.from_numpy(numbers.astype(np.int64)), [str(name) for name in found]
        y = array
    if len(names):
        return as_labels(y, rows, "labels"), [str(name) for name in names]
    y = as_tensor(y, "labels")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    integers = not y.is_floating_point() or bool((y == y.round()).all())
    if y.shape != (rows,) or not integers:
        return as_labels(y, rows, "labels"), []
    y = y.to(torch.int64)
    known = y[y >= 0].unique() if not (y < -1).any() else y.unique()
    if len(known) > max(1000, rows // 2):
        raise DataError(
            f"labels take {len(known)} values in {rows} rows; that is a measurement, no class: give labels "
            "0..K-1."
        )
    numbered = torch.full_like(y, -1)
    place = torch.searchsorted(known, y).clamp(max=max(len(known) - 1, 0))
    if len(known):
        mine = known[place] == y
        numbered[mine] = place[mine]
    return numbered, [str(int(value)) for value in known]


def all_finite(x: Tensor) -> bool:
    """Whether a tensor has neither NaN nor infinity; one pass without a mask where it has none."""
    if not x.is_floating_point() or x.numel() == 0:
        return True
    if bool(x.sum(dtype=torch.float32 if x.dtype != torch.float64 else None).isfinite()):
        return True
    return bool(x.isfinite().all())


def check_rows(shape: Sequence[int], what: str = "x") -> None:
    """A `DataError` unless the shape is that of at least two samples of at least one value."""
    if len(shape) < 2:
        raise ShapeError(
            f"{what} has shape {show(shape)}; rows of samples (n, ...) are needed: {what}[:, None] makes "
            f"each number a sample, {what}[None] makes one sample."
        )
    if shape[0] == 0 or min(shape[1:]) == 0:
        raise DataError(
            f"{what} is empty (shape {show(shape)}); at least two rows are needed: check the file or the "
            "filter."
        )
    if shape[0] == 1:
        raise DataError(
            f"{what} has one row (shape {show(shape)}); there is nothing to learn from it: give at least two."
        )
