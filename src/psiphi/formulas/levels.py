"""Levels at which a sum of clipped lines takes a given value: exactly, by deciding which terms are clipped.

Every projection onto a ball in a box, and every least change to a half-space in one, is such a level.
Each round solves for the level as if no undecided term were clipped; a term seen to be past its kink stays
decided. So each round decides a term of some row or is the last. A few rounds suffice, several times
faster than sorting the kinks; 0-1 masks are numbers here, as multiplying is faster than selecting.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rising(
    slope: Float[Tensor, "b d"],
    cap: Float[Tensor, "b d"],
    total: Float[Tensor, "b 1"],
    most: float | None = None,
) -> Float[Tensor, "b 1"]:
    """The least t ≥ 0 with Σ_i min(f_i t, c_i) = total, for f, c ≥ 0 and total ≥ 0.

    `most` where t is larger or the caps forbid it, by default the largest finite number. With C the terms at
    their cap, t = (total − Σ_C c_i)/Σ_{i∉C} f_i. The sum is concave in t, so its tangents meet `total` before
    it does: t and C only grow.
    """
    info = torch.finfo(slope.dtype)
    most = info.max if most is None else most
    cap = cap.clamp_max(info.max)
    kink = cap / slope.clamp_min(info.tiny)
    t, before = (total / _sum(slope).clamp_min(info.tiny)).clamp_max(most), torch.zeros_like(total)
    while ((t > before) & (t < most)).any():
        capped = _positive(t - kink)
        left = total - _dot(capped, cap)
        free = _dot(capped.neg_().add_(1), slope)
        before, t = t, torch.maximum(t, (left / free.clamp_min(info.tiny)).clamp_max(most))
    return t


def falling(
    size: Float[Tensor, "b d"], cap: Float[Tensor, "b d"], total: Float[Tensor, "b 1"]
) -> Float[Tensor, "b 1"]:
    """The μ ≥ 0 with Σ_i min(max(s_i − μ, 0), c_i) = total, for s, c ≥ 0 and 0 ≤ total ≤ the sum at μ = 0.

    With C the terms at their cap and F those that are neither there nor at 0, μ = (Σ_F s_i + Σ_C c_i − total)/|F|.
    Where the sum at that μ is larger than `total` the level lies above, and terms with s_i ≤ μ are 0; where
    it is smaller the level lies below, and terms with s_i − c_i ≥ μ are at their cap.

    Source: Bitran, Hax, "Disaggregation and resource allocation using convex knapsack problems with bounded
    variables", 1981; Kiwiel, "Variable fixing algorithms for the continuous quadratic knapsack problem", 2008.
    """
    ends = size - cap
    above, below = torch.zeros_like(total), torch.full_like(total, torch.inf)  # above ≤ μ ≤ below
    mu, before = above, torch.full_like(total, -1)
    while ((mu - before).abs() > 0).any():  # False for NaN
        before = mu
        rest = _positive(below - ends)
        capped = _dot(1 - rest, cap)
        free = rest.mul_(_positive(size - above))
        number = _sum(free)
        mu = torch.where(number > 0, (_dot(free, size) + capped - total) / number.clamp_min(1), mu)
        off = _sum((size - mu).clamp_min_(0).minimum(cap)) - total
        above = torch.where(off >= 0, torch.maximum(above, mu), above)
        below = torch.where(off <= 0, torch.minimum(below, mu), below)
    return mu


def _positive(value: Tensor) -> Tensor:
    """1 where the value is positive, else 0; in place."""
    return value.sign_().clamp_min_(0)


def _sum(value: Tensor) -> Tensor:
    return value.sum(1, keepdim=True)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.vecdot(first, second).unsqueeze(1)
