"""Denoisers that wrap denoisers: guidance by label or classifier, and filling in what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.calculus import input_gradient, per_row


@dataclass(frozen=True)
class classifier_free:
    """D_u + w (D_c − D_u): w = 1 is the conditional model, w = 0 the unconditional one.

    denoiser: it takes y = −1 as "no label". Source: Ho & Salimans, "Classifier-free diffusion guidance", 2022, eq. 6.
    """

    denoiser: Any
    weight: float

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            raise ArgumentError("guidance needs labels to guide to: pass y.")
        if self.weight == 1:
            return self.denoiser(x, sigma, y)
        told = torch.cat([y, torch.full_like(y, -1)])
        with_label, without = self.denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), told).chunk(2)
        return torch.lerp(without, with_label, self.weight)


@dataclass(frozen=True)
class classifier_guided:
    """D + w σ² ∇ ln p(y|x), with a classifier of noisy inputs.

    log_prob: (x, sigma, y) -> (B,), ln p(y|x) at noise level σ. Source: Dhariwal & Nichol, "Diffusion models beat
    GANs on image synthesis", 2021, algorithm 1.
    """

    denoiser: Any
    log_prob: Callable[[Tensor, Tensor, Tensor], Tensor]
    weight: float = 1.0

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            raise ArgumentError("guidance needs labels to guide to: pass y.")
        uphill = input_gradient(lambda x: self.log_prob(x, sigma, y), x)
        return self.denoiser(x, sigma) + self.weight * per_row(sigma, x) ** 2 * uphill


@dataclass(frozen=True)
class clipped:
    """D held between `low` and `high`, the data's range: off unless asked for, since it biases samples at the ends.

    Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, whose code clips x₀.
    """

    denoiser: Any
    low: float
    high: float

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        denoised = self.denoiser(x, sigma) if y is None else self.denoiser(x, sigma, y)
        return denoised.clamp(self.low, self.high)


@dataclass(frozen=True)
class inpainted:
    """D where nothing is known, the known values where they are: the known part walks to them along with the rest.

    Approximate: at each level the unknown part has seen what is known only through that level's noise, and cannot make
    up for it later. Langevin steps at each level (`predictor_corrector`) take most of the bias away: law 18h. known
    (B, *shape), where (bool, alike): True where known.
    Source: Song et al., 2021, appendix I.2.
    """

    denoiser: Any
    known: Tensor
    where: Tensor

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        denoised = self.denoiser(x, sigma) if y is None else self.denoiser(x, sigma, y)
        return torch.where(self.where, self.known, denoised)
