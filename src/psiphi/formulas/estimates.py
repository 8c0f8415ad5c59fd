"""Gradients from scores alone: differences of a score at v + σu and v − σu, u random."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Counted
from psiphi.formulas.geometry import Box

_FAR = 12.0  # of standard deviations: what is beyond has a share of 10⁻³³


def _rademacher(draws: Counted, shape: tuple[int, ...]) -> Tensor:
    draw = draws.uniform(shape)
    return torch.where(draw < 0.5, -1.0, 1.0).to(draw)


def _gaussian_square(near: Tensor, far: Tensor) -> Tensor:
    """E[(min(|u|, a) + min(|u|, b))²] of a standard normal u, a ≤ b: an integral over |u| < a, a..b and beyond b."""
    near, far = near.clamp_max(_FAR), far.clamp_max(_FAR)

    def density(t: Tensor) -> Tensor:
        return torch.exp(-(t**2) / 2) / (2 * pi) ** 0.5

    def second(t: Tensor) -> Tensor:
        """∫_0^t u² φ(u) du."""
        return torch.special.ndtr(t) - 0.5 - t * density(t)

    between = torch.special.ndtr(far) - torch.special.ndtr(near)
    middle = near**2 * between + 2 * near * (density(near) - density(far)) + second(far) - second(near)
    return 2 * (4 * second(near) + middle + (near + far) ** 2 * torch.special.ndtr(-far))


def _rademacher_square(near: Tensor, far: Tensor) -> Tensor:
    """(min(1, a) + min(1, b))²."""
    return (near.clamp_max(1) + far.clamp_max(1)) ** 2


_KINDS: dict[str, tuple[Callable[[Counted, tuple[int, ...]], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "gaussian": (Counted.normal, _gaussian_square),
    "rademacher": (_rademacher, _rademacher_square),
}


def check_kind(kind: str) -> None:
    if kind not in _KINDS:
        raise ArgumentError(f"kind is {' or '.join(map(repr, _KINDS))}; got {kind!r}.")


def directions(draws: Counted, shape: tuple[int, ...], kind: str) -> Float[Tensor, "n *x"]:
    """u ~ N(0, I), or u_i = ±1 with probability ½ each: E[u uᵀ] = I."""
    return _KINDS[kind][0](draws, shape)


def pair(
    v: Float[Tensor, "n *x"], u: Float[Tensor, "n *x"], sigma: float, box: Box
) -> tuple[Float[Tensor, "n *x"], Float[Tensor, "n *x"]]:
    """v + σu and v − σu, each stopped at the walls of the box."""
    return box.clamp(v + sigma * u), box.clamp(v - sigma * u)


def square(v: Float[Tensor, "b *x"], sigma: float, box: Box, kind: str) -> Float[Tensor, "b *x"]:
    """E[D²], D = v⁺ − v⁻ the difference of a `pair`: 4σ² where no wall is near, σ² at a Gaussian's wall.

    Of D odd in u_i and the u_i independent, E[D_i D_j] = 0 for i ≠ j; so E[(s(v⁺) − s(v⁻)) D_i]/E[D_i²] = ∂s/∂v_i for
    a linear score at the walls too. Without walls it is the usual estimate (s(v⁺) − s(v⁻)) u/(2σ), and unbiased
    for a quadratic score at any σ.
    """
    lo, hi = box.like(v)
    below, above = (v - lo).clamp_min(0).double() / sigma, (hi - v).clamp_min(0).double() / sigma
    value = _KINDS[kind][1](torch.minimum(below, above), torch.maximum(below, above))
    return (sigma**2 * value).to(v)
