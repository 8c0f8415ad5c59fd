"""One denoiser, many names: what D(x, σ) = E[x₀ | x₀ + σ ε = x] is as noise, score, velocity or network output.

All in variance-exploding coordinates x = x₀ + σ ε. A variance-preserving process √ᾱ x₀ + √(1−ᾱ) ε is the same
one divided by √ᾱ, with σ² = (1−ᾱ)/ᾱ; a rectified flow (1−t) x₀ + t ε the same divided by 1 − t, σ = t/(1−t).
σ is a number or (B,), one a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.calculus import input_gradient, per_row

Rows = Float[Tensor, "b *x"]
Sigma = float | Float[Tensor, " b"]


def score_of(x: Rows, denoised: Rows, sigma: Sigma) -> Rows:
    """∇ ln p_σ(x) = (D − x)/σ², p_σ the data's density blurred by N(0, σ²I).

    Source: Efron, "Tweedie's formula and selection bias", 2011, eq. 1.4; of a denoising autoencoder: Alain & Bengio,
    "What regularized auto-encoders learn from the data-generating distribution", 2014, theorem 1.
    """
    return (denoised - x) / per_row(sigma, x) ** 2


def of_score(x: Rows, score: Rows, sigma: Sigma) -> Rows:
    """D = x + σ² ∇ ln p_σ(x)."""
    return x + per_row(sigma, x) ** 2 * score


def noise_of(x: Rows, denoised: Rows, sigma: Sigma) -> Rows:
    """E[ε | x] = (x − D)/σ. Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, eq. 15."""
    return (x - denoised) / per_row(sigma, x)


def of_noise(x: Rows, noise: Rows, sigma: Sigma) -> Rows:
    """D = x − σ E[ε | x]."""
    return x - per_row(sigma, x) * noise


def velocity_of(x: Rows, denoised: Rows, sigma: Sigma) -> Rows:
    """E[ε − x₀ | x] = (x − D)/σ − D, the velocity of the rectified flow.

    Source: Liu, Gong, Liu, "Flow straight and fast", 2023, eq. 1.
    """
    return (x - denoised) / per_row(sigma, x) - denoised


def of_velocity(x: Rows, velocity: Rows, sigma: Sigma) -> Rows:
    """D = (x − σ v)/(1 + σ)."""
    sigma = per_row(sigma, x)
    return (x - sigma * velocity) / (1 + sigma)


def of_energy(energy: Callable[[Tensor], Tensor], x: Rows, sigma: Sigma) -> Rows:
    """D = x − σ² ∇E(x), where E = −ln p_σ up to a constant: (B, *x) -> (B,)."""
    return of_score(x, -input_gradient(energy, x), sigma)


def path_energy(
    score: Callable[[Tensor], Tensor], x: Rows, origin: Rows, nodes: int = 32
) -> Float[Tensor, " b"]:
    """E(x) − E(origin) = −∫₀¹ (x − o)·s(o + t(x − o)) dt, (B,), by Gauss and Legendre's rule.

    −ln p(x) up to a constant where s is the gradient of a function; else the value depends on the path, see `curl`.
    """
    import numpy as np

    places, weights = np.polynomial.legendre.leggauss(nodes)
    along = x - origin
    total = x.new_zeros(len(x))
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        total = total - float(weight) * (along * score(origin + float(place) * along)).flatten(1).sum(1)
    return total


def curl(jacobian: Float[Tensor, "b d d"]) -> Float[Tensor, " b"]:
    """‖J − Jᵀ‖_F / ‖J + Jᵀ‖_F: 0 where a field is a gradient, so that an energy exists."""
    turned = jacobian.transpose(1, 2)
    return (jacobian - turned).flatten(1).norm(dim=1) / (jacobian + turned).flatten(1).norm(dim=1)


# ------------------------------------------------------------------------------------ what a network gives
@dataclass(frozen=True)
class Parametrisation:
    """How a network's output F is read: D = c_skip(σ) x + c_out(σ) F(c_in(σ) x, σ).

    x is centred and in units of the data's σ. c_in gives the network inputs of variance 1.
    """

    name: str
    skip: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]

    @staticmethod
    def scale_in(sigma: Tensor) -> Tensor:
        """c_in = 1/√(1 + σ²); √ᾱ of a variance-preserving process."""
        return (1 + sigma**2).rsqrt()

    def denoised(self, x: Rows, output: Rows, sigma: Float[Tensor, " b"]) -> Rows:
        """D of the network's output F."""
        return per_row(self.skip(sigma), x) * x + per_row(self.out(sigma), x) * output

    def output(self, x: Rows, denoised: Rows, sigma: Float[Tensor, " b"]) -> Rows:
        """F that gives D."""
        return (denoised - per_row(self.skip(sigma), x) * x) / per_row(self.out(sigma), x)

    def __repr__(self) -> str:
        return self.name


PARAMETRISATIONS = {
    each.name: each
    for each in (
        Parametrisation("denoised", torch.zeros_like, torch.ones_like),
        Parametrisation("noise", torch.ones_like, lambda s: -s),
        Parametrisation("score", torch.ones_like, lambda s: s),  # F = σ ∇ ln p_σ
        Parametrisation("flow", lambda s: 1 / (1 + s), lambda s: -s / (1 + s)),
        Parametrisation("velocity", lambda s: 1 / (1 + s**2), lambda s: -s * (1 + s**2).rsqrt()),
        Parametrisation("edm", lambda s: 1 / (1 + s**2), lambda s: s * (1 + s**2).rsqrt()),
    )
}
"""F by name: `denoised` D itself; `noise` ε (Ho et al., 2020); `score` σ ∇ ln p (Song & Ermon, "Generative modeling
by estimating gradients of the data distribution", 2019); `flow` ε − x₀ (Liu et al., 2023); `velocity` √ᾱ ε − √(1−ᾱ) x₀
(Salimans & Ho, "Progressive distillation", 2022, section 4); `edm`: output of variance 1 (Karras et al., "Elucidating
the design space of diffusion-based generative models", 2022, table 1, with σ_data = 1), the velocity with its sign
turned."""


# --------------------------------------------------------------------------------------------- weightings
@dataclass(frozen=True)
class Weighting:
    """λ(σ), what ‖x₀ − D‖² counts for at noise level σ, in units of the data's σ.

    at: (σ, dσ/du) -> λ; rated: whether it asks for the second, how fast σ grows with the u that is drawn evenly.
    """

    name: str
    at: Callable[[Tensor, Any], Tensor]
    rated: bool = False

    def __repr__(self) -> str:
        return self.name


def min_snr(gamma: float = 5.0) -> Weighting:
    """min(1/σ², γ), γ > 0.

    Source: Hang et al., "Efficient diffusion training via min-SNR weighting strategy", 2023, eq. 8.
    """
    if not 0 < gamma < inf:
        raise ArgumentError(f"the γ of min_snr is a number above 0; got {gamma!r}.")
    return Weighting(f"min_snr:{gamma:g}", lambda s, _: s.pow(-2).clamp(max=gamma))


WEIGHTINGS = {
    each.name: each
    for each in (
        Weighting("simple", lambda s, _: s**-2),
        Weighting("denoised", lambda s, _: torch.ones_like(s)),
        Weighting("edm", lambda s, _: 1 + s**-2),
        Weighting("flow", lambda s, _: (1 + 1 / s) ** 2),
        Weighting("likelihood", lambda s, rate: s**-3 * rate, rated=True),
        min_snr(),
    )
}
"""λ by name: `simple` makes the loss ‖ε − ε̂‖², L_simple of Ho et al., 2020, eq. 14, and σ² ‖score error‖² of Song &
Ermon, 2019, eq. 6; `edm` ‖F error‖² of Karras et al., 2022, eq. 8; `flow` ‖v − v̂‖² of Liu et al., 2023; `likelihood`
makes its mean over u the bound ½ ∫ ‖x₀ − D‖² d(−σ⁻²) on −ln p (Kingma et al., "Variational diffusion models", 2021,
eq. 17)."""


def denoising_loss(x: Rows, denoised: Rows, weight: Sigma) -> Float[Tensor, " b"]:
    """λ ‖x₀ − D(x₀ + σ ε, σ)‖² of each row: denoising score matching, (B,).

    Source: Vincent, "A connection between score matching and denoising autoencoders", 2011, eq. 11.
    """
    return weight * (x - denoised).square().flatten(1).sum(1)


def explicit_loss(score: Rows, truth: Rows, weight: Sigma) -> Float[Tensor, " b"]:
    """λ ‖s − ∇ ln p_σ‖² of each row, (B,): explicit score matching, for where the truth is known.

    With λ = σ⁴ λ' it differs from the denoising loss of weight λ' by E λ' tr Cov[x₀|x], the same for every D.
    Source: Hyvärinen, "Estimation of non-normalized statistical models by score matching", 2005, eq. 2.
    """
    return weight * (score - truth).square().flatten(1).sum(1)
