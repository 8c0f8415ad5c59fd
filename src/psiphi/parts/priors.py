"""Priors p(z) by name: standard, mixtures, VampPrior, flows. Each is a conditional of nothing: () -> p(z)."""

from __future__ import annotations

from math import log, pi

import torch
from torch import nn

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.distributions import DiagonalNormal, StandardNormal
from psiphi.formulas.flows import Flowed
from psiphi.formulas.mixtures import LabelledModes, NormalMixture, OneHotNormal
from psiphi.parts.conditional import StandardPrior, refer
from psiphi.parts.posteriors import flow
from psiphi.parts.statistics import Statistics

COMPONENTS = 16


class MixturePrior(nn.Module):
    """p(z) = Σ_k π_k N(μ_k, diag σ_k²), all learned; the means start as draws from N(0, I)."""

    def __init__(self, latent_dim: int, components: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent_dim))
        self.log_scales = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self) -> NormalMixture:
        return NormalMixture(self.logits, self.means, self.log_scales)


class VampPrior(nn.Module):
    """p(z) = (1/K) Σ_k q(z|u_k) with learned pseudo-inputs u_k, in the networks' units; q must be diagonal.

    Source: Tomczak & Welling, "VAE with a VampPrior", 2018, eq. 9.
    """

    statistics: Statistics
    logits: torch.Tensor

    def __init__(self, encoder: nn.Module, statistics: Statistics, components: int):
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(components, *statistics.shape))
        self.register_buffer("logits", torch.zeros(components))
        self.__dict__["encoder"] = encoder
        refer(self, statistics)

    def forward(self) -> NormalMixture:
        q = self.__dict__["encoder"](self.statistics.inverse(self.inputs))
        if not isinstance(q, DiagonalNormal):
            raise ArgumentError("a VampPrior needs a diagonal posterior: use posterior='diagonal'.")
        return NormalMixture(self.logits, q.mean, q.log_scale)


class FlowPrior(nn.Module):
    """p(z): z is the image of N(0, I) under a flow, fast from z to its density."""

    mean: torch.Tensor

    def __init__(self, latent_dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, latent_dim))
        self.transform = flow(latent_dim, 0, coupling=False)

    def forward(self) -> Flowed:
        return Flowed(StandardNormal(self.mean), self.transform(None).inv)


class ModesPrior(nn.Module):
    """p(z|y) = N(μ_y, σ² I), μ_y evenly on a circle of `radius` in the first two coordinates, or on a line of one.

    Source: Makhzani et al., "Adversarial autoencoders", 2015, section 2.3.
    """

    means: torch.Tensor

    def __init__(self, latent_dim: int, classes: int, radius: float = 4.0, sigma: float = 0.5):
        super().__init__()
        angle = 2 * pi * torch.arange(classes) / classes
        means = torch.zeros(classes, latent_dim)
        if latent_dim == 1:
            means[:, 0] = 4 * sigma * (torch.arange(classes) - (classes - 1) / 2)
        else:
            means[:, 0], means[:, 1] = radius * angle.cos(), radius * angle.sin()
        self.register_buffer("means", means)
        self.log_sigma = log(sigma)

    def forward(self) -> LabelledModes:
        scales = torch.full_like(self.means, self.log_sigma)
        return LabelledModes(self.means.new_zeros(len(self.means)), self.means, scales)


class OneHotPrior(nn.Module):
    """p(y, z): y one of `classes`, all alike, as a one-hot code, and z ~ N(0, I) beside it."""

    mean: torch.Tensor

    def __init__(self, classes: int, style_dim: int):
        super().__init__()
        self.classes = classes
        self.register_buffer("mean", torch.zeros(1, style_dim))

    def forward(self) -> OneHotNormal:
        return OneHotNormal(self.classes, self.mean)


def prior(name: str, latent_dim: int, encoder: nn.Module, statistics: Statistics) -> nn.Module:
    """The prior a name stands for: `standard`, `mixture` or `mixture:16`, `vamp` or `vamp:16`, `flow`."""
    kind, _, rest = name.partition(":")
    counted = kind in ("mixture", "vamp") and (not rest or (rest.isdigit() and int(rest) > 0))
    if not counted and (kind not in ("standard", "flow") or rest):
        raise ArgumentError(
            f"no prior is called {name!r}; use standard, mixture:16, vamp:16 (any number of components) or flow."
        )
    components = int(rest or COMPONENTS)
    if kind == "mixture":
        return MixturePrior(latent_dim, components)
    if kind == "vamp":
        return VampPrior(encoder, statistics, components)
    return FlowPrior(latent_dim) if kind == "flow" else StandardPrior(latent_dim)
