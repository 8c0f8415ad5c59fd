"""The data whose best denoiser is known at every noise level: mixtures of normals, one normal among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.noise import Noise, generator
from psiphi.formulas.distributions import LOG_2PI, DiagonalNormal
from psiphi.formulas.mixtures import pick
from psiphi.samplers import Plan, Row, walk

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class Exact:
    """Σ_k w_k N(μ_k, V_k diag(λ_k) V_kᵀ): its blurred density, and p(x₀|x) at noise σ, in float64.

    log_weights (K,), means (K, d), bases V (K, d, d), variances λ (K, d). Labels are the components, −1 for none.
    """

    log_weights: Tensor
    means: Tensor
    bases: Tensor
    variances: Tensor

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        return self.log_weights.exp() @ self.means

    @property
    def covariance(self) -> Tensor:
        off = self.means - self.mean
        each = self.bases * self.variances[:, None] @ self.bases.transpose(1, 2)
        return torch.einsum("k,kde->de", self.log_weights.exp(), each + off[:, :, None] * off[:, None])

    def _joint(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln w_k N(x; μ_k, Σ_k + σ²I) (K, B); V_kᵀ(x − μ_k) and λ_k + σ² (K, B, d)."""
        off = (x - self.means[:, None]) @ self.bases
        spread = self.variances[:, None] + sigma.view(1, -1, 1) ** 2
        squares = (off.square() / spread + spread.log()).sum(2) + self.dimension * LOG_2PI
        return self.log_weights[:, None] - squares / 2, off, spread

    def _given(self, joint: Tensor, y: Tensor | None) -> Tensor:
        """p(k|x), or all of it on the label, (K, B)."""
        shares = joint.softmax(0)
        if y is None:
            return shares
        told = torch.nn.functional.one_hot(y.clamp_min(0), len(joint)).T.to(shares)
        return torch.where(y < 0, shares, told)

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """D(x, σ, y) = E[x₀|x, y] = Σ_k p(k|x) [μ_k + Σ_k (Σ_k + σ²I)⁻¹ (x − μ_k)]."""
        joint, off, spread = self._joint(x, sigma)
        each = self.means[:, None] + (self.variances[:, None] / spread * off) @ self.bases.transpose(1, 2)
        return (self._given(joint, y)[..., None] * each).sum(0)

    def draw(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        """x₀ ~ p(x₀|x): a component, then N(·, Σ_k σ² (Σ_k + σ²I)⁻¹) about its mean."""
        joint, off, spread = self._joint(x, sigma)
        k = pick(joint.softmax(0).T, noise.split("component").uniform().to(x))
        shrunk = self.variances[:, None] / spread
        white = noise.normal((self.dimension,)).to(x)
        local = shrunk * off + shrunk.sqrt() * sigma[:, None] * white
        each = self.means[:, None] + local @ self.bases.transpose(1, 2)
        return each[k, torch.arange(len(x))]

    def log_prob(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """ln p_σ(x), (B,)."""
        return self._joint(x, x.new_full((len(x),), sigma))[0].logsumexp(0)

    def log_label(self, x: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
        """ln p(y|x) at noise σ, (B,)."""
        return self._joint(x, sigma)[0].log_softmax(0)[y, torch.arange(len(x))]

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """∇ ln p_σ(x) = −Σ_k p(k|x) (Σ_k + σ²I)⁻¹ (x − μ_k)."""
        joint, off, spread = self._joint(x, x.new_full((len(x),), sigma))
        pulls = (off / spread) @ self.bases.transpose(1, 2)
        return -(joint.softmax(0)[..., None] * pulls).sum(0)

    def sample(self, n: int, seed: int, sigma: float = 0.0) -> Tensor:
        """n draws from p_σ, (n, d)."""
        noise = Noise.of(seed, n, dtype=F64)
        k = pick(self.log_weights.exp(), noise.split("component").uniform())
        local = (self.variances[k] + sigma**2).sqrt() * noise.normal((self.dimension,))
        return self.means[k] + torch.einsum("bde,be->bd", self.bases[k], local)

    def prior(self, sigma: float) -> DiagonalNormal:
        """N(m, v + σ²) of each coordinate: the state at a large σ."""
        return DiagonalNormal(self.mean, (self.covariance.diagonal() + sigma**2).log() / 2)


def gaussian(dimension: int, low: float = 0.2, high: float = 2.0) -> Exact:
    """A normal off the origin with eigenvalues from `low` to `high`, turned at random: correlated."""
    gen = generator(16, "gaussian", dimension)
    basis = torch.linalg.qr(torch.randn(dimension, dimension, generator=gen, dtype=F64))[0]
    mean = torch.randn(1, dimension, generator=gen, dtype=F64)
    variances = torch.logspace(0, 1, dimension, base=high / low, dtype=F64) * low
    return Exact(torch.zeros(1, dtype=F64), mean, basis[None], variances[None])


def mixture(dimension: int, modes: int = 3, width: float = 0.5, reach: float = 1.5) -> Exact:
    """Isotropic normals of unequal weights, about `reach` from the origin, of standard deviation `width`."""
    gen = generator(17, "mixture", dimension)
    means = torch.randn(modes, dimension, generator=gen, dtype=F64)
    means = reach * means / means.norm(dim=1, keepdim=True)
    if dimension == 1:
        means = torch.linspace(-reach, reach, modes, dtype=F64)[:, None]
    weights = torch.arange(2, modes + 2, dtype=F64)
    return Exact(
        (weights / weights.sum()).log(),
        means,
        torch.eye(dimension, dtype=F64).expand(modes, -1, -1),
        torch.full((modes, dimension), width**2, dtype=F64),
    )


BOTH = {"Gaussian": gaussian, "mixture": mixture}
DIMENSIONS = (1, 2, 16)


def moments(
    plan: Plan, affine: Callable[..., Tensor], mean: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of the last state of a plan of one-step rows, of a denoiser affine in x.

    Each row is x <- A x + b + up ξ; A and b are read off by walking the row from the origin and the unit vectors.
    """
    d = len(mean)
    corners = torch.cat([torch.zeros(1, d, dtype=F64), torch.eye(d, dtype=F64)])
    seen: dict[Row, tuple[Tensor, Tensor]] = {}
    for row in plan:
        still = replace(row, up=0.0)
        if still not in seen:
            ends = walk(Plan("row", (still,)), affine, corners, Noise.of(0, d + 1, dtype=F64))
            seen[still] = ((ends[1:] - ends[0]).T, ends[0])
        slope, start = seen[still]
        mean, covariance = slope @ mean + start, slope @ covariance @ slope.T
        covariance = covariance + row.up**2 * torch.eye(d, dtype=F64)
    return mean, covariance


def run(plan: Plan, denoiser: Any, x: Tensor, seed: int, y: Tensor | None = None) -> Tensor:
    """A walk without gradients on noise of its own."""
    with torch.no_grad():
        return walk(plan, denoiser, x, Noise.of(seed, len(x), dtype=F64), y)
