"""Autoencoders and variational autoencoders."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from psiphi import parts
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.models import LatentModel
from psiphi.models._base import check_count
from psiphi.parts import Dirac, NormalEncoder, StandardPrior, Statistics, nll, rate
from psiphi.zoo._build import Distortion, check_latent, check_weights, decoder_network, encoder_network


@models.register
def ae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    loss: Distortion = "squared",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Autoencoder: min over φ, ψ of E d(x, ψ(φ(x))).

    latent_dim: numbers a code; 0 is a constant code, whose best message is the mean, the median, ….
    loss: d, one of `squared`, `absolute`, `huber`, `bernoulli`, or a function of each coordinate.
    net: `mlp` (hidden = widths, `()` is affine) or `conv` (hidden = channels); encoder, decoder: modules of
    your own, (B, *shape) -> (B, latent_dim) and back.
    Source: Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", 2006.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape, least=0)
    phi = encoder_network(net, encoder, shape, latent_dim, hidden, seed)
    psi = decoder_network(net, decoder, latent_dim, shape, hidden, seed)
    decoder_of = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(statistics, latent_dim, Dirac(phi, statistics), decoder_of, objective=nll)


@models.register
def vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    likelihood: Distortion = "gaussian",
    beta: float = 1.0,
    warmup: float = 0.0,
    free_bits: float = 0.0,
    samples: int = 1,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Variational autoencoder: min E_q[−ln p(x|z)] + β KL(q(z|x) ‖ N(0, I)), z = μ + σ ε.

    likelihood: `gaussian` (σ learned), `gaussian:0.1`, `gaussian:optimal`, or `bernoulli` (data in [0, 1]).
    beta: weight of the KL; warmup: epochs over which it rises from 0; free_bits: nats a latent coordinate
    may carry for free; samples: draws of z a row. net, hidden, encoder, decoder: as in `ae`; an encoder of
    your own gives (B, 2 latent_dim): μ, then ln σ.
    Source: Kingma & Welling, "Auto-encoding variational Bayes", 2013, eq. 10; β: Higgins et al., 2017.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_count(samples)
    check_weights(beta=beta, warmup=warmup, free_bits=free_bits)
    phi = encoder_network(net, encoder, shape, 2 * latent_dim, hidden, seed)
    psi = decoder_network(net, decoder, latent_dim, shape, hidden, seed)
    return LatentModel(
        statistics,
        latent_dim,
        NormalEncoder(phi, statistics),
        parts.likelihood(likelihood, psi, shape, statistics),
        prior=StandardPrior(latent_dim),
        objective=nll + _weight(beta, warmup) * (parts.free_bits(free_bits) if free_bits else rate),
        samples=samples,
    )


def _weight(beta: float, epochs: float) -> float | parts.warmup:
    return parts.warmup(beta, epochs) if epochs else beta
