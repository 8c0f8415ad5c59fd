"""What a denoiser says of ln p(x): exactly by the probability flow, or bounded by the chain of noise levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.formulas.distributions import DiagonalNormal

Points = Float[Tensor, "b *x"]
EXACT_TRACE = 32  # coordinates up to which the trace takes every one of them


def flow_log_prob(
    denoiser: Callable[..., Tensor],
    x: Points,
    sigmas: Sequence[float] | Tensor,
    prior: DiagonalNormal,
    noise: Noise | None = None,
    y: Tensor | None = None,
) -> Float[Tensor, " b"]:
    """ln p_σmin(x), the density blurred by N(0, σ_min²I), by the probability flow dx/d ln σ = x − D(x, σ).

        ln p_σmin(x) = ln prior(x_σmax) + ∫ tr(1 − ∂D/∂x) d ln σ

    sigmas: levels, rising or falling; Runge and Kutta's method of order 4 in ln σ between neighbours. prior: of the
    state at σ_max. noise: of each row, for Hutchinson's estimate vᵀ(∂D/∂x)v with v = ±1; without it the trace is
    exact, at the cost of a backward pass a coordinate. Differentiable. Source: Chen et al., "Neural ordinary
    differential equations", 2018, eq. 8; Song et al., 2021, section 4.3.
    """
    levels = sorted(float(s) for s in sigmas)
    probes = _probes(x, noise)
    graph = torch.is_grad_enabled() and x.requires_grad

    def field(x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            sigma = at.new_full((len(at),), exp(time))
            denoised = denoiser(at, sigma) if y is None else denoiser(at, sigma, y)
            batched = noise is None
            (turned,) = torch.autograd.grad(
                denoised, at, probes, is_grads_batched=batched, create_graph=graph, materialize_grads=True
            )
        inner = (turned * probes).flatten(2 if batched else 1).sum(-1)
        velocity, growth = at - denoised, prod(x.shape[1:]) - (inner.sum(0) if batched else inner)
        return (velocity, growth) if graph else (velocity.detach(), growth.detach())

    gained = x.new_zeros(len(x))
    for s, t in pairwise(levels):
        a, h = log(s), log(t / s)
        k1, g1 = field(x, a)
        k2, g2 = field(x + h / 2 * k1, a + h / 2)
        k3, g3 = field(x + h / 2 * k2, a + h / 2)
        k4, g4 = field(x + h * k3, a + h)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        gained = gained + h / 6 * (g1 + 2 * g2 + 2 * g3 + g4)
    return prior.log_prob(x) + gained


def _probes(x: Tensor, noise: Noise | None) -> Tensor:
    """A random direction with E v vᵀ = 1, (B, *shape), or every one, (d, B, *shape)."""
    if noise is not None:
        return (noise.uniform(x.shape[1:]) < 0.5).to(x) * 2 - 1
    d = prod(x.shape[1:])
    basis = torch.eye(d, dtype=x.dtype, device=x.device).view(d, 1, *x.shape[1:])
    return basis.expand(d, len(x), *x.shape[1:])


def log_prob_bound(
    denoiser: Callable[..., Tensor],
    x: Points,
    sigmas: Sequence[float] | Tensor,
    prior: DiagonalNormal,
    noise: Noise | Callable[[int], Tensor],
    y: Tensor | None = None,
) -> Float[Tensor, " b"]:
    """A lower bound of ln p(x) in expectation, from the chain x ← x_{σ_1} ← … ← x_{σ_T} ~ prior.

        E ln N(x; D(x_1, σ_1), σ_1²I) − Σ_{i>1} ½ (σ_{i−1}⁻² − σ_i⁻²) E‖x − D(x_i, σ_i)‖² − KL(N(x, σ_T²I) ‖ prior)

    one draw of x_i = x + σ_i ε a level. Source: Kingma et al., "Variational diffusion models", 2021, eq. 11-14.
    """
    levels = sorted(float(s) for s in sigmas)
    draw: Any = (lambda i: noise.at(i).normal(x.shape[1:]).to(x)) if isinstance(noise, Noise) else noise
    event = x.ndim - 1

    def denoised(i: int) -> Tensor:
        sigma = x.new_full((len(x),), levels[i])
        given = (x + levels[i] * draw(i), sigma)
        return denoiser(*given) if y is None else denoiser(*given, y)

    scale = lambda sigma: x.new_tensor(log(sigma))  # noqa: E731
    total = DiagonalNormal(denoised(0), scale(levels[0]), event).log_prob(x)
    for i, (s, t) in enumerate(pairwise(levels), 1):
        total = total - 0.5 * (s**-2 - t**-2) * (x - denoised(i)).square().flatten(1).sum(1)
    last = DiagonalNormal(x, scale(levels[-1]).expand_as(x), event)
    return total - last.kl(prior)
