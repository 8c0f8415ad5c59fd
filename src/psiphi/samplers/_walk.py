"""The one loop that runs every sampler."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.samplers._plan import Plan

Points = Float[Tensor, "b *x"]
MOST, NUMBERS = 16, 1 << 14  # rows of a plan whose noise is drawn at once, and numbers a sample


class Denoiser(Protocol):
    """D(x, σ, y) ≈ E[x₀ | x₀ + σ ε = x]: x (B, *shape), σ (B,), y (B,) labels or None -> (B, *shape)."""

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor: ...


def walk(
    plan: Plan,
    denoiser: Denoiser | Callable[..., Tensor],
    x: Points,
    noise: Noise,
    y: Tensor | None = None,
    *,
    watch: Callable[[int, Tensor], Any] | None = None,
) -> Points:
    """Run a plan from x: x <- base·b + Σ_k d[k]·D_k + up·ξ, row by row.

    noise: of the rows of x, so that no row depends on another; what row i of the plan draws: `draws`.
    watch: called with (row, x) after every row, for trajectories. Where x needs a gradient, the evaluations are
    checkpointed: memory holds one at a time. A plan of draws asks `denoiser.draw(x, sigma, noise)`.
    """
    if len(noise) != len(x):
        raise ArgumentError(f"{len(x)} points need noise of as many rows; got {len(noise)}.")
    ask = _drawing(denoiser) if plan.drawn else _mean(denoiser, y)
    committed, seen = x, deque[Tensor](maxlen=max(1, plan.memory))
    xi = draws(noise, x.shape[1:])
    for i, row in enumerate(plan):
        if row.d:
            sigma = x.new_full((len(x),), row.sigma)
            seen.appendleft(ask(x, sigma, noise.at(i).split("draw")))
        x = row.base * committed if row.base else torch.zeros_like(committed)
        for weight, denoised in zip(row.d, seen):
            if weight:
                x = torch.add(x, denoised, alpha=weight)
        if row.up:
            x = torch.add(x, xi(i).to(x), alpha=row.up)
        if row.commit:
            committed = x
        if watch is not None:
            watch(i, x)
    return x


def draws(noise: Noise, shape: Sequence[int]) -> Callable[[int], Tensor]:
    """ξ of row i of a plan, (B, *shape), drawn for several rows at once: to seed a generator costs as much as to draw.

    For how many depends on the shape of a sample alone, so that a sample is the same in any batch.
    """
    many = max(1, min(MOST, NUMBERS // max(1, prod(shape))))
    held: dict[int, Tensor] = {}

    def xi(i: int) -> Tensor:
        block, place = divmod(i, many)
        if block not in held:
            held.clear()
            held[block] = noise.at(block).normal((many, *shape))
        return held[block][:, place]

    return xi


def _mean(denoiser: Any, y: Tensor | None) -> Callable[[Tensor, Tensor, Noise], Tensor]:
    def ask(x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        given = (x, sigma) if y is None else (x, sigma, y)
        if torch.is_grad_enabled() and x.requires_grad:
            return checkpoint(denoiser, *given, use_reentrant=False, preserve_rng_state=False)
        return denoiser(*given)

    return ask


def _drawing(denoiser: Any) -> Callable[[Tensor, Tensor, Noise], Tensor]:
    draw = getattr(denoiser, "draw", None)
    if draw is None:
        raise ArgumentError(
            f"{type(denoiser).__name__} has no `draw(x, sigma, noise)` from p(x₀|x), which an exact walk needs: use "
            f"the mean walk."
        )
    return draw


def trajectory(
    plan: Plan,
    denoiser: Denoiser | Callable[..., Tensor],
    x: Points,
    noise: Noise,
    y: Tensor | None = None,
    every: int = 1,
) -> Float[Tensor, "t b *x"]:
    """The start, then x after every `every`-th row that commits, and after the last: (t, B, *shape)."""
    if every < 1:
        raise ArgumentError(f"states are kept every so many rows, at least 1; got every={every!r}.")
    states, commits = [x], [i for i, row in enumerate(plan) if row.commit]
    kept = {*commits[every - 1 :: every], len(plan) - 1}

    def keep(i: int, x: Tensor) -> None:
        if i in kept:
            states.append(x)

    walk(plan, denoiser, x, noise, y, watch=keep)
    return torch.stack(states)
