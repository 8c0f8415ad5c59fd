"""Posteriors q(z|x) by name: diagonal, full covariance, and flows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.distributions import DiagonalNormal, FullNormal
from psiphi.formulas.flows import Flowed
from psiphi.parts.conditional import NormalEncoder, refer
from psiphi.parts.statistics import Statistics

FLOW_LAYERS = 3
FLOW_HIDDEN = (64, 64)


def flow(latent_dim: int, context: int, coupling: bool) -> nn.Module:
    """A zuko transform of d numbers given a context: autoregressive, or coupling (both directions in two passes)."""
    from zuko.flows import MAF

    with torch.device(
        "cpu"
    ):  # zuko looks at its masks as it builds, which weights to be filled from a file have not
        made: Any = MAF(
            latent_dim, context, FLOW_LAYERS, hidden_features=FLOW_HIDDEN, passes=2 if coupling else None
        )
    return made.transform


class FullNormalEncoder(nn.Module):
    """q(z|x) = N(μ(x), L Lᵀ), z = μ + L ε; the network gives μ, then L by rows, ln on its diagonal."""

    statistics: Statistics

    def __init__(self, network: nn.Module, statistics: Statistics, latent_dim: int):
        super().__init__()
        self.network, self.latent_dim = network, latent_dim
        refer(self, statistics)

    def forward(self, x: Tensor) -> FullNormal:
        d = self.latent_dim
        out = self.network(self.statistics(x))
        row, column = torch.tril_indices(d, d, device=out.device)
        every = torch.arange(len(out), device=out.device)[:, None]
        lower = out.new_zeros(len(out), d, d).index_put((every, row, column), out[:, d:])
        diagonal = lower.diagonal(dim1=-2, dim2=-1)
        return FullNormal(out[:, :d], lower.tril(-1) + torch.diag_embed(diagonal.exp()))


class FlowEncoder(nn.Module):
    """z = T(u; c(x)), u = μ(x) + σ(x) ε; the network gives (B, 4d): μ, ln σ, and 2d numbers of context c.

    Source: Kingma et al., "Improving variational inference with inverse autoregressive flow", 2016, algorithm 1.
    """

    statistics: Statistics

    def __init__(self, network: nn.Module, statistics: Statistics, latent_dim: int, coupling: bool):
        super().__init__()
        self.network, self.latent_dim = network, latent_dim
        self.transform = flow(latent_dim, 2 * latent_dim, coupling)
        refer(self, statistics)

    def forward(self, x: Tensor) -> Flowed:
        d = self.latent_dim
        mean, log_scale, context = self.network(self.statistics(x)).split((d, d, 2 * d), 1)
        return Flowed(DiagonalNormal(mean, log_scale), self.transform(context))


POSTERIORS = ("diagonal", "full", "autoregressive", "coupling")


def outputs(posterior: str, latent_dim: int) -> int:
    """How many numbers a posterior of this name reads from its network."""
    if posterior not in POSTERIORS:
        raise ArgumentError(f"no posterior is called {posterior!r}; use {', '.join(POSTERIORS)}.")
    return {"diagonal": 2 * latent_dim, "full": latent_dim + latent_dim * (latent_dim + 1) // 2}.get(
        posterior, 4 * latent_dim
    )


def posterior(name: str, network: nn.Module, statistics: Statistics, latent_dim: int) -> nn.Module:
    """The encoder a name stands for: `diagonal`, `full` covariance, or an `autoregressive` or `coupling` flow."""
    if name == "diagonal":
        return NormalEncoder(network, statistics)
    if name == "full":
        return FullNormalEncoder(network, statistics, latent_dim)
    return FlowEncoder(network, statistics, latent_dim, coupling=name == "coupling")
