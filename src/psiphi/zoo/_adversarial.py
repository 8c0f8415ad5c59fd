"""Generative adversarial networks: a generator, a critic of its samples, and the game between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from psiphi.basis.registry import models
from psiphi.basis.shapes import Shape, as_shape
from psiphi.models import Generator
from psiphi.parts import StandardPrior, Statistics, adam
from psiphi.parts.slope import clipping, gradient_penalty
from psiphi.zoo._build import check_ema, check_latent, check_whole, critic_of, decoder_network, positive


@models.register
def gan(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    game: str = "non-saturating",
    lipschitz: str = "r1+r2:0.1",
    pack: int = 1,
    steps: int = 1,
    classes: int = 0,
    ema: float | None = 0.999,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    lr: float = 2e-4,
    seed: int = 0,
) -> Generator:
    """Generative adversarial network: min over ψ of D(p(x), q(x)), x = ψ(z), D by a critic that plays `game`.

    game: `non-saturating`, `minimax`, `relativistic`, `wasserstein`, `hinge` or `least squares`; lipschitz: `none`,
    as in the original, or another of `aae`; pack: samples that the critic judges together; steps: of the critic,
    one of the generator; classes: labels that both are told, `sample(y=…)` draws one; ema: decay of the average of
    the generator's weights, which it is returned with; activation: the generator's; lr: Adam's, of both sides;
    generator, critic: modules of your own,
    (B, latent_dim + classes) -> (B, *shape) and (n, pack·(d + classes)) or (n, pack·(C + classes), H, W) -> (n, 1).
    Source: Goodfellow et al., "Generative adversarial nets", 2014, algorithm 1; packing: Lin et al., "PacGAN", 2018.
    """
    return _adversary(
        as_shape(shape), latent_dim, game, lipschitz, pack, steps, classes, ema, net, hidden, activation,
        generator, critic, adam(lr, betas=(0.5, 0.9)), seed,
    )  # fmt: skip


@models.register
def wgan(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    bound: float = 0.1,
    pack: int = 1,
    steps: int = 5,
    classes: int = 0,
    ema: float | None = 0.999,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    lr: float = 2e-4,
    seed: int = 0,
) -> Generator:
    """Wasserstein GAN: min over ψ of max over f of E_q f − E_p f, f's weights clipped.

    bound: weights lie within ±bound after each step of the critic. The rest as in `gan`.

    Source: Arjovsky, Chintala, Bottou, "Wasserstein GAN", 2017, algorithm 1.
    """
    bounded = clipping(positive("bound", bound))
    return _adversary(
        as_shape(shape), latent_dim, "wasserstein", bounded, pack, steps, classes, ema, net, hidden,
        activation, generator, critic, adam(lr, betas=(0.5, 0.9)), seed,
    )  # fmt: skip


@models.register
def wgan_gp(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    weight: float = 10.0,
    pack: int = 1,
    steps: int = 5,
    classes: int = 0,
    ema: float | None = 0.999,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    lr: float = 2e-4,
    seed: int = 0,
) -> Generator:
    """Wasserstein GAN with gradient penalty: max over f of E_q f − E_p f − λ E (‖∇f(x̂)‖ − 1)².

    weight: λ; norms are per sample, x̂ is on the segment of each pair, with one mixing weight a sample. The
    rest as in `gan`.
    Source: Gulrajani et al., "Improved training of Wasserstein GANs", 2017, algorithm 1.
    """
    bounded = gradient_penalty(positive("weight", weight))
    return _adversary(
        as_shape(shape), latent_dim, "wasserstein", bounded, pack, steps, classes, ema, net, hidden,
        activation, generator, critic, adam(lr, betas=(0.0, 0.9)), seed,
    )  # fmt: skip


def _adversary(
    shape: Shape,
    latent_dim: int,
    game: str,
    lipschitz: Any,
    pack: int,
    steps: int,
    classes: int,
    ema: float | None,
    net: str,
    hidden: Sequence[int] | None,
    activation: str,
    generator: nn.Module | None,
    critic: nn.Module | None,
    optimizer: adam,
    seed: int,
) -> Generator:
    statistics = Statistics(shape)
    check_latent(latent_dim, None)
    classes = check_whole("classes", classes, 0)
    positive("lr", optimizer.lr)
    psi = decoder_network(net, generator, latent_dim + classes, shape, hidden, seed, activation, "generator")
    judge = critic_of(
        net, critic, shape, hidden, seed, game, lipschitz, statistics=statistics, pack=pack, classes=classes
    )  # fmt: skip
    return Generator(
        statistics, latent_dim, psi, judge, StandardPrior(latent_dim), classes=classes, optimizer=optimizer,
        steps=check_whole("steps", steps), ema=check_ema(ema),
    )  # fmt: skip
