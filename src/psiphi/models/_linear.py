"""Principal components, by scikit-learn, behind the same verbs."""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.basis.noise import Noise
from psiphi.formulas.gaps import factor_conditional
from psiphi.models._base import Model, check_count, check_unlabelled, verb
from psiphi.models._impute import gaps
from psiphi.parts import Statistics

IN_MEMORY_NUMBERS = 1 << 28


class Linear(Model):
    """x = mean + z U + σ ξ with z ~ N(0, diag(λ − σ²)): PCA, and the density it is the limit of.

    encode is the projection (x − mean) Uᵀ; σ² is the mean of the discarded eigenvalues.
    Source: Tipping & Bishop, "Probabilistic principal component analysis", 1999.
    """

    components: Tensor
    variances: Tensor
    noise_variance: Tensor
    measure = "continuous"

    def __init__(self, statistics: Statistics, latent_dim: int):
        super().__init__(statistics)
        self.latent_dim = latent_dim
        features = statistics.mean.numel()
        self.register_buffer("components", torch.zeros(latent_dim, features))
        self.register_buffer("variances", torch.ones(latent_dim))
        self.register_buffer("noise_variance", torch.ones(()))

    def solve(self, rows: int, gather: Any) -> dict[str, float]:
        """Fit to `rows` rows that `gather(index)` brings as float (b, *shape); returns the named numbers.

        Up to 2²⁸ numbers at once (exact); beyond, scikit-learn's incremental algorithm in chunks.
        """
        from sklearn.decomposition import PCA, IncrementalPCA

        features = self.components.shape[1]
        if rows < self.latent_dim:
            raise DataError(
                f"PCA with {self.latent_dim} components needs at least as many rows; there are {rows}."
            )
        if rows * features <= IN_MEMORY_NUMBERS:
            found: Any = PCA(self.latent_dim, random_state=0)
            found.fit(np.asarray(gather(torch.arange(rows)).flatten(1), dtype=np.float64))
        else:
            found = IncrementalPCA(self.latent_dim)
            size = max(5 * self.latent_dim, 4096)
            for start in range(0, rows - self.latent_dim + 1, size):
                found.partial_fit(np.asarray(gather(torch.arange(start, min(start + size, rows))).flatten(1)))
        self.components.copy_(torch.as_tensor(found.components_))
        self.variances.copy_(torch.as_tensor(found.explained_variance_))
        self.noise_variance.fill_(float(found.noise_variance_))
        self.statistics.mean.copy_(torch.as_tensor(found.mean_).reshape(self.statistics.mean.shape))
        return {
            "explained": float(found.explained_variance_ratio_.sum()),
            "noise_variance": float(found.noise_variance_),
        }

    def _encode(self, x: Tensor) -> Tensor:
        return (x - self.statistics.mean).flatten(1) @ self.components.T

    def _decode(self, z: Tensor) -> Tensor:
        return (z @ self.components).unflatten(1, self.shape) + self.statistics.mean

    def forward(self, x: Tensor) -> Tensor:
        return self._decode(self._encode(x))

    @verb
    def encode(self, x: Any) -> Tensor:
        """(x − mean) Uᵀ, (B, *shape) -> (B, d)."""
        return self._map(self._encode, x)

    @verb
    def decode(self, z: Any) -> Tensor:
        """mean + z U, (B, d) -> (B, *shape)."""
        return self._map(self._decode, torch.as_tensor(z), (self.latent_dim,), "z")

    @verb
    def reconstruct(self, x: Any) -> Tensor:
        """The nearest point of the affine subspace, (B, *shape)."""
        return self._map(self.forward, x)

    @verb
    def project(self, x: Any) -> Tensor:
        """The nearest point of the affine subspace, (B, *shape)."""
        return self._map(self.forward, x)

    @verb
    def sample(self, n: int, *, seed: int = 0, y: Any = None, exact: bool = False) -> Tensor:
        """mean + z U with z ~ N(0, diag(λ − σ²)); plus σ ξ when `exact`. (n, *shape)."""
        check_unlabelled(self, y)
        noise = Noise.of(seed, check_count(n), self.device, self.dtype)
        spread = (self.variances - self.noise_variance).clamp(min=0).sqrt()
        x = self._decode(noise.split("z").normal((self.latent_dim,)) * spread)
        return x + self.noise_variance.sqrt() * noise.split("x").normal(self.shape) if exact else x

    @verb
    def log_prob(self, x: Any, samples: int = 0, seed: int = 0) -> Tensor:
        """ln N(x; mean, Uᵀ diag(λ − σ²) U + σ² I), exact, (B,), in nats; `samples` and `seed` have no effect."""
        return self._map(self._log_prob, x)

    def _log_prob(self, x: Tensor) -> Tensor:
        centred = (x - self.statistics.mean).flatten(1)
        z = centred @ self.components.T
        features, rest = centred.shape[1], centred.shape[1] - self.latent_dim
        floor = torch.finfo(x.dtype).tiny
        variances, noise = self.variances.clamp(min=floor), self.noise_variance.clamp(min=floor)
        inside = (z.square() / variances).sum(1) + variances.log().sum()
        outside = (centred - z @ self.components).square().sum(1) / noise + rest * noise.log()
        return -0.5 * (inside + (outside if rest else 0) + features * log(2 * pi))

    @verb
    def anomaly_score(self, x: Any) -> Tensor:
        """−ln p(x), (B,), in nats, higher = stranger."""
        return self._map(lambda part: -self._log_prob(part), x)

    @verb
    def impute(self, x: Any, where: Any = None) -> Tensor:
        """x with what is missing filled by E[x_m|x_o] of its density, exact: (B, *shape) -> (B, *shape).

        where: True where x is seen, (*shape) or (B, *shape); without it NaN is what is missing.
        """
        x, seen = gaps(self, x, where)
        home, parts = x.device, []
        for part, there in zip(x.split(1024), seen.split(1024)):
            filled = self._fill(part.to(self.device).flatten(1), there.to(self.device).flatten(1))
            parts.append(filled.unflatten(1, self.shape).to(home, x.dtype))
        return torch.where(seen, x, torch.cat(parts))

    def _fill(self, x: Tensor, seen: Tensor) -> Tensor:
        """In float64, since σ² may be far below the variances."""
        noise = self.noise_variance.double()
        weight = self.components.double().T * (self.variances.double() - noise).clamp(min=0).sqrt()
        return factor_conditional(x.double(), seen, self.statistics.mean.double().flatten(), weight, noise)
