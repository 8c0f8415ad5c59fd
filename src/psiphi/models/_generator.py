"""Generators: models that only draw, x = ψ(z), trained against a critic of their samples."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import as_batch
from psiphi.models._base import (
    CHUNK_NUMBERS,
    Model,
    check_count,
    check_unlabelled,
    one_each,
    slices,
    steady,
    verb,
)
from psiphi.models._search import nearest_code
from psiphi.parts import Batch, Clock, Critic, Player, Statistics, adam

DRAWS = 64  # a label, to start a search from
HELD = 16  # numbers that a network holds for each that it gives


class Generator(Model):
    """z ~ p(z), x = mean + σ_data ψ(z, y): samples without a density, judged by a critic.

    network: z, or z and the one-hot y -> (B, *shape); classes: labels that generator and critic are told, 0 for
    none; steps: of the critic, one of the generator; ema: decay of the average of the generator's weights.
    """

    lacks: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("log_prob", "anomaly_score"), "it draws samples and has no density"),
        **dict.fromkeys(("encode", "posterior", "reconstruct"), "it has no encoder"),
    }

    def __init__(
        self,
        statistics: Statistics,
        latent_dim: int,
        network: nn.Module,
        critic: Critic,
        prior: nn.Module,
        *,
        classes: int = 0,
        optimizer: adam = adam(),  # noqa: B008  a frozen value
        critic_optimizer: adam | None = None,
        steps: int = 1,
        ema: float | None = None,
    ):
        super().__init__(statistics)
        self.latent_dim, self.classes = latent_dim, classes
        self.network, self.critic, self.prior = network, critic, prior
        self.optimizer, self.critic_optimizer = optimizer, critic_optimizer or optimizer
        self.steps, self.ema = steps, ema

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """ψ: (B, d) -> (B, *shape)."""
        told = z if y is None else torch.cat([z, F.one_hot(y, self.classes).to(z.dtype)], 1)
        return self.statistics.inverse(self.network(told))

    def drawn(self, noise: Noise, y: Tensor | None = None) -> Tensor:
        """A sample a row of the noise."""
        return self(self.prior().rsample(noise.split("z"))[0], y)

    def players(self) -> list[Player]:
        after = self.critic.lipschitz.after_step
        return [
            Player(
                self.critic, self._judged, self.critic_optimizer, self.steps, after_step=after, name="critic",
                averaged=False, least=max(2, self.critic.pack),
            ),
            Player(self.network, self._judging, self.optimizer, ema=self.ema, name="generator"),
        ]  # fmt: skip

    def _judged(self, critic: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        y = self._told(batch)
        with torch.no_grad():
            p = self.drawn(batch.noise.split("critic"), y)
        return self.critic.loss(batch.x, p, batch.noise, clock, y)

    def _judging(self, network: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        y = self._told(batch)
        p = self.drawn(batch.noise.split("generator"), y)
        return {"loss": self.critic.generator_loss(batch.x, p, y).mean()}

    def _told(self, batch: Batch) -> Tensor | None:
        if not self.classes:
            return None
        if batch.y is None or int(batch.y.min()) < 0 or int(batch.y.max()) >= self.classes:
            raise DataError(
                f"{self.title} was built with {self.classes} classes and needs a label of 0 to {self.classes - 1} for "
                f"every row: pass y."
            )
        return batch.y

    @verb
    def decode(self, z: Any, y: Any = None) -> Tensor:
        """ψ(z, y), (B, d) -> (B, *shape), of one label or one each; without y the mean over labels."""
        z = torch.as_tensor(z)
        if not self.classes:
            check_unlabelled(self, y)
        if y is None:
            return self._map(self._decode, z, (self.latent_dim,), "z")
        told = torch.cat([z, one_each(y, len(z), self.classes)[:, None].to(z)], 1)
        shape = (self.latent_dim + 1,)
        return self._map(lambda part: self(part[:, :-1], part[:, -1].long()), told, shape, "z")

    def _decode(self, z: Tensor) -> Tensor:
        if not self.classes:
            return self(z)
        labels = torch.arange(self.classes, device=z.device)
        return torch.stack([self(z, y.expand(len(z))) for y in labels]).mean(0)

    @verb
    def sample(self, n: int, *, seed: int = 0, y: Any = None, exact: bool = False) -> Tensor:
        """n draws ψ(z), z ~ p(z), of label y (one, or one each; all alike unless given); `exact` has no effect.

        Draw i of a seed is the same whatever n.
        """
        noise = Noise.of(seed, check_count(n), self.device, self.dtype)
        if not self.classes:
            check_unlabelled(self, y)
            label = None
        elif y is None:
            label = noise.split("y").integers(self.classes)
        else:
            label = one_each(y, n, self.classes).to(self.device)
        rows = slices(n, prod(self.shape))
        return torch.cat([self.drawn(noise.take(i), None if label is None else label[i]) for i in rows])

    @verb
    def project(
        self, x: Any, *, y: Any = None, steps: int = 200, restarts: int = 4, lr: float = 0.1, seed: int | Noise = 0
    ) -> Tensor:  # fmt: skip
        """The nearest of what it can draw, ψ(z*), z* = argmin over z of ‖ψ(z) − x‖²: (B, *shape) -> (B, *shape).

        `steps` of Adam from each of the `restarts` prior draws nearest to x, the best end kept. seed: of the draws,
        the same for every row, so that none depends on its batch; or the noise of each row, which then has draws of
        its own. y: labels, one or one each; all compete unless given. Differentiable through the search, see
        `nearest_code`; units are the network's, of data with σ = 1.
        """
        x = as_batch(x, self.shape)
        self.check_rows(x)
        if not self.classes:
            check_unlabelled(self, y)
        if not 0 < lr < float("inf"):
            raise ArgumentError(f"a search needs a finite lr > 0; got {lr!r}.")
        how = dict(steps=check_count(steps, "steps"), restarts=check_count(restarts, "restarts"), lr=lr)
        if y is None:
            return self._nearest(x, seed, None, how)
        y = one_each(y, len(x), self.classes).to(x.device)
        found = x.new_zeros(x.shape, dtype=self.dtype)
        for label in y.unique().tolist():
            mine = y == label
            own = seed.take(mine.nonzero().squeeze(1)) if isinstance(seed, Noise) else seed
            part = self._nearest(x[mine], own, label, how)
            found = found.masked_scatter(mine.view(-1, *[1] * len(self.shape)), part.to(found))
        return found

    def _starts(self, seed: int | Noise, label: int | None) -> Tensor:
        """What the network takes, drawn for a search: (M, d + classes), or (B, M, d + classes) of the noise of B rows.

        Every label as often, unless one is given.
        """
        many = DRAWS * max(4, self.classes)
        if isinstance(seed, Noise):
            z = self.prior().rsample(seed.split("z"), many).transpose(0, 1)
        else:
            z = self.prior().rsample(Noise.of(seed, many, self.device, self.dtype).split("z"))[0]
        if not self.classes:
            return z
        y = torch.arange(many, device=z.device) % self.classes
        told = F.one_hot(y if label is None else torch.full_like(y, label), self.classes).to(z)
        return torch.cat([z, told.expand(*z.shape[:-1], -1)], -1)

    def _nearest(self, x: Tensor, seed: int | Noise, label: int | None, how: dict[str, Any]) -> Tensor:
        decode, parts = steady(self, self.network), []
        size = max(64, CHUNK_NUMBERS // (HELD * how["restarts"] * prod(self.shape)))
        shared = None if isinstance(seed, Noise) else self._starts(seed, label)
        for i in range(0, max(1, len(x)), size):
            u = self.statistics(x[i : i + size].to(self.device, self.dtype))
            starts = self._starts(seed.take(slice(i, i + size)), label) if shared is None else shared  # pyright: ignore[reportAttributeAccessIssue]
            found = nearest_code(decode, u, starts, free=self.latent_dim, **how)
            parts.append(self.statistics.inverse(found.point).to(x.device))
        return torch.cat(parts)
