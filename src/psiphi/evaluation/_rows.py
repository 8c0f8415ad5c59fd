"""Rows and codes, whatever they are handed over as."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.basis.shapes import Shape, as_batch


class Rows(NamedTuple):
    """x: (n, *shape), float; y: (n,) or (n, factors), or None."""

    x: Tensor
    y: Tensor | None


def rows_of(given: Any, shape: Shape, limit: int | None = None, what: str = "x") -> Rows:
    """The first `limit` rows of a split, a pair (x, y) or an array of x, in memory."""
    x, y = given if isinstance(given, tuple) else _pair(given)
    stop = len(x) if limit is None else min(limit, len(x))
    if stop < 1:
        raise DataError(f"{what} has no rows: hand over at least one.")
    x = as_batch(x[:stop], shape, what)
    y = None if y is None else torch.as_tensor(y)[:stop]
    if y is not None and len(y) != len(x):
        raise DataError(f"{what} has {len(x)} rows and {len(y)} labels: one label a row is needed.")
    return Rows(x, y)


def _pair(given: Any) -> tuple[Any, Any]:
    is_split = hasattr(given, "x") and hasattr(given, "y")
    return (given.x, given.y) if is_split else (given, None)


@torch.no_grad()
def codes_of(model: Any, x: Tensor) -> Tensor:
    """E[z|x] on the CPU in double precision, (n, d)."""
    z = model.encode(x).flatten(1).cpu().double()
    if z.shape[1] < 1:
        raise DataError(
            f"{model.title} has codes of 0 numbers, which say nothing of x: give it a latent_dim."
        )
    return z
