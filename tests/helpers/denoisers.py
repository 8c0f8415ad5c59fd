"""Models that are a denoiser: trained for a moment on a normal of the plane, or exact on N((1, −2), 9)."""

from __future__ import annotations

from math import log, pi

import torch
from torch import nn

import psiphi as pp


def points(n: int = 512) -> torch.Tensor:
    gen = torch.Generator().manual_seed(4)
    return torch.randn(n, 2, generator=gen) @ torch.tensor([[1.0, 0.3], [0.0, 0.4]]) + 0.5


def trained(name: str = "edm", x: torch.Tensor | None = None, steps: int = 40, **more):
    fit = {key: more.pop(key) for key in ("ema", "lr", "y") if key in more}
    model = getattr(pp.zoo, name)((2,), hidden=(32, 32), seed=1, **more)
    pp.fit(
        model, points() if x is None else x, fit.pop("y", None), steps=steps, batch_size=64, quiet=True, **fit
    )
    return model


class Exact(nn.Module):
    """The network output, in the parametrisation of a model, that denoises N(m, v) with v = σ_d² exactly."""

    def __init__(self, parametrisation):
        super().__init__()
        self.unused, self.parametrisation = nn.Parameter(torch.zeros(())), parametrisation

    def forward(self, x, c, y=None):
        s = (4 * c).exp()
        u = x * (1 + s**2).sqrt()[:, None]
        return self.parametrisation.output(u, u / (1 + s**2)[:, None], s) + 0 * self.unused


def isotropic(name: str = "ddpm", **more):
    """A model whose denoiser is exact, on N((1, −2), 9)."""
    shell = getattr(pp.zoo, name)((2,), **more)
    model = getattr(pp.zoo, name)((2,), network=Exact(shell.denoiser.parametrisation), **more)
    model.statistics.mean.copy_(torch.tensor([1.0, -2.0]))
    model.statistics.std.fill_(3.0)
    model.statistics.sigma.fill_(3.0)
    model.statistics.measured.fill_(True)
    return model.eval()


def expected_bound(x, sigmas, v=9.0):
    """The mean over noise of the bound of an exact denoiser of N(m, v): ‖x − D‖² has mean (1−k)²‖x−m‖² + k²σ²d."""
    gap = (x - torch.tensor([1.0, -2.0])).square().sum(1)
    k = [v / (v + s**2) for s in sigmas]
    missed = [(1 - each) ** 2 * gap + each**2 * s**2 * 2 for each, s in zip(k, sigmas)]
    total = -log(2 * pi * sigmas[0] ** 2) - missed[0] / (2 * sigmas[0] ** 2)
    for s, t, each in zip(sigmas, sigmas[1:], missed[1:]):
        total = total - 0.5 * (s**-2 - t**-2) * each
    narrow, wide = sigmas[-1] ** 2, v + sigmas[-1] ** 2
    return total - (narrow / wide + gap / (2 * wide) - 1 + log(wide / narrow))
