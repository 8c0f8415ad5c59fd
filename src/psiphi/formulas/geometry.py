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


def linf_steepest(
    g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box, length: Radius | None = None
) -> Float[Tensor, "b *x"]:
    """argmax_{‖d‖_∞ ≤ 1} ⟨g, d⟩ = sign g, 0 where a wall is in the way."""
    return g.sign().masked_fill_(blocked(g, v, box), 0)


def l2_steepest(
    g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box, length: Radius | None = None
) -> Float[Tensor, "b *x"]:
    """argmax_{‖d‖₂ ≤ 1} ⟨g, d⟩ = g/‖g‖₂ over the coordinates that can move; 0 where none can.

    Coordinates at a wall spend nothing of the length, but keep their share of g: the projection that
    follows stops them at the wall, and without this push it would draw them off it again, so that
    ascent would not come to rest at the optimum.
    """
    length = per_row(l2_norm(g.masked_fill(blocked(g, v, box), 0)), g)
    return torch.where(length > 0, g / length.where(length > 0, 1), 0).clamp_(-_PUSH, _PUSH)


def l1_steepest(
    g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box, length: Radius | None = None
) -> Float[Tensor, "b *x"]:
    """argmax_{‖d‖₁ ≤ 1} ⟨g, d⟩: all on the largest |g_i| that can move, the first of equals; 0 where none can.

    Given the `length` of the step to come, argmax of ⟨g, d⟩ with v + length·d in the box too: what is left at a
    wall is spent on the next |g_i|. One coordinate a step would need as many steps as there are coordinates in
    the optimum, which fills them to the wall in falling |g_i|.

    Coordinates at a wall with at least that |g_i| push outward by 2, and those filled by 2 for each one filled
    after them: the projection that follows takes up to `length` from what does not, the last first, and would
    draw these off the wall again, so that ascent would not come to rest at the optimum.
    """
    flat = g.flatten(1)
    size, room = flat.abs(), box.ahead(flat, v)
    if length is None:
        best = (size * (room > 0)).max(1, keepdim=True)
        share = 2.0 * ((room <= 0) & (size >= best.values))
        return (flat.sign() * share.scatter_(1, best.indices, 1) * (best.values > 0)).view_as(g)
    total = torch.as_tensor(length, dtype=g.dtype, device=g.device).expand(len(g)).unsqueeze(1)
    size, order = size.sort(dim=1, descending=True, stable=True)
    room = room.gather(1, order)
    spent = (total - (room.cumsum(1) - room)).clamp_min(0).minimum(room)
    moved = spent > 0
    later = moved.sum(1, keepdim=True) - moved.cumsum(1)
    share = spent / total.clamp_min(torch.finfo(g.dtype).tiny) + 2 * later
    return (flat.sign() * torch.empty_like(share).scatter_(1, order, share)).view_as(g)


def l1_sparse(
    g: Float[Tensor, "b *x"], v: Float[Tensor, "b *x"], box: Box, share: Radius
) -> Float[Tensor, "b *x"]:
    """d = e/‖e‖₁, e_i = sign g_i at the ⌊share·d⌋ largest |g_i|, at least one, and 0 elsewhere.

    Coordinates at a wall count into the share and do not move; where all of them are there, the largest |g_i|
    that can move does. Those with at least that |g_i| push outward, as in `l1_steepest`.

    Source: Tramèr, Boneh, "Adversarial training and robustness for multiple perturbations", 2019, section 4.2.
    """
    flat, stuck = g.flatten(1), blocked(g, v, box).flatten(1)
    size = flat.abs()
    d = size.shape[1]
    count = torch.as_tensor(share, device=g.device) * d * (1 + 1e-6)
    count = count.long().clamp(1, d).expand(len(g)).unsqueeze(1)
    largest = size.topk(int(count.amax()) if len(g) else 1, dim=1).values.gather(1, count - 1)
    free = size.masked_fill(stuck, 0)
    best = free.amax(1, keepdim=True)
    moves = (free >= largest.minimum(best).clamp_min_(torch.finfo(g.dtype).tiny)).to(g.dtype)
    moves /= moves.sum(1, keepdim=True).clamp_min_(1)
    moves += 2 * (stuck & (size >= best.where(best > 0, torch.inf)))
    return moves.mul_(flat.sign()).view_as(g)


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
