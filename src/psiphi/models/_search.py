"""Search in the code: the point of a generator's or a decoder's range that is nearest to x."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

DECAY_MEAN, DECAY_SQUARE, TINY = 0.9, 0.99, 1e-8


class Nearest(NamedTuple):
    """code: z* (B, d); point: ψ(z*) (B, *shape); distance: ‖ψ(z*) − x‖² (B,)."""

    code: Tensor
    point: Tensor
    distance: Tensor


def nearest_code(
    decode: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b *x"],
    draws: Float[Tensor, "m d"] | Float[Tensor, "b m d"],
    *,
    free: int | None = None,
    steps: int = 200,
    restarts: int = 4,
    lr: float = 0.1,
) -> Nearest:
    """z* = argmin over z of ‖ψ(z) − x‖², each row on its own, by Adam with a rate that falls to 0.

    decode: ψ, (n, d) -> (n, *shape), row by row; draws: codes z ~ p(z), for all rows or of each: a row starts from the
    `restarts` of them whose ψ(z) are nearest, and keeps its best end; free: how many numbers of a code move, all unless
    given (a label, which comes last, stays). Where x needs a gradient, it flows through every step of the best start's
    search, checkpointed: memory holds one step. Source: Samangouei, Kabkab, Chellappa, "Defense-GAN: protecting
    classifiers against adversarial attacks using generative models", 2018, section 4.
    """
    free = draws.shape[-1] if free is None else free
    with torch.no_grad():
        seen = x.detach()
        starts = _nearest_draws(decode, seen, draws, restarts)
        tries = starts.shape[1]
        targets = seen.repeat_interleave(tries, 0)
        ends = _descend(decode, starts.flatten(0, 1), targets, free, steps, lr)
        gaps = _squared(decode(ends), targets).view(len(x), tries)
        best = torch.arange(len(x), device=x.device) * tries + gaps.argmin(1)
        code = ends[best]
    if torch.is_grad_enabled() and x.requires_grad:
        code = _descend(decode, starts.flatten(0, 1)[best], x, free, steps, lr)
    point = decode(code)
    return Nearest(code, point, _squared(point, x))


def _nearest_draws(decode: Callable[[Tensor], Tensor], x: Tensor, draws: Tensor, restarts: int) -> Tensor:
    """The draws whose ψ(z) are nearest to each row: (B, R, d)."""
    if draws.ndim == 3:
        own = [_nearest_draws(decode, row[None], mine, restarts) for row, mine in zip(x, draws)]
        return torch.cat(own) if own else draws[:, :restarts]
    images = decode(draws).flatten(1)
    apart = torch.cdist(x.flatten(1), images, compute_mode="donot_use_mm_for_euclid_dist")
    return draws[apart.topk(min(restarts, len(draws)), 1, largest=False).indices]


def _descend(
    decode: Callable[[Tensor], Tensor], start: Tensor, x: Tensor, free: int, steps: int, lr: float
) -> Tensor:
    """`steps` of Adam from `start`, elementwise, so that no row depends on another; differentiable in x if wanted."""
    unrolled = torch.is_grad_enabled() and x.requires_grad
    z, fixed = start.tensor_split((free,), 1)
    mean = square = torch.zeros_like(z)

    def step(z: Tensor, mean: Tensor, square: Tensor, x: Tensor, t: int) -> tuple[Tensor, ...]:
        slope = _slope(lambda z: _squared(decode(torch.cat([z, fixed], 1)), x), z, unrolled)
        mean = DECAY_MEAN * mean + (1 - DECAY_MEAN) * slope
        square = DECAY_SQUARE * square + (1 - DECAY_SQUARE) * slope.square()
        rate = lr * (1 + cos(pi * t / steps)) / 2 / (1 - DECAY_MEAN ** (t + 1))
        spread = (square / (1 - DECAY_SQUARE ** (t + 1)) + TINY**2).sqrt()
        return z - rate * mean / spread, mean, square

    for t in range(steps):
        if unrolled:
            z, mean, square = checkpoint(
                step, z, mean, square, x, t, use_reentrant=False, preserve_rng_state=False
            )  # pyright: ignore[reportGeneralTypeIssues]
        else:
            z, mean, square = step(z, mean, square, x, t)
    return torch.cat([z, fixed], 1)


def _slope(loss: Callable[[Tensor], Tensor], z: Tensor, keep: bool) -> Tensor:
    """∂ loss/∂z of each row; keep: as a function of z and x that can be differentiated again."""
    with torch.enable_grad():
        at = z if keep and z.requires_grad else z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(at).sum(), at, create_graph=keep)
    return slope


def _squared(found: Tensor, x: Tensor) -> Tensor:
    return (found - x).square().flatten(1).sum(1)
