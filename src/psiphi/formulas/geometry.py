"""Balls in a box: norms, steepest directions, uniform draws; `eps` is a radius, a scalar or (b,)."""

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
    """The values that data may take: lo ≤ x ≤ hi; numbers, or tensors that broadcast over x (b, C, ...).

    Bounds of each channel have the shape (C, 1, 1) or (1, C, 1, 1).
    """

    lo: float | Tensor = 0.0
    hi: float | Tensor = 1.0

    def like(self, x: Tensor) -> Box:
        """The box in the dtype and on the device of `x`."""
        return Box(*(bound.to(x) if isinstance(bound, Tensor) else bound for bound in self))

    def clamp(self, v: Tensor) -> Tensor:
        """The nearest point of the box."""
        lo, hi = self.like(v)
        return v.clamp(min=lo).clamp_(max=hi)

    def ahead(self, delta: Tensor, x: Tensor) -> Tensor:
        """How far it is from `x`, a point of the box, to the wall in the direction of δ (b, d); 0 where δ_i = 0."""
        lo, hi = self.like(x)
        far = delta.sign() * torch.finfo(x.dtype).max
        return far.clamp(min=(lo - x).flatten(1)).clamp_(max=(hi - x).flatten(1)).abs_()


def l1_norm(delta: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    """‖δ‖₁ = Σ |δ_i|, a row."""
    return delta.flatten(1).abs().sum(1)


def linf_norm(delta: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    """‖δ‖_∞ = max_i |δ_i|, a row."""
    return delta.flatten(1).abs().amax(1)


def l2_norm(delta: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    """‖δ‖₂ = √Σ δ_i², a row; scaled by the largest |δ_i|, so that tiny gradients do not underflow."""
    flat = delta.flatten(1)
    scale = flat.abs().amax(1, keepdim=True)
    return (scale * (flat / scale.where(scale > 0, 1)).norm(dim=1, keepdim=True)).squeeze(1)


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


def l1_steepest(g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box) -> Float[Tensor, "b *x"]:
    """argmax_{‖d‖₁ ≤ 1} ⟨g, d⟩: all on the largest |g_i| that can move, the first of equals; 0 where none can.

    Coordinates at a wall with at least that |g_i| push outward by 2: the projection that follows draws
    all others back by up to the length of the step, and without this push it would draw these off the
    wall again, so that ascent would not come to rest at the optimum, which fills coordinates to the wall
    in falling |g_i|.
    """
    flat, stuck = g.flatten(1), blocked(g, v, box).flatten(1)
    size = flat.abs()
    best = size.masked_fill(stuck, 0).max(1, keepdim=True)
    share = 2 * (stuck & (size >= best.values)).to(g.dtype)
    share.scatter_(1, best.indices, 1).masked_fill_(best.values == 0, 0)
    return (flat.sign() * share).view_as(g)


def linf_uniform(noise: Noise, shape: tuple[int, ...], eps: Radius) -> Float[Tensor, "b *x"]:
    """Uniform draws from {δ : ‖δ‖_∞ ≤ ε}, one for each row of the noise."""
    draw = noise.uniform(shape)
    return (2 * draw - 1) * per_row(eps, draw)


def l2_uniform(noise: Noise, shape: tuple[int, ...], eps: Radius) -> Float[Tensor, "b *x"]:
    """Uniform draws from {δ : ‖δ‖₂ ≤ ε}: δ = ε u^{1/d} ξ/‖ξ‖₂, ξ ~ N(0, I), u ~ U(0, 1)."""
    xi = noise.split("direction").normal(shape)
    radius = noise.split("radius").uniform() ** (1 / prod(shape))
    return xi * per_row(radius * eps / l2_norm(xi), xi)


def l1_uniform(noise: Noise, shape: tuple[int, ...], eps: Radius) -> Float[Tensor, "b *x"]:
    """Uniform draws from {δ : ‖δ‖₁ ≤ ε}: δ = ε u^{1/d} ξ/‖ξ‖₁, ξ_i ~ Laplace(0, 1), u ~ U(0, 1)."""
    draw = 2 * noise.split("direction").uniform(shape) - 1
    xi = -draw.sign() * (1 - draw.abs()).clamp_min(torch.finfo(draw.dtype).eps / 4).log()
    radius = noise.split("radius").uniform() ** (1 / prod(shape))
    length = l1_norm(xi)
    return xi * per_row(radius * eps / length.where(length > 0, 1), xi)
