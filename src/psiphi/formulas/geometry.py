"""Balls in a box: norms, exact projections, steepest directions, uniform draws.

`x` is the ball's centre and lies in the box, `v` is a point; `eps` is a radius, a scalar or (b,).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row

_PUSH = 1e4  # of a coordinate at the wall, at most: keeps squares finite in any dtype
Radius = float | Float[Tensor, " b"]


class Box(NamedTuple):
    """The values that data may take: lo ≤ x ≤ hi, the same in every coordinate."""

    lo: float = 0.0
    hi: float = 1.0


def linf_norm(delta: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    """‖δ‖_∞ = max_i |δ_i|, a row."""
    return delta.flatten(1).abs().amax(1)


def l2_norm(delta: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    """‖δ‖₂ = √Σ δ_i², a row; scaled by the largest |δ_i|, so that tiny gradients do not underflow."""
    flat = delta.flatten(1)
    scale = flat.abs().amax(1, keepdim=True)
    return (scale * (flat / scale.where(scale > 0, 1)).norm(dim=1, keepdim=True)).squeeze(1)


def linf_project(
    v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"], eps: Radius, box: Box
) -> Float[Tensor, "b *x"]:
    """Nearest point to `v` of {u : ‖u − x‖_∞ ≤ ε} ∩ box: a clamp, coordinate by coordinate."""
    eps = per_row(eps, x)
    return v.clamp(min=(x - eps).clamp_(min=box.lo)).clamp_(max=(x + eps).clamp_(max=box.hi))


def l2_project(
    v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"], eps: Radius, box: Box
) -> Float[Tensor, "b *x"]:
    """Nearest point to `v` of {u : ‖u − x‖₂ ≤ ε} ∩ box.

    u − x = clip((v − x)/(1 + μ), lo − x, hi − x), with the smallest μ ≥ 0 for which it fits in the ball.

    The conditions of Karush, Kuhn and Tucker of this convex problem (Boyd, Vandenberghe, "Convex
    optimization", 2004, section 5.5.3). Clipping after an ordinary projection onto the ball is not
    the nearest point; where it clips nothing it is, and those rows take that road.
    """
    delta = (v - x).flatten(1)
    low, high = box.lo - x.flatten(1), box.hi - x.flatten(1)
    eps = torch.as_tensor(eps, dtype=x.dtype, device=x.device).expand(len(x)).unsqueeze(1)
    clipped = delta.clamp(low, high)
    outside = clipped.norm(dim=1, keepdim=True) > eps
    shrunk = delta * (eps / delta.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny))
    hard = outside.squeeze(1) & ~((shrunk >= low) & (shrunk <= high)).all(1)
    nearest = torch.where(outside, shrunk, clipped)
    if hard.any():
        scale = _shrink_factor(delta[hard], low[hard], high[hard], eps[hard])
        nearest[hard] = (delta[hard] * scale).clamp(low[hard], high[hard])
    return (x + nearest.view_as(x)).clamp_(box.lo, box.hi)


def _shrink_factor(delta: Tensor, low: Tensor, high: Tensor, eps: Tensor) -> Tensor:
    """The s = 1/(1 + μ) with Σ min(s|δ_i|, w_i)² = ε², w_i the distance to the wall ahead; (b, 1).

    Coordinate i meets its wall at s = w_i/|δ_i|. In the order of these, with k coordinates at the
    wall, Σ_{i≤k} w_i² + s² Σ_{i>k} δ_i² = ε²: the largest k whose own breakpoint fits gives s.
    """
    size = delta.abs()
    wall = torch.where(delta > 0, high, -low)
    meets, order = torch.where(size > 0, wall / size, torch.inf).sort(dim=1)
    size, wall = size.gather(1, order), wall.gather(1, order)
    at_wall = torch.nn.functional.pad(wall.square().cumsum(1), (1, 0))
    free = torch.nn.functional.pad(size.square().flip(1).cumsum(1).flip(1), (0, 1))
    fits = at_wall[:, :-1] + meets.where(meets.isfinite(), 0).square() * free[:, :-1] <= eps.square()
    k = (fits & meets.isfinite()).sum(1, keepdim=True)
    left = (eps.square() - at_wall.gather(1, k)).clamp_min(0)
    return (left / free.gather(1, k).clamp_min(torch.finfo(delta.dtype).tiny)).sqrt().clamp_max(1)


def blocked(g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box) -> Bool[Tensor, "b *x"]:
    """Coordinates at a wall of the box that a step along `g` would cross."""
    return ((v >= box.hi) & (g > 0)) | ((v <= box.lo) & (g < 0))


def linf_steepest(g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box) -> Float[Tensor, "b *x"]:
    """argmax_{‖d‖_∞ ≤ 1} ⟨g, d⟩ = sign g, 0 where a wall is in the way."""
    return g.sign().masked_fill_(blocked(g, v, box), 0)


def l2_steepest(g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box) -> Float[Tensor, "b *x"]:
    """argmax_{‖d‖₂ ≤ 1} ⟨g, d⟩ = g/‖g‖₂ over the coordinates that can move; 0 where none can.

    Coordinates at a wall spend nothing of the length, but keep their share of g: the projection that
    follows stops them at the wall, and without this push it would draw them off it again, so that
    ascent would not come to rest at the optimum.
    """
    length = per_row(l2_norm(g.masked_fill(blocked(g, v, box), 0)), g)
    return torch.where(length > 0, g / length.where(length > 0, 1), 0).clamp_(-_PUSH, _PUSH)


def linf_uniform(noise: Noise, shape: tuple[int, ...], eps: Radius) -> Float[Tensor, "b *x"]:
    """Uniform draws from {δ : ‖δ‖_∞ ≤ ε}, one for each row of the noise."""
    draw = noise.uniform(shape)
    return (2 * draw - 1) * per_row(eps, draw)


def l2_uniform(noise: Noise, shape: tuple[int, ...], eps: Radius) -> Float[Tensor, "b *x"]:
    """Uniform draws from {δ : ‖δ‖₂ ≤ ε}: δ = ε u^{1/d} ξ/‖ξ‖₂, ξ ~ N(0, I), u ~ U(0, 1)."""
    xi = noise.split("direction").normal(shape)
    radius = noise.split("radius").uniform() ** (1 / prod(shape))
    return xi * per_row(radius * eps / l2_norm(xi), xi)
