"""Normalising flows: the density of an invertible map's image. The maps themselves are zuko's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.distributions import DiagonalNormal, Measure, StandardNormal

MEAN_PAIRS = 32


@dataclass(frozen=True)
class Flowed:
    """The image of u ~ q0 under an invertible map z = T(u): ln q(z) = ln q0(u) − ln|det ∂z/∂u|.

    base: q0, over (*batch, d); transform: T, with `call_and_ladj` and `inv`, as zuko's.
    Source: Rezende & Mohamed, "Variational inference with normalizing flows", 2015, eq. 5.
    """

    base: DiagonalNormal | StandardNormal
    transform: Any
    event: int = 1
    measure: ClassVar[Measure] = "continuous"

    @property
    def mean(self) -> Tensor:
        """E[z] over 64 fixed draws u = μ ± σ ε_k, the same for every row: deterministic, and an estimate."""
        at = self.base.mean
        eps = Noise.of(0, MEAN_PAIRS, at.device, at.dtype).normal(at.shape[-1:])
        eps = torch.cat([eps, -eps]).view(2 * MEAN_PAIRS, *[1] * (at.ndim - 1), at.shape[-1])
        return _call(self.transform, at + self.base.log_scale.exp() * eps)[0].mean(0)

    def rsample_log_prob(self, noise: Noise, samples: int = 1) -> tuple[Tensor, Tensor]:
        """z and ln q(z) from one pass: (K, B, d) and (K, B)."""
        u = self.base.rsample(noise, samples)
        z, log_det = _call(self.transform, u)
        return z, self.base.log_prob(u) - log_det

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """(K, B, d)."""
        return self.rsample_log_prob(noise, samples)[0]

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        """(*batch); inverts the map, which takes d passes if it is autoregressive in this direction."""
        if where is not None:
            raise ArgumentError("a flow cannot mask coordinates; use a diagonal normal.")
        u, log_det = _call(self.transform.inv, x)
        return self.base.log_prob(u) + log_det


def _call(transform: Any, u: Tensor) -> tuple[Tensor, Tensor]:
    """T(u) and ln|det ∂T/∂u|; no rows, which zuko's networks cannot take, have neither."""
    return transform.call_and_ladj(u) if u.numel() else (u, u.sum(-1))
