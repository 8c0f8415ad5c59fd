"""Nearest points of ball ∩ box.

`x` is the ball's centre and lies in the box, `v` is a point; `eps` is a radius, a scalar or (b,), and
infinity means no ball. By the conditions of Karush, Kuhn and Tucker (Boyd, Vandenberghe, "Convex
optimization", 2004, section 5.5.3) one multiplier μ a row explains every coordinate. Clipping after an
ordinary projection onto the ball is not the nearest point in L2 and L1; where it clips nothing it is,
and those rows take that road.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.formulas import levels
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box, Radius


def linf_project(
    v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"], eps: Radius, box: Box
) -> Float[Tensor, "b *x"]:
    """Nearest point to `v` of {u : ‖u − x‖_∞ ≤ ε} ∩ box: a clamp, coordinate by coordinate."""
    eps, (lo, hi) = per_row(eps, x), box.like(x)
    return v.clamp(min=(x - eps).clamp_(min=lo)).clamp_(max=(x + eps).clamp_(max=hi))


def l2_project(
    v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"], eps: Radius, box: Box
) -> Float[Tensor, "b *x"]:
    """Nearest point to `v` of {u : ‖u − x‖₂ ≤ ε} ∩ box.

    u − x = clip((v − x)/(1 + μ), lo − x, hi − x), with the smallest μ ≥ 0 for which it fits in the ball.
    """
    delta, eps = (v - x).flatten(1), _column(eps, x)
    scale = levels.rising(delta.square(), box.ahead(delta, x).square_(), eps.square(), most=1.0).sqrt_()
    scale.masked_fill_(scale > 1 - 4 * torch.finfo(x.dtype).eps, 1)  # rounding alone draws nothing off a wall
    return box.clamp(torch.lerp(x, v, per_row(scale.squeeze(1), x)))  # exactly v where the scale is 1


def l1_project(
    v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"], eps: Radius, box: Box
) -> Float[Tensor, "b *x"]:
    """Nearest point to `v` of {u : ‖u − x‖₁ ≤ ε} ∩ box.

    u − x = clip(soft(v − x, μ), lo − x, hi − x), soft(d, μ) = sign(d) max(|d| − μ, 0), with the smallest
    μ ≥ 0 for which it fits in the ball.
    """
    delta, eps = (v - x).flatten(1), _column(eps, x)
    size, ahead = delta.abs(), box.ahead(delta, x)
    length = size.minimum(ahead).sum(1, keepdim=True)
    outside = length > eps
    if not outside.any():
        return box.clamp(v)
    left = (size - levels.falling(size, ahead, eps.minimum(length))).clamp_min_(0)
    length = left.minimum(ahead).sum(1, keepdim=True).clamp_min_(torch.finfo(x.dtype).tiny)
    left *= (eps / length).clamp_max_(1)  # against rounding
    u = x + left.copysign_(delta).view_as(x)
    return box.clamp(torch.where(per_row(outside.squeeze(1), x), u, v))


def _column(eps: Radius, x: Tensor) -> Tensor:
    return torch.as_tensor(eps, dtype=x.dtype, device=x.device).expand(len(x)).unsqueeze(1)
