"""Qualities of reconstruction d(x, x̂): per sample, summed over the event."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def squared(x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(x − y)² of each coordinate; its best constant is the mean."""
    return (x - y).square()


def absolute(x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """|x − y| of each coordinate; its best constant is the median."""
    return (x - y).abs()


def huber(x: Float[Tensor, "..."], y: Float[Tensor, "..."], delta: float = 1.0) -> Float[Tensor, "..."]:
    """½(x − y)² where |x − y| ≤ δ, else δ(|x − y| − ½δ).

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """
    gap = (x - y).abs()
    return torch.where(gap <= delta, 0.5 * gap.square(), delta * (gap - 0.5 * delta))
