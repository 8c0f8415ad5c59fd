"""The model on which everything is known: z ~ N(0, I), x = W z + b + s ξ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from psiphi.basis.noise import generator
from psiphi.formulas.distributions import DiagonalNormal, FullNormal


@dataclass(frozen=True)
class LinearGaussian:
    """weight: (D, d); bias: (D,); scale: s."""

    weight: Tensor
    bias: Tensor
    scale: float

    @staticmethod
    def random(features: int, latent_dim: int, scale: float, seed: int, dtype: torch.dtype) -> LinearGaussian:
        gen = generator(seed, "linear-gaussian")
        weight = torch.randn(features, latent_dim, generator=gen, dtype=dtype)
        return LinearGaussian(weight, torch.randn(features, generator=gen, dtype=dtype), scale)

    def draw(self, rows: int, seed: int) -> Tensor:
        gen = generator(seed, "draw")
        z = torch.randn(rows, self.weight.shape[1], generator=gen, dtype=self.weight.dtype)
        xi = torch.randn(rows, len(self.bias), generator=gen, dtype=self.weight.dtype)
        return z @ self.weight.T + self.bias + self.scale * xi

    def likelihood(self, z: Tensor) -> DiagonalNormal:
        """p(x|z)."""
        return DiagonalNormal(z @ self.weight.T + self.bias, torch.tensor(self.scale, dtype=z.dtype).log())

    def log_prob(self, x: Tensor) -> Tensor:
        """ln N(x; b, W Wᵀ + s² I), by torch.distributions."""
        covariance = self.weight @ self.weight.T + self.scale**2 * torch.eye(len(self.bias), dtype=x.dtype)
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> FullNormal:
        """N(Λ⁻¹ Wᵀ(x − b)/s², Λ⁻¹), Λ = I + WᵀW/s²."""
        precision = (
            torch.eye(self.weight.shape[1], dtype=x.dtype) + self.weight.T @ self.weight / self.scale**2
        )
        covariance = precision.inverse()
        mean = (x - self.bias) @ self.weight @ covariance / self.scale**2
        return FullNormal(mean, torch.linalg.cholesky(covariance).expand(len(x), -1, -1))
