"""Plans of every kind on five levels, and denoisers whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.samplers import (
    ancestral,
    annealed_langevin,
    ddim,
    dpm_solver,
    heun,
    langevin,
    predictor_corrector,
    walkback,
)

LEVELS = [8.0, 3.0, 1.0, 0.3, 0.1]
F64 = torch.float64


def normal(x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
    """The denoiser of N(0, I), of N(y, I) where a label is told."""
    s = sigma.view(-1, *[1] * (x.ndim - 1)) ** 2
    mean = 0 if y is None else y.clamp_min(0).view(s.shape).to(x)
    return mean + (x - mean) / (1 + s)


class Drawn:
    """The same with draws from p(x₀|x)."""

    def draw(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        s = sigma.view(-1, 1) ** 2
        return x / (1 + s) + (s / (1 + s)).sqrt() * noise.normal(x.shape[1:]).to(x)


PLANS = {
    "ancestral": ancestral(LEVELS),
    "ancestral large": ancestral(LEVELS, variance="large"),
    "ddim": ddim(LEVELS),
    "ddim half": ddim(LEVELS, eta=0.5),
    "heun": heun(LEVELS),
    "dpm_solver": dpm_solver(LEVELS),
    "langevin": langevin(0.5, steps=6),
    "langevin denoised": langevin(0.5, 0.1, 6, denoise=True),
    "annealed_langevin": annealed_langevin(LEVELS, repeats=3),
    "predictor_corrector": predictor_corrector(LEVELS, corrections=2),
    "walkback": walkback(0.5, 5),
    "walkback noisy": walkback(0.5, 5, clean=False),
}
EVERY = pytest.mark.parametrize("name", PLANS)
