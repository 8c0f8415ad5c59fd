"""Autoencoders whose codes, taken together, are matched to a prior: by a critic, or by a distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from psiphi import parts
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.formulas.kernels import inverse_multiquadratic
from psiphi.models import LatentModel
from psiphi.networks import First
from psiphi.parts import Contest, Dirac, NormalEncoder, StandardPrior, Statistics, adam, nll, rate
from psiphi.parts import contest as sides
from psiphi.parts.conditional import OneHotDirac
from psiphi.parts.priors import ModesPrior, OneHotPrior
from psiphi.zoo._build import (
    Distortion,
    check_classes,
    check_latent,
    check_weights,
    check_whole,
    critic_of,
    networks,
)

AVERAGE = 0.995  # decay of the weights' average: models that play against a critic circle otherwise
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def _kernel(latent_dim: int) -> Any:
    return inverse_multiquadratic([(2 * latent_dim * scale) ** 0.5 for scale in SCALES])


@models.register
def aae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    weight: float = 1.0,
    classes: int = 0,
    game: str = "non-saturating",
    lipschitz: str = "none",
    steps: int = 1,
    loss: Distortion = "squared",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    critic: nn.Module | None = None,
    critic_hidden: Sequence[int] = (128, 128),
    seed: int = 0,
) -> LatentModel:
    """Adversarial autoencoder: min E d(x, ψ(φ(x))) + λ D(q(z), p(z)), D by a critic that plays `game`.

    weight: λ; classes: the prior has a mode for each, which rows of a known label are to fill (y = −1: any mode),
    and `sample(y=…)` draws from one; 0: p(z) = N(0, I). game: `non-saturating`, `minimax`, `relativistic`,
    `wasserstein`, `hinge` or `least squares`; lipschitz: `none`, `clip:0.01`, `gp:10`, `r1:1`, `r2:1`, `r1+r2:1`
    or `spectral`; steps: of the critic, one of the autoencoder; critic: a module of your own, (B, latent_dim +
    classes) -> (B, 1), or critic_hidden, its widths. The rest as in `ae`.
    Source: Makhzani et al., "Adversarial autoencoders", 2015, sections 2 and 2.3.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(weight=weight)
    classes = check_whole("classes", classes, 0)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder, seed=seed
    )  # fmt: skip
    judge = critic_of("mlp", critic, (latent_dim,), critic_hidden, seed, game, lipschitz, classes=classes)
    compared, labels = (sides.labelled_codes, sides.known) if classes else (sides.codes, sides.untold)
    contest = Contest(judge, compared, labels, steps=check_whole("steps", steps))
    prior = ModesPrior(latent_dim, check_classes(classes)) if classes else StandardPrior(latent_dim)
    p = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(
        statistics, latent_dim, Dirac(phi, statistics), p, prior=prior, objective=nll + weight * contest.term,
        contests=[contest], ema=AVERAGE,
    )  # fmt: skip


@models.register
def waae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    weight: float = 10.0,
    lipschitz: str = "gp:10",
    steps: int = 5,
    loss: Distortion = "squared",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    critic: nn.Module | None = None,
    critic_hidden: Sequence[int] = (128, 128),
    seed: int = 0,
) -> LatentModel:
    """Wasserstein adversarial autoencoder: min E d(x, ψ(φ(x))) + λ W₁(q(z), p(z)), W₁ by a critic of bounded slope.

    `aae` with the game `wasserstein`. weight: λ; lipschitz: what bounds the slope. The rest as in `aae`.
    Source: Makhzani et al., 2015, with the game of Arjovsky, Chintala, Bottou, "Wasserstein GAN", 2017, eq. 2.
    """
    return aae(
        shape, latent_dim, weight=weight, game="wasserstein", lipschitz=lipschitz, steps=steps, loss=loss, net=net,
        hidden=hidden, activation=activation, encoder=encoder, decoder=decoder, critic=critic,
        critic_hidden=critic_hidden, seed=seed,
    )  # fmt: skip


@models.register
def semi_supervised_aae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    classes: int = 10,
    *,
    weight: float = 1.0,
    gamma: float = 10.0,
    loss: Distortion = "squared",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    critic_hidden: Sequence[int] = (128, 128),
    seed: int = 0,
) -> LatentModel:
    """Adversarial autoencoder with the code (y, z): y a class, pushed to one-hot codes, z the style, pushed to N(0, I).

    gamma: weight of −ln q(y|x) on rows whose label is known. Without labels it is a clusterer of `classes`
    clusters, which `predict` names; `sample(y=…)` draws one of them. weight: of both critics; critic_hidden: their
    widths. The code has classes + latent_dim numbers. The rest as in `ae`.
    Source: Makhzani et al., "Adversarial autoencoders", 2015, sections 4 and 5.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(weight=weight, gamma=gamma)
    classes = check_classes(classes)
    phi, psi = networks(
        shape, classes + latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder,
        seed=seed,
    )  # fmt: skip
    how: Any = dict(hidden=critic_hidden, game="non-saturating", lipschitz="none")
    of_class, of_style = (
        Contest(
            critic_of("mlp", None, (width,), seed=seed + i, **how), sides.part(where), name=f"{name}_critic"
        )
        for i, (name, width, where) in enumerate(
            (("class", classes, slice(None, classes)), ("style", latent_dim, slice(classes, None)))
        )
    )
    objective = nll + weight * of_class.term + weight * of_style.term + gamma * sides.class_nll(classes)
    p = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(
        statistics, classes + latent_dim, OneHotDirac(phi, statistics, classes), p, objective=objective,
        prior=OneHotPrior(classes, latent_dim), head=First(classes), contests=[of_class, of_style], ema=AVERAGE,
    )  # fmt: skip


@models.register
def wae_mmd(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    weight: float = 30.0,
    loss: Distortion = "squared",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Wasserstein autoencoder: min E d(x, ψ(φ(x))) + λ MMD²(q(z), p(z)), without a critic.

    weight: λ; the kernel is the mean of inverse multiquadratics s²/(s² + ‖z − z'‖²) with s² = 2d · 0.1, …, 10,
    2d being the mean squared distance of two draws of N(0, I). The rest as in `ae`.
    Source: Tolstikhin et al., "Wasserstein auto-encoders", 2018, algorithm 2.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(weight=weight)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder, seed=seed
    )  # fmt: skip
    p = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(
        statistics, latent_dim, Dirac(phi, statistics), p, prior=StandardPrior(latent_dim),
        objective=nll + weight * sides.discrepancy(_kernel(latent_dim)),
    )  # fmt: skip


@models.register
def info_vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    alpha: float = 0.0,
    weight: float = 100.0,
    likelihood: Distortion = "gaussian",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """InfoVAE: min E_q[−ln p(x|z)] + (1 − α) KL(q(z|x) ‖ p(z)) + (α + λ − 1) MMD²(q(z), p(z)).

    alpha: α ≤ 1, 1 leaves mutual information unpunished, and with it λ alone is the weight of MMD²; weight: λ ≥
    1 − α; the kernel as in `wae_mmd`, the rest as in `vae`.
    Source: Zhao, Song, Ermon, "InfoVAE: balancing learning and inference", 2019, eq. 6.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(**{"1 - alpha": 1 - alpha, "alpha + weight - 1": alpha + weight - 1})
    phi, psi = networks(
        shape, latent_dim, 2 * latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder,
        decoder=decoder, seed=seed,
    )  # fmt: skip
    q, p = NormalEncoder(phi, statistics), parts.likelihood(likelihood, psi, shape, statistics)
    mmd = sides.discrepancy(_kernel(latent_dim))
    objective = nll + (1 - alpha) * rate + (alpha + weight - 1) * mmd
    return LatentModel(statistics, latent_dim, q, p, prior=StandardPrior(latent_dim), objective=objective)


@models.register
def factor_vae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    gamma: float = 10.0,
    likelihood: Distortion = "gaussian",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    critic: nn.Module | None = None,
    critic_hidden: Sequence[int] = (128, 128),
    seed: int = 0,
) -> LatentModel:
    """FactorVAE: min −ELBO + γ TC(q(z)), TC = KL(q(z) ‖ Π_j q(z_j)) by a critic's log ratio.

    gamma: γ; critic, critic_hidden: as in `aae`. The rest as in `vae`.
    Source: Kim & Mnih, "Disentangling by factorising", 2018, eq. 2.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(gamma=gamma)
    phi, psi = networks(
        shape, latent_dim, 2 * latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder,
        decoder=decoder, seed=seed,
    )  # fmt: skip
    q, p = NormalEncoder(phi, statistics), parts.likelihood(likelihood, psi, shape, statistics)
    judge = critic_of("mlp", critic, (latent_dim,), critic_hidden, seed, "minimax", "none")
    objective = nll + rate + gamma * sides.total_correlation
    return LatentModel(
        statistics, latent_dim, q, p, prior=StandardPrior(latent_dim), objective=objective,
        contests=[Contest(judge, sides.shuffled)],
    )  # fmt: skip


@models.register
def vae_gan(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    weight: float = 1.0,
    game: str = "non-saturating",
    lipschitz: str = "r1:1",
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    critic: nn.Sequential | None = None,
    seed: int = 0,
) -> LatentModel:
    """VAE/GAN: min KL(q(z|x) ‖ p(z)) + ½‖D_l(x) − D_l(x̂)‖² + λ (the decoder's loss against the critic D).

    D_l: the critic's last hidden layer, so that the error is one of features; the encoder gets no gradient from the
    critic's verdict. weight: λ, 1/γ of the paper; game, lipschitz: as in `aae`; critic: an `nn.Sequential` of your
    own whose last layer gives the score. The rest as in `vae`.
    Source: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016, algorithm 1.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(weight=weight)
    phi, psi = networks(
        shape, latent_dim, 2 * latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder,
        decoder=decoder, seed=seed,
    )  # fmt: skip
    if critic is not None and not isinstance(critic, nn.Sequential):
        given = type(critic).__name__
        raise ArgumentError(
            f"vae_gan reads a critic's last hidden layer: pass an nn.Sequential; got {given}."
        )
    judge = critic_of(net, critic, shape, hidden, seed, game, lipschitz, statistics=statistics)
    q, p = NormalEncoder(phi, statistics), parts.likelihood("squared", psi, shape, statistics)
    contest = Contest(judge, sides.decoded, optimizer=adam(2e-4, betas=(0.5, 0.9)))
    objective = rate + sides.feature_nll + weight * contest.term
    return LatentModel(
        statistics, latent_dim, q, p, prior=StandardPrior(latent_dim), objective=objective, contests=[contest]
    )  # fmt: skip
