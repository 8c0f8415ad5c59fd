"""Gaussian mixtures: p(x) = Σ_k w_k N(x; μ_k, Σ_k), its posterior, its score at any noise, its conditionals.

`scale` is a factor of the covariances, Σ_k = L_k L_kᵀ, and its shape says of what kind they are. Three axes are
lower triangles: (K, d, d) full, (1, d, d) tied. Two axes are standard deviations: (K, d) diagonal, (K, 1)
spherical, (1, d) and (1, 1) the same for every component.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.formulas.distributions import LOG_2PI, DiagonalNormal, Measure

Weights = Float[Tensor, " k"]
Means = Float[Tensor, "k d"]
Scale = Float[Tensor, "#k d d"] | Float[Tensor, "#k #d"]
Bases = Float[Tensor, "#k d d"] | None


def log_joint(
    x: Float[Tensor, "*b d"], log_weights: Weights, means: Means, scale: Scale
) -> Float[Tensor, "*b k"]:
    """ln p(x, k) = ln w_k − ½‖L_k⁻¹(x − μ_k)‖² − ln det L_k − (d/2) ln 2π."""
    d = means.shape[1]
    if scale.ndim == 3:
        off = (x.reshape(prod(x.shape[:-1]), 1, d) - means).movedim(0, 2)
        white = torch.linalg.solve_triangular(scale, off, upper=False)
        squares = white.square().sum(1).T.reshape(*x.shape[:-1], len(means))
        spread = scale.diagonal(dim1=1, dim2=2)
    else:
        squares = ((x.unsqueeze(-2) - means) / scale).square().sum(-1)
        spread = scale.expand(len(scale), d)
    return log_weights - 0.5 * (squares + d * LOG_2PI) - spread.log().sum(1)


def log_density(
    x: Float[Tensor, "*b d"], log_weights: Weights, means: Means, scale: Scale
) -> Float[Tensor, " *b"]:
    """ln p(x) = ln Σ_k p(x, k), in nats."""
    return log_joint(x, log_weights, means, scale).logsumexp(-1)


def responsibilities(
    x: Float[Tensor, "*b d"], log_weights: Weights, means: Means, scale: Scale
) -> Float[Tensor, "*b k"]:
    """p(k|x) = p(x, k) / Σ_j p(x, j): Bayes' rule."""
    return log_joint(x, log_weights, means, scale).softmax(-1)


@dataclass(frozen=True)
class NormalMixture:
    """Σ_k π_k N(μ_k, diag σ_k²) as a distribution over codes.

    logits: (k,), ln π up to a constant; means, log_scales: (k, d).
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    event: ClassVar[int] = 1
    measure: ClassVar[Measure] = "continuous"

    @property
    def mean(self) -> Tensor:
        """Σ_k π_k μ_k, (1, d)."""
        return self.logits.softmax(0)[None] @ self.means

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """(S, B, d), a row of noise for each of B; the component is drawn without gradient."""
        u = noise.split("component").uniform((samples,)).T.to(self.means.dtype)
        component = pick(self.logits.softmax(0).detach(), u)
        eps = noise.normal((samples, self.means.shape[1])).transpose(0, 1).to(self.means.dtype)
        return self.means[component] + self.log_scales[component].exp() * eps

    def log_prob(self, z: Tensor) -> Tensor:
        """(*batch, d) -> (*batch)."""
        return log_density(z, self.logits.log_softmax(0), self.means, self.log_scales.exp())


@dataclass(frozen=True)
class LabelledModes(NormalMixture):
    """A mixture whose component k is the code of class k: p(z|y = k) = N(μ_k, diag σ_k²)."""

    @property
    def classes(self) -> int:
        return len(self.means)

    def given(self, y: Tensor) -> DiagonalNormal:
        """p(z|y) of labels (B,)."""
        return DiagonalNormal(self.means[y], self.log_scales[y])


@dataclass(frozen=True)
class OneHotNormal:
    """(y, z): the one-hot code of one of K classes, all alike, then d numbers from N(0, I); K + d numbers together.

    mean: zeros, (1, d); label: those drawn are all of it, (B,), or None.
    """

    classes: int
    mean: Tensor
    label: Tensor | None = None
    event: ClassVar[int] = 1
    measure: ClassVar[Measure] = "mixed"

    def given(self, y: Tensor) -> OneHotNormal:
        return OneHotNormal(self.classes, self.mean, y)

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """(S, B, K + d)."""
        z = noise.normal((samples, self.mean.shape[1])).transpose(0, 1).to(self.mean.dtype)
        drawn = noise.split("label").integers(self.classes, (samples,)).T
        y = drawn if self.label is None else self.label.expand(samples, -1)
        return torch.cat([torch.nn.functional.one_hot(y, self.classes).to(z.dtype), z], 2)


@dataclass(frozen=True)
class Categorical:
    """One of K, as a one-hot code: p(z = e_k) = softmax(ℓ)_k, and the mean is the vector of probabilities.

    logits: (*batch, K), normalised or not.
    """

    logits: Tensor
    event: ClassVar[int] = 1
    measure: ClassVar[Measure] = "discrete"

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-1)

    @property
    def log_probs(self) -> Tensor:
        return self.logits.log_softmax(-1)

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """One-hot draws, (S, B, K); without gradient, as there is none."""
        index = pick(self.mean.detach(), noise.uniform((samples,)).T.to(self.logits.dtype))
        return torch.nn.functional.one_hot(index, self.logits.shape[-1]).to(self.logits.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_k z_k ln p_k of one-hot codes, (*batch)."""
        return torch.where(z == 0, 0, z * self.log_probs).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self ‖ other) = Σ_k p_k (ln p_k − ln q_k), (*batch); components without mass count nothing."""
        gap = torch.where(self.mean == 0, 0, self.log_probs - other.log_probs)
        return (self.mean * gap).sum(-1)


def pick(probabilities: Float[Tensor, "*b k"], u: Float[Tensor, "*s"]) -> Tensor:
    """The k at which the cumulated probability first exceeds u in [0, 1): a draw of each row."""
    edges = probabilities.cumsum(-1)
    return (u.unsqueeze(-1) * edges[..., -1:] >= edges).sum(-1).clamp(max=edges.shape[-1] - 1)


def spectrum(scale: Scale) -> tuple[Bases, Float[Tensor, "#k #d"]]:
    """Bases V_k and variances λ_k with Σ_k = V_k diag(λ_k) V_kᵀ; no basis where Σ_k is diagonal already.

    From the singular values of L_k, which keep twice the digits that eigenvalues of L_k L_kᵀ would.
    """
    if scale.ndim == 2:
        return None, scale.square()
    bases, singular, _ = torch.linalg.svd(scale)
    return bases, singular.square()


def smoothed_score(
    x: Float[Tensor, "b d"],
    sigma: Float[Tensor, "#b"],
    log_weights: Weights,
    means: Means,
    bases: Bases,
    variances: Float[Tensor, "#k #d"],
) -> Float[Tensor, "b d"]:
    """∇ ln p_σ(x) = −Σ_k p_σ(k|x) (Σ_k + σ²I)⁻¹ (x − μ_k), p_σ the mixture with covariances Σ_k + σ²I.

    bases, variances: of `spectrum`; a σ for each row costs then no more than one for all. Tweedie's formula
    makes it the best denoiser: E[x₀|x] = x + σ² ∇ ln p_σ(x).
    Source: Efron, "Tweedie's formula and selection bias", 2011, eq. 1.4.
    """
    off = x.unsqueeze(1) - means
    if bases is not None:
        off = (off.transpose(0, 1) @ bases).transpose(0, 1)
    noisy = (variances + sigma.square()[:, None, None]).expand(len(sigma), len(means), x.shape[1])
    logits = log_weights - 0.5 * (off.square() / noisy + noisy.log()).sum(2)
    pulls = logits.softmax(1).unsqueeze(2) * off / noisy
    if bases is None:
        return -pulls.sum(1)
    return -(pulls.transpose(0, 1) @ bases.transpose(1, 2)).sum(0)


def conditional_mean(
    x: Float[Tensor, "b d"], seen: Bool[Tensor, " d"], log_weights: Weights, means: Means, scale: Scale
) -> Float[Tensor, "b d"]:
    """x with its missing coordinates m filled by E[x_m | x_o], o the ones that are seen.

    Σ_k p(k|x_o) [μ_m + Σ_mo Σ_oo⁻¹ (x_o − μ_o)]_k. What stands in the missing coordinates has no influence.
    Source: Ghahramani & Jordan, "Supervised learning from incomplete data via an EM approach", 1994, section 3.
    """
    here = x[:, seen]
    if scale.ndim == 2:
        part = scale.expand(len(scale), len(seen))[:, seen]
        weights = responsibilities(here, log_weights, means[:, seen], part)
        guess = weights @ means[:, ~seen]
    else:
        covariance = scale @ scale.transpose(1, 2)
        part = torch.linalg.cholesky(covariance[:, seen][:, :, seen])
        weights = responsibilities(here, log_weights, means[:, seen], part)
        slope = torch.cholesky_solve(covariance[:, seen][:, :, ~seen], part)
        each = (here - means[:, None, seen]) @ slope + means[:, None, ~seen]
        guess = torch.einsum("bk,kbm->bm", weights, each)
    filled = x.clone()
    filled[:, ~seen] = guess
    return filled
