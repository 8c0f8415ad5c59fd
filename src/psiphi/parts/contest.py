"""Contests: what a critic compares in a pass of a latent-variable model, and the terms that read its verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import DataError
from psiphi.basis.noise import Noise
from psiphi.formulas.kernels import mmd2
from psiphi.parts.clock import Clock
from psiphi.parts.critic import Critic, Losses
from psiphi.parts.objective import Term, term
from psiphi.parts.player import Player, adam
from psiphi.parts.trace import LatentTrace

CRITIC = adam(1e-3, betas=(0.5, 0.9))


def untold(trace: LatentTrace) -> None:
    """No labels for the critic."""


@dataclass(frozen=True)
class Contest:
    """A critic and the two sides that it compares: sides(trace, noise) -> samples of the reference q, and of p.

    labels: trace -> what the critic is told of every row; steps: of the critic, a step of the model.
    """

    critic: Critic
    sides: Callable[[LatentTrace, Noise], tuple[Tensor, Tensor]]
    labels: Callable[[LatentTrace], Tensor | None] = untold
    optimizer: adam = CRITIC
    steps: int = 1
    name: str = "critic"

    def player(self, model: Any) -> Player:
        """The critic's side of training `model`."""

        def loss(module: nn.Module, batch: Any, clock: Clock) -> Losses:
            with torch.no_grad():
                trace = model.trace(batch.x, batch.noise, y=batch.y, decode=False)
                q, p = self.sides(trace, batch.noise.split(self.name))
            return self.critic.loss(q, p, batch.noise.split("critic"), clock, self.labels(trace))

        after = self.critic.lipschitz.after_step
        return Player(
            self.critic, loss, self.optimizer, self.steps, after_step=after, name=self.name, averaged=False
        )  # fmt: skip

    @property
    def term(self) -> Term:
        """What the model minimises against the critic, a mean over rows."""

        def adversarial(trace: LatentTrace) -> Tensor:
            q, p = self.sides(trace, _noise(trace).split(f"{self.name} of the model"))
            return trace.parts[self.name].generator_loss(q, p, self.labels(trace)).mean()

        return Term(f"against_{self.name}", adversarial, batch=True)


def _noise(trace: LatentTrace) -> Noise:
    assert trace.noise is not None
    return trace.noise


def codes(trace: LatentTrace, noise: Noise) -> tuple[Tensor, Tensor]:
    """Draws of the prior against the codes: (B, d) each."""
    return trace.prior.rsample(noise.split("prior"))[0], trace.z[0]


def part(where: slice) -> Callable[[LatentTrace, Noise], tuple[Tensor, Tensor]]:
    """`codes`, of these coordinates alone."""

    def sides(trace: LatentTrace, noise: Noise) -> tuple[Tensor, Tensor]:
        q, p = codes(trace, noise)
        return q[:, where], p[:, where]

    return sides


def labelled_codes(trace: LatentTrace, noise: Noise) -> tuple[Tensor, Tensor]:
    """Draws of the prior at each row's label, at any where it is unknown, against the codes."""
    any_of = noise.split("label").integers(trace.prior.classes)
    y = _labels(trace, trace.prior.classes)
    y = torch.where(y < 0, any_of, y)
    return trace.prior.given(y).rsample(noise.split("prior"))[0], trace.z[0]


def known(trace: LatentTrace) -> Tensor:
    """One-hot labels (B, classes), a row of zeros where the label is unknown."""
    y = _labels(trace, trace.prior.classes)
    return F.one_hot(y.clamp(min=0), trace.prior.classes) * (y >= 0)[:, None]


def _labels(trace: LatentTrace, classes: int) -> Tensor:
    """y, −1 unknown, (B,): all of them where there are none."""
    if trace.y is None:
        return torch.full(trace.z.shape[1:2], -1, device=trace.z.device)
    if int(trace.y.max()) >= classes:
        top = int(trace.y.max())
        raise DataError(
            f"labels reach {top}, the model has {classes} classes: build it with classes={top + 1}."
        )
    return trace.y


def shuffled(trace: LatentTrace, noise: Noise) -> tuple[Tensor, Tensor]:
    """Codes of one half of the rows against those of the other, every coordinate from another row: (B/2, d) each.

    Source: Kim & Mnih, "Disentangling by factorising", 2018, algorithm 1.
    """
    z = trace.z[0]
    whole, mixed = z.split([(len(z) + 1) // 2, len(z) // 2])
    order = noise.uniform(z.shape[1:])[: len(mixed)].argsort(0)
    return whole[: len(mixed)], mixed.gather(0, order)


def decoded(trace: LatentTrace, noise: Noise) -> tuple[Tensor, Tensor]:
    """Data against decoded codes, half of them the data's own, half the prior's; the encoder gets no gradient."""
    drawn = trace.prior.rsample(noise.split("prior"))[0]
    own = torch.arange(len(drawn), device=drawn.device) % 2 == 0
    return trace.x, trace.parts["decoder"](torch.where(own[:, None], trace.z[0].detach(), drawn)).mean


@term
def total_correlation(trace: LatentTrace) -> Tensor:
    """E_q ln q(z)/Π_j q_j(z_j) by the critic's log ratio, (B,)."""
    return trace.parts["critic"].log_ratio(trace.z[0])


def discrepancy(kernel: Callable[[Tensor], Tensor]) -> Term:
    """MMD² between the codes and as many draws of the prior, unbiased.

    Source: Tolstikhin et al., "Wasserstein auto-encoders", 2018, algorithm 2.
    """

    def mmd(trace: LatentTrace) -> Tensor:
        q, p = codes(trace, _noise(trace).split("mmd"))
        return mmd2(q, p, kernel)

    return Term("mmd", mmd, batch=True)


@term
def feature_nll(trace: LatentTrace) -> Tensor:
    """½‖D_l(x) − D_l(x̂)‖², D_l the critic's last hidden layer, (B,): −ln N(D_l(x); D_l(x̂), I) up to a constant.

    Source: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016, eq. 7.
    """
    critic = trace.parts["critic"]
    seen, made = critic.network[:-1](critic.units(torch.cat([trace.x, trace.p.mean[0]]))).chunk(2)
    return 0.5 * (seen - made).flatten(1).square().sum(1)


def class_nll(classes: int) -> Term:
    """−ln q(y|x) of rows whose label is known, 0 for the others, (B,); ln q(y|x) is the layer of a `OneHotDirac`."""

    def class_nll(trace: LatentTrace) -> Tensor:
        y = _labels(trace, classes)
        own = trace.q.layers[0].gather(1, y.clamp(min=0)[:, None]).squeeze(1)
        return torch.where(y >= 0, -own, 0)

    return Term("class_nll", class_nll)
