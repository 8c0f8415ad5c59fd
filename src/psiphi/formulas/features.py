"""Distances in a space of features: what the geometry of a ball becomes where its norm is ‖φ(v) − φ(x)‖₂."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import l2_norm

_SECANTS, _MOST = 12, 60  # turns of `farthest`
_SLIM = 1e-10  # of a vector of channels: too short to have a direction


def normalised(activations: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
    """a/‖a‖_C/√S: unit vectors of channels, each of S places with the same weight.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018, eq. 1, with
    all weights 1; Laidlaw, Singla, Feizi, "Perceptual adversarial robustness", 2021, section 3.
    """
    places = activations[0, 0].numel() if len(activations) else 1
    return activations / (activations.norm(dim=1, keepdim=True) + _SLIM) / places**0.5


def farthest(
    length: Callable[[Tensor, Tensor], Tensor], eps: Float[Tensor, " b"], tolerance: float | None = None
) -> Float[Tensor, " b"]:
    """A t in [0, 1] with ℓ(t) ≤ ε, and ℓ > ε within `tolerance` beyond it; 1 where ℓ(1) ≤ ε.

    `length(t, rows)` gives ℓ at t (n,) of these rows, ℓ(0) = 0 ≤ ε. Where ℓ rises it is the largest such t. Secants
    with the end that stays put halved (Illinois), which end at once on a line, and a bisection every third time; after
    twelve turns, as where ℓ jumps, bisections alone.
    tolerance: by default 1e-6 in float32, 1e-10 in float64.

    Source: Dowell, Jarratt, "A modified regula falsi method for computing the root of an equation", 1971.
    """
    tolerance = tolerance or (1e-10 if eps.dtype == torch.float64 else 1e-6)
    low, high = torch.zeros_like(eps), torch.ones_like(eps)
    rows = torch.arange(len(eps), device=eps.device)
    below, above = -eps, length(high, rows) - eps
    low = torch.where(above <= 0, high, low)
    side = torch.zeros_like(eps)
    for turn in range(_MOST):
        rows = (high - low > tolerance).nonzero().squeeze(1)
        if not len(rows):
            break
        a, b, f, g = low[rows], high[rows], below[rows], above[rows]
        t = (a * g - b * f) / (g - f) if turn % 3 < 2 and turn < _SECANTS else (a + b) / 2
        t = t.nan_to_num(nan=0.5).maximum(a + tolerance / 2).minimum(b - tolerance / 2)
        found = length(t, rows) - eps[rows]
        inside, before = found <= 0, side[rows]
        low[rows], high[rows] = torch.where(inside, t, a), torch.where(inside, b, t)
        below[rows] = torch.where(inside, found, torch.where(before > 0, f / 2, f))
        above[rows] = torch.where(inside, torch.where(before < 0, g / 2, g), found)
        side[rows] = torch.where(inside, -1.0, 1.0).to(side)
    return low


def steepest(
    g: Float[Tensor, "b *x"],
    forward: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], Tensor],
    solves: int,
    damping: float,
) -> Float[Tensor, "b *x"]:
    """argmax_{‖J d‖₂ ≤ 1} ⟨g, d⟩ = (JᵀJ)⁻¹g/√(gᵀ(JᵀJ)⁻¹g), by conjugate gradients from 0; 0 where g is.

    forward, backward: d -> J d and u -> Jᵀu, row by row. solves: steps. damping: ρ in units of ‖J g‖²/‖g‖², JᵀJ + ρI
    being what is inverted; the result has ‖J d‖₂ = 1, or ‖d‖₂ = 1/√ρ where J hardly sees it.

    Source: Laidlaw, Singla, Feizi, "Perceptual adversarial robustness", 2021, section 4 and appendix A.1; Hestenes,
    Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """
    scale = l2_norm(g)
    g = g / per_row(scale.where(scale > 0, 1), g)
    seen = forward(g)
    stretch = seen.flatten(1).square().sum(1)
    rho = damping * stretch.where(stretch > 0, 1)
    d, left, way = torch.zeros_like(g), g, g
    square = _dot(left, left)
    for turn in range(solves):
        image = backward(seen if turn == 0 else forward(way)) + per_row(rho, way) * way
        curve = _dot(way, image)
        step = torch.where(curve > 0, square / curve.where(curve > 0, 1), 0)
        d, left = d + per_row(step, d) * way, left - per_row(step, d) * image
        after = _dot(left, left)
        way = left + per_row(torch.where(square > 0, after / square.where(square > 0, 1), 0), d) * way
        square = after
    size = l2_norm(forward(d)).maximum(rho.sqrt() * l2_norm(d))
    return torch.where(per_row(size > 0, d), d / per_row(size.where(size > 0, 1), d), 0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
