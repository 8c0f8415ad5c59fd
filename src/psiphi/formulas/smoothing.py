"""Randomised smoothing: g(x) = argmax_c P(f(x + σξ) = c), ξ ~ N(0, I), and how far its answer is certain."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def radius(p: Float[Tensor, "*b"], sigma: float) -> Float[Tensor, "*b"]:
    """R = σ Φ⁻¹(p), 0 where p ≤ ½: p is at most P(f(x + σξ) = c), and g = c wherever ‖δ‖₂ < R.

    Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019, theorem 1
    with the bound 1 − p on every other class.
    """
    return sigma * torch.special.ndtri(p.double()).clamp_min(0)


def two_sided(first: Int[Tensor, "*b"], second: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The p-value of equal chances, of `first` ≥ `second` hits: min(1, 2 P(Bin(N, ½) ≥ first)), N = first + second.

    Source: Hung, Fithian, "Rank verification for exponential families", 2019, which shows that the two most frequent
    of several classes may be picked by the same draws.
    """
    from scipy.special import betainc

    total, most = (first + second).cpu().numpy(), first.cpu().numpy()
    tail = betainc(most.clip(1), total - most + 1, 0.5)
    return torch.from_numpy((2 * tail).clip(max=1.0)).where(first.cpu() > 0, 1.0)
