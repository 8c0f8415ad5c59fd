"""What must be true of data, labels and outputs before an attack means anything; each says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import AccessError, ArgumentError, DataError, ShapeError
from psiphi.basis.shapes import as_float, check_finite, show
from psiphi.formulas.geometry import Box


def as_points(x: Any) -> Tensor:
    """`x` as a finite float batch (B, *x); uint8 means k/255."""
    try:
        x = x.detach() if isinstance(x, Tensor) else torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"x is no array of numbers ({error}); give an array or a tensor.") from None
    if x.is_complex():
        raise DataError("x is complex; give real numbers.")
    if x.ndim < 2:
        raise ShapeError(
            f"x has shape {show(x.shape)}; a batch (B, ...) is needed: pass x[None] for one row."
        )
    x = as_float(x)
    check_finite(x)
    return x


def check_inside(x: Tensor, box: Box) -> None:
    if (outside := (x < box.lo) | (x > box.hi)).any():
        least, most = float(x.min()), float(x.max())
        raise AccessError(
            f"x lies in [{least:g}, {most:g}], outside the bounds [{shown(box.lo)}, {shown(box.hi)}] of the access in "
            f"{int(outside.sum())} numbers: scale x, or say white_box(model, bounds=({least:g}, {most:g}))."
        )


def as_bounds(bounds: Any) -> tuple[Tensor, Tensor]:
    """Two numbers, or two lists of one a channel, checked."""
    try:
        lo, hi = (torch.as_tensor(b, dtype=torch.float64) for b in bounds)
        lo, hi = torch.broadcast_tensors(lo, hi)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            f"bounds need two numbers, or two lists of one a channel; got {bounds!r}."
        ) from None
    if lo.ndim > 1 or not (lo < hi).all() or not (lo.isfinite() & hi.isfinite()).all():
        raise ArgumentError(f"bounds need finite numbers, the lower first; got {bounds!r}.")
    return lo, hi


def as_box(bounds: tuple[Tensor, Tensor], x: Tensor) -> Box:
    """The box of data like `x`: floats, or tensors (1, C, 1, ...)."""
    lo, hi = bounds
    return Box(float(lo), float(hi)) if lo.ndim == 0 else Box(*(as_channels(b, x, "bounds") for b in bounds))


def shown(bound: float | Tensor) -> str:
    """A bound in words."""
    return (
        f"{bound:g}"
        if not isinstance(bound, Tensor)
        else str([round(b, 6) for b in bound.flatten().tolist()])
    )


def _rows(bad: Tensor) -> str:
    index = bad.nonzero().squeeze(1).tolist()
    return ", ".join(str(i) for i in index[:5]) + (", …" if len(index) > 5 else "")


def as_labels(y: Any, n: int, what: str = "y") -> Tensor:
    """`y` as n integer labels, none of them missing; one integer stands for all rows."""
    try:
        y = y.detach() if isinstance(y, Tensor) else torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} are no labels ({error}); give {n} integers.") from None
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        if y.numel():
            raise DataError(f"{what} has dtype {y.dtype}; labels are integers 0..K-1: convert them.")
        y = y.long()
    y = y.long()
    if y.ndim == 0:
        y = y.expand(n)
    if tuple(y.shape) != (n,):
        raise ShapeError(f"{what} has shape {show(y.shape)}; {n} labels are needed, one for each row of x.")
    if (missing := y < 0).any():
        raise DataError(
            f"{what} has {int(missing.sum())} missing or negative labels (rows {_rows(missing)}): drop these "
            "rows, or leave y out to attack the classifier's own answers."
        )
    return y


def check_classes(y: Tensor, classes: int | None, what: str = "y") -> None:
    if classes is not None and (beyond := y >= classes).any():
        raise DataError(
            f"{what} goes up to {int(y.max())} (rows {_rows(beyond)}), but the classifier has {classes} "
            f"classes, 0..{classes - 1}."
        )


def check_logits(logits: Any, n: int) -> Tensor:
    if not isinstance(logits, Tensor):
        raise AccessError(
            f"the classifier returned {type(logits).__name__}; a tensor of logits (B, K) is needed: wrap it "
            "in a function that returns that."
        )
    if logits.ndim != 2 or len(logits) != n:
        raise AccessError(
            f"the classifier returned shape {show(logits.shape)} for {n} rows; logits (B, K) are needed, one "
            "row for each input."
        )
    if logits.shape[1] < 2:
        raise AccessError(
            "the classifier returned one number a row; at least two classes are needed: for one logit z, "
            "return (0, z)."
        )
    check_numbers(logits, "the classifier's output")
    return logits


def check_numbers(values: Tensor, what: str) -> None:
    if not values.sum().isfinite() and not values.isfinite().all():  # a finite sum has finite terms
        bad = (~values.flatten(1).isfinite()).any(1)
        raise AccessError(
            f"{what} is NaN or infinite for {int(bad.sum())} of {len(bad)} rows (rows {_rows(bad)} of the "
            "batch): an attack cannot be judged on it; look for a division by zero or an overflow in the "
            "classifier."
        )


def check_no_probabilities(logits: Tensor) -> None:
    """Refuse rows that lie in [0, 1] and sum to 1: cross-entropy would take the softmax a second time."""
    if len(logits) and logits.min() >= 0 and logits.max() <= 1:
        slack = 100 * torch.finfo(logits.dtype).eps * logits.shape[1]
        if ((logits.sum(1) - 1).abs() <= slack).all():
            raise AccessError(
                "the classifier returns probabilities (each row lies in [0, 1] and sums to 1); an attack on "
                "them is misled by vanishing gradients: return logits instead, i.e. drop the last softmax."
            )


def gap_between(first: Tensor, second: Tensor) -> float:
    """The largest difference of two answers to the same rows; 0 where rounding explains it."""
    gap = (first - second).abs().amax().item()
    return gap if gap > 1e3 * torch.finfo(first.dtype).eps * max(first.abs().amax().item(), 1e-30) else 0.0


def check_repeatable(first: Tensor, second: Tensor) -> None:
    """Refuse a classifier that answers the same rows differently by more than rounding."""
    if gap := gap_between(first, second):
        raise AccessError(
            f"the classifier's output is random: the same rows gave logits that differ by {gap:.3g}. One "
            "lucky draw proves nothing: fix its noise, or attack the mean over draws, "
            "access.expectation(model, draws=16)."
        )


def as_channels(values: float | Sequence[float] | Tensor, x: Tensor, what: str = "mean and std") -> Tensor:
    """A scalar, or one number a channel, in a shape that broadcasts over x (B, C, ...)."""
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device)
    if values.ndim == 0:
        return values
    if values.ndim == 1 and x.ndim >= 2 and len(values) in (1, x.shape[1]):
        return values.view(1, -1, *[1] * (x.ndim - 2))
    raise ShapeError(
        f"{what} are one number, or one a channel; got shape {show(values.shape)} for x of shape "
        f"{show(x.shape)}."
    )
