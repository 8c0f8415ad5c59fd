"""Equal isotropic modes, N(μ_k, σ²I) with weight 1/K each: which of them points reach, and how points are shared."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from psiphi.formulas.kernels import squared_distances
from psiphi.formulas.mixtures import Categorical

WIDTHS = 3.0


def ceiling(dimension: int, widths: float = WIDTHS) -> float:
    """P(‖ε‖ ≤ w) for ε ~ N(0, I_d), the distribution function of χ²_d at w²: 1 − e^{−w²/2} in the plane.

    The share of a mode's own mass within w of its σ, so the largest share that a sampler can honestly have.
    """
    from scipy.special import gammainc

    return float(gammainc(dimension / 2, widths**2 / 2))


def target_mass(modes: int, dimension: int, widths: float = WIDTHS) -> Float[Tensor, " bins"]:
    """(c/K, …, c/K, 1 − c), c the ceiling: the mass of each mode's ball, and of all that lies in none; (K + 1,)."""
    from scipy.special import gammaincc

    inside = ceiling(dimension, widths)
    off = float(gammaincc(dimension / 2, widths**2 / 2))
    return torch.tensor([inside / modes] * modes + [off], dtype=torch.float64)


def reached(
    x: Float[Tensor, "n d"], means: Float[Tensor, "k d"], sigma: float, widths: float = WIDTHS
) -> Bool[Tensor, " k"]:
    """The modes with at least one point within w·σ of their mean.

    Source: Lin, Khetan, Fanti, Oh, "PacGAN: the power of two samples in generative adversarial networks", 2018,
    section 4.1, at w = 3.
    """
    return squared_distances(means, x).amin(1) <= (widths * sigma) ** 2


def occupancy(
    x: Float[Tensor, "n d"], means: Float[Tensor, "k d"], sigma: float, widths: float = WIDTHS
) -> Int[Tensor, " bins"]:
    """Points of each mode, those that are nearest to it and within w·σ; last, the points off every mode: (K + 1,)."""
    squares, nearest = squared_distances(x, means).min(1)
    bins = torch.where(squares <= (widths * sigma) ** 2, nearest, len(means))
    return torch.bincount(bins, minlength=len(means) + 1)


def bin_kl(p: Float[Tensor, " bins"], q: Float[Tensor, " bins"]) -> float:
    """KL(p ‖ q) = Σ_b p_b ln(p_b/q_b) in nats, 0 ln 0 = 0; +inf where p has mass and q none."""
    return float(Categorical(p.log()).kl(Categorical(q.log())))


def separation(means: Float[Tensor, "k d"]) -> float:
    """The least distance of two means; infinity of a single one."""
    squares = squared_distances(means, means)
    squares.fill_diagonal_(float("inf"))
    return float(squares.amin().clamp(min=0).sqrt())
