"""How far an activation is from sparse: between mean activations, or as a norm."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-6


def bernoulli_kl(target: float, actual: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """KL(Bernoulli(ρ̂) ‖ Bernoulli(ρ)) = ρ̂ ln(ρ̂/ρ) + (1 − ρ̂) ln((1 − ρ̂)/(1 − ρ)), ρ in [0, 1].

    ρ is kept 10⁻⁶ from 0 and 1. Source: Ng, "Sparse autoencoder", CS294A lecture notes, 2011, section 3.
    """
    rho = actual.clamp(TINY, 1 - TINY)
    entropy = sum(p * log(p) for p in (target, 1 - target) if p > 0)
    return entropy - target * rho.log() - (1 - target) * torch.log1p(-rho)


def squared_gap(target: float, actual: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(ρ̂ − ρ)²."""
    return (target - actual).square()


def absolute_gap(target: float, actual: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """|ρ̂ − ρ|."""
    return (target - actual).abs()


GAPS: dict[str, Callable[[float, Tensor], Tensor]] = {
    "kl": bernoulli_kl,
    "l2": squared_gap,
    "l1": absolute_gap,
}
NORMS: dict[str, int] = {"l1-norm": 1, "l2-norm": 2}


def penalty(
    activations: Float[Tensor, "b n"], kind: str, target: float, over: str = "batch"
) -> Float[Tensor, ""] | Float[Tensor, " b"]:
    """One layer's share of Σ_k w_k s(ρ̂_k, ρ_k), or its norm ‖h‖ of each sample.

    over `batch`: ρ_j is neuron j's mean over the rows, and s is summed over neurons, (); over `sample`: ρ(x) is
    the mean over the neurons of a row, (b,). Norms are per sample, (b,).
    """
    if kind in NORMS:
        return torch.linalg.vector_norm(activations, NORMS[kind], dim=1)
    gap = GAPS[kind]
    if over == "batch":
        return gap(target, activations.mean(0)).sum()
    return gap(target, activations.mean(1))
