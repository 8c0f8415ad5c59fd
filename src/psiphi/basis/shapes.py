"""Bringing what users hand over (arrays, uint8, wrong devices) to tensors of a known shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from operator import index
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import DataError, ShapeError

Shape = tuple[int, ...]


def as_shape(shape: int | Sequence[int]) -> Shape:
    """A sample's shape as a tuple; an integer is the length of a vector."""
    try:
        given = tuple(index(n) for n in shape) if isinstance(shape, Iterable) else (index(shape),)
    except TypeError:
        given = ()
    if not given or min(given) < 1:
        raise ShapeError(
            f"a sample's shape needs sizes of at least 1; got {shape!r}: give e.g. (1, 28, 28) or 12."
        )
    return given


def show(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ")"


def as_float(x: Tensor) -> Tensor:
    """uint8 means k/255; floats are taken as they are; other integers and bools become float32."""
    if x.dtype == torch.uint8:
        return x.to(torch.float32).div_(255)
    return x if x.is_floating_point() else x.to(torch.float32)


def as_batch(x: Any, shape: Shape, what: str = "x") -> Tensor:
    """`x` as a float tensor (B, *shape); a flat (B, prod(shape)) is reshaped."""
    try:
        x = x if isinstance(x, Tensor) else torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} is no array of numbers ({error}); give an array or a tensor.") from None
    if x.is_complex():
        raise DataError(f"{what} is complex; give real numbers.")
    if tuple(x.shape[1:]) != shape:
        if x.ndim >= 1 and tuple(x.shape) == shape:
            raise ShapeError(
                f"{what} has shape {show(x.shape)}, one sample; a batch (B, {show(shape)[1:]} is needed: "
                f"pass {what}[None]."
            )
        if x.ndim == 2 and x.shape[1] == prod(shape):
            x = x.reshape(-1, *shape)
        else:
            raise ShapeError(
                f"{what} has shape {show(x.shape)}; the model takes (B, {show(shape)[1:]}: reshape it, or "
                f"build the model with shape {show(x.shape[1:])}."
            )
    return as_float(x)


def bad_rows(x: Tensor) -> Tensor:
    """The rows that hold NaN or infinity."""
    if not x.is_floating_point() or x.isfinite().all():
        return torch.empty(0, dtype=torch.long)
    return (~x.flatten(1).isfinite().all(1)).nonzero().squeeze(1).cpu()


def check_finite(x: Tensor, what: str = "x", offset: int = 0) -> None:
    bad = bad_rows(x)
    if len(bad):
        first = ", ".join(str(int(i) + offset) for i in bad[:5])
        more = ", …" if len(bad) > 5 else ""
        raise DataError(
            f"{what} has NaN or infinity in {len(bad)} of {len(x)} rows (rows {first}{more}): "
            f"remove or fill them."
        )
