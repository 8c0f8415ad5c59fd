"""Least changes that enter a half-space inside a box: min ‖δ‖ with ⟨a, δ⟩ ≥ b and lo ≤ x + δ ≤ hi.

`a` (b, *x) and `b` (b,) are the half-space of each row, `x` lies in the box. Each function returns δ and
whether the half-space was reached, (b,); where the box does not meet it, δ is the box's corner that
comes nearest, and coordinates with a_i = 0 never move. b ≤ 0 needs no change. These are the optima of
minimum-norm attacks on a linear classifier of margin b. Exact up to rounding: x + δ may leave the box
by a rounding error, so clamp the sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from psiphi.formulas import levels
from psiphi.formulas.geometry import Box


class _Problem(NamedTuple):
    """The rows flattened: a and b over the largest |a_i|, the way to the wall ahead, the answer so far."""

    a: Tensor
    b: Tensor
    ahead: Tensor
    reached: Tensor

    def answer(self, size: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The change of these sizes where the half-space is reached, the corner elsewhere."""
        size = torch.where(self.reached, size.minimum(self.ahead), self.ahead)
        return (self.a.sign() * size).view_as(x), self.reached.squeeze(1)


def _posed(a: Tensor, b: Tensor, x: Tensor, box: Box) -> _Problem:
    a, b = a.flatten(1), b.unsqueeze(1)
    scale = a.abs().amax(1, keepdim=True)
    scale = scale.where(scale > 0, 1)
    a, b = a / scale, (b / scale).clamp_min(0)
    ahead = box.ahead(a, x)
    return _Problem(a, b, ahead, b <= (a.abs() * ahead).sum(1, keepdim=True))


def linf_reach(
    a: Float[Tensor, "b *x"], b: Float[Tensor, " b"], x: Float[Tensor, "b *x"], box: Box
) -> tuple[Float[Tensor, "b *x"], Bool[Tensor, " b"]]:
    """min ‖δ‖_∞: δ = clip(t sign a, lo − x, hi − x), with the t ≥ 0 for which ⟨a, δ⟩ = b."""
    p = _posed(a, b, x, box)
    size = p.a.abs()
    return p.answer(levels.rising(size, size * p.ahead, p.b).expand_as(size), x)


def l2_reach(
    a: Float[Tensor, "b *x"], b: Float[Tensor, " b"], x: Float[Tensor, "b *x"], box: Box
) -> tuple[Float[Tensor, "b *x"], Bool[Tensor, " b"]]:
    """min ‖δ‖₂: δ = clip(λ a, lo − x, hi − x), with the λ ≥ 0 for which ⟨a, δ⟩ = b."""
    p = _posed(a, b, x, box)
    size = p.a.abs()
    return p.answer(levels.rising(size.square(), size * p.ahead, p.b) * size, x)


def l1_reach(
    a: Float[Tensor, "b *x"], b: Float[Tensor, " b"], x: Float[Tensor, "b *x"], box: Box
) -> tuple[Float[Tensor, "b *x"], Bool[Tensor, " b"]]:
    """min ‖δ‖₁: coordinates to the wall in falling |a_i|, the last one as far as is needed; ties by index.

    A fractional knapsack: the length is spent where a unit of it buys most (Dantzig, "Discrete-variable
    extremum problems", 1957).
    """
    p = _posed(a, b, x, box)
    size, order = p.a.abs().sort(dim=1, descending=True, stable=True)
    gain = size * p.ahead.gather(1, order)
    missing = p.b - (gain.cumsum(1) - gain)
    spent = (missing / size.where(size > 0, 1)).clamp_min(0)
    return p.answer(torch.empty_like(spent).scatter_(1, order, spent), x)
