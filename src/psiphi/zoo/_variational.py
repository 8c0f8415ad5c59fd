"""Variational autoencoders: posteriors, priors and bounds to choose from, and models of labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import nn

from psiphi import parts
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import forked
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.models import LabelledModel, LatentModel
from psiphi.models._base import check_count
from psiphi.models._labelled import label_nll, labelled, unlabelled
from psiphi.parts import NormalEncoder, Objective, StandardPrior, Statistics, nll, rate
from psiphi.parts.labelled import LabelledDecoder, LabelledEncoder
from psiphi.zoo._build import (
    Distortion,
    check_classes,
    check_latent,
    check_weights,
    encoder_network,
    networks,
)
from psiphi.zoo._tables import Table, data_of


@models.register
def vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    likelihood: Distortion = "gaussian",
    posterior: str = "diagonal",
    prior: str = "standard",
    beta: float = 1.0,
    warmup: float = 0.0,
    free_bits: float = 0.0,
    samples: int = 1,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    columns: Table = None,
    seed: int = 0,
) -> LatentModel:
    """Variational autoencoder: min E_q[−ln p(x|z)] + β KL(q(z|x) ‖ p(z)), z = μ + σ ε.

    likelihood: `gaussian` (σ learned), `gaussian:0.1`, `gaussian:optimal`, or `bernoulli` (data in [0, 1]).
    posterior: `diagonal`, `full` (z = μ + L ε), or a flow, `autoregressive` or `coupling`; prior: `standard`,
    `mixture:16`, `vamp:16` or `flow`. beta: weight of the KL; warmup: epochs over which it rises from 0; free_bits:
    nats a latent coordinate may carry for free; samples: draws of z a row. The rest as in `ae`; an encoder of
    your own gives (B, 2 latent_dim): μ, then ln σ, or as many numbers as the posterior reads. columns: of a table,
    `data.columns`, or category counts such as (0, 0, 3), 0 = a number: each column has its own likelihood, learned,
    and what is missing (NaN) is left out of it.
    Source: Kingma & Welling, "Auto-encoding variational Bayes", 2013, eq. 10; β: Higgins et al., 2017.
    """
    shape, data = as_shape(shape), data_of(as_shape(shape), columns, prior)
    check_latent(latent_dim, shape)
    check_count(samples)
    cost = _cost(beta, warmup, free_bits, plain=(posterior, prior) == ("diagonal", "standard"))
    phi, psi = networks(
        data.seen, latent_dim, parts.outputs(posterior, latent_dim), net=net, hidden=hidden, activation=activation,
        encoder=encoder, decoder=decoder, seed=seed, told=data.told,
    )  # fmt: skip
    with forked(seed, "flow"):
        q = parts.posterior(posterior, data.encoder(phi), data.statistics, latent_dim)
        p_z = parts.prior(prior, latent_dim, q, data.statistics)
    p = data.decoder(likelihood, psi)
    return LatentModel(data.statistics, latent_dim, q, p, prior=p_z, objective=nll + cost, samples=samples)


@models.register
def iwae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    samples: int = 5,
    likelihood: Distortion = "gaussian",
    posterior: str = "diagonal",
    prior: str = "standard",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    columns: Table = None,
    seed: int = 0,
) -> LatentModel:
    """Importance-weighted autoencoder: max E ln (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x), K = samples.

    A bound between the ELBO (K = 1) and ln p(x), tighter with every K. The rest as in `vae`; with columns= and gaps
    it is MIWAE (Mattei & Frellsen, 2019).
    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """
    shape, data = as_shape(shape), data_of(as_shape(shape), columns, prior)
    check_latent(latent_dim, shape)
    check_count(samples)
    phi, psi = networks(
        data.seen, latent_dim, parts.outputs(posterior, latent_dim), net=net, hidden=hidden, activation=activation,
        encoder=encoder, decoder=decoder, seed=seed, told=data.told,
    )  # fmt: skip
    with forked(seed, "flow"):
        q = parts.posterior(posterior, data.encoder(phi), data.statistics, latent_dim)
        p_z = parts.prior(prior, latent_dim, q, data.statistics)
    p = data.decoder(likelihood, psi)
    return LatentModel(data.statistics, latent_dim, q, p, prior=p_z, objective=parts.bound, samples=samples)


@models.register
def supervised_vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    classes: int = 10,
    *,
    gamma: float = 10.0,
    likelihood: Distortion = "gaussian",
    beta: float = 1.0,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Supervised VAE: max ELBO(x) + γ E_q ln q(y|z), q(y|z) a softmax of an affine map of the code; `predict` reads it.

    classes: labels are 0 to classes − 1; gamma: γ, 0 leaves a VAE; rows with y = −1 count for the ELBO alone. The
    rest as in `vae`.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(gamma=gamma, beta=beta)
    phi, psi = networks(
        shape, latent_dim, 2 * latent_dim, net=net, hidden=hidden, activation=activation,
        encoder=encoder, decoder=decoder, seed=seed,
    )  # fmt: skip
    with forked(seed, "head"):
        head = nn.Linear(latent_dim, check_classes(classes))
    q, p = NormalEncoder(phi, statistics), parts.likelihood(likelihood, psi, shape, statistics)
    objective = nll + beta * rate + gamma * parts.label_nll(head)
    return LatentModel(
        statistics, latent_dim, q, p, prior=StandardPrior(latent_dim), objective=objective, head=head
    )


@models.register
def conditional_vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    classes: int = 10,
    *,
    likelihood: Distortion = "gaussian",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    seed: int = 0,
) -> LabelledModel:
    """Conditional VAE: max E_q ln p(x|z, y) − KL(q(z|x, y) ‖ N(0, I)) for labelled data.

    classes: labels are 0 to classes − 1; `sample(n, y=3)` draws one of them. Other verbs take y or do without: then
    the label is inferred by Bayes' rule, and `predict` gives it. The rest as in `vae`.
    Source: Sohn, Lee, Yan, "Learning structured output representation using deep conditional generative
    models", 2015, with a prior that does not depend on y.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    q, p = _labelled(
        shape, latent_dim, check_classes(classes), likelihood, net, hidden, activation, seed, statistics
    )
    return LabelledModel(
        statistics, latent_dim, classes, q, p, StandardPrior(latent_dim), objective=1.0 * labelled
    )


@models.register
def semi_supervised_vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    classes: int = 10,
    *,
    alpha: float = 50.0,
    likelihood: Distortion = "gaussian",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    seed: int = 0,
) -> LabelledModel:
    """M2: min Σ_labelled [−L(x, y) − α ln q(y|x)] + Σ_unlabelled [−U(x)], U(x) = Σ_y q(y|x) L(x, y) + H(q(y|x)).

    classes: labels are 0 to classes − 1, and −1 for unknown. alpha: α, a labelled row's; the paper's is
    0.1 N / N_labelled. On the codes of another model (fit it to `other.encode(x)`) it is the paper's M1+M2. The rest
    as in `conditional_vae`.
    Source: Kingma, Rezende, Mohamed, Welling, "Semi-supervised learning with deep generative models", 2014, eq. 9.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(alpha=alpha)
    q, p = _labelled(
        shape, latent_dim, check_classes(classes), likelihood, net, hidden, activation, seed, statistics
    )
    judge = encoder_network(net, None, shape, classes, hidden, seed + 1, activation)
    return LabelledModel(
        statistics, latent_dim, classes, q, p, StandardPrior(latent_dim),
        objective=labelled + unlabelled + alpha * label_nll, classifier=judge,
    )  # fmt: skip


def _labelled(
    shape: tuple[int, ...],
    latent_dim: int,
    classes: int,
    likelihood: Distortion,
    net: str,
    hidden: Sequence[int] | None,
    activation: str,
    seed: int,
    statistics: Statistics,
) -> tuple[LabelledEncoder, LabelledDecoder]:
    """q(z|x, y) and p(x|z, y): the label is told as further channels or numbers."""
    planes = net == "conv"
    told = (shape[0] + classes, *shape[1:]) if planes else (prod(shape) + classes,)
    how = dict(net=net, hidden=hidden, activation=activation, encoder=None, decoder=None, seed=seed)
    phi, _ = networks(told, latent_dim, 2 * latent_dim, **how)  # pyright: ignore[reportArgumentType]
    _, psi = networks(shape, latent_dim + classes, **how)  # pyright: ignore[reportArgumentType]
    p = parts.likelihood(likelihood, psi, shape, statistics)
    return LabelledEncoder(phi, statistics, planes), LabelledDecoder(p)


def _cost(beta: float, warmup: float, free_bits: float, plain: bool) -> Objective:
    """β KL with its warm-up and free bits; `plain`: a diagonal posterior and a standard prior."""
    check_weights(beta=beta, warmup=warmup, free_bits=free_bits)
    if free_bits and not plain:
        raise ArgumentError(
            "free_bits are counted by coordinate: they need a diagonal posterior and a standard prior."
        )
    weight = parts.warmup(beta, warmup) if warmup else beta
    return weight * (parts.free_bits(free_bits) if free_bits else rate)
