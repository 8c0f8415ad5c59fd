"""Divergences measured by a learnt critic, and how far off it is known to be."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from math import nan
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, forked, mix
from psiphi.data.statistics import measure
from psiphi.divergences._density import density
from psiphi.divergences._estimate import Estimate
from psiphi.divergences._sides import count, is_density, same_size, samples
from psiphi.formulas.games import Game, minimax
from psiphi.formulas.penalties import between, squared_slope
from psiphi.networks import MLP
from psiphi.parts import Batch, Clock, Critic, Lipschitz, Player, Statistics, adam
from psiphi.training import fit
from psiphi.training.schedules import cosine

HELD_OUT = 0.2
Draw = Callable[[int, Noise], Tensor]


@dataclass(frozen=True)
class learnt:
    """How a critic is trained to tell p from q; `divergences.by_critic` does it.

    game, lipschitz: what it plays, and what bounds its slope; hidden, activation: of its network, or network: one of
    your own, (n, pack·d) -> (n, 1), which is copied; steps, batch_size, lr: of Adam with a cosine schedule; fresh:
    draws to judge by. Smooth units keep the largest slope near the typical one.
    """

    game: Game = minimax
    lipschitz: Lipschitz = field(default_factory=Lipschitz)
    hidden: tuple[int, ...] = (64, 64)
    activation: Callable[[], nn.Module] = nn.Tanh
    network: nn.Module | None = None
    pack: int = 1
    steps: int = 1000
    batch_size: int = 512
    lr: float = 3e-3
    fresh: int = 50_000


@dataclass(frozen=True)
class Judgement(Estimate):
    """A critic's estimate on draws that it was not trained on; for the Wasserstein game the raw gap over the slope.

    raw: the game's own value, which for the Wasserstein game is at most K W₁, K the critic's slope; slope: the
    largest ‖∇f‖ found over those draws and the segments between them, f and x in the same units; critic: itself.
    """

    raw: float = nan
    slope: float = nan
    critic: Any = None

    def log_ratio(self, x: Any) -> Tensor:
        """ln p(x)/q(x) of each row, (n,); `MissingVerb` where the game's optimum is not p/(p + q)."""
        rows = samples(x).to(next(self.critic.parameters()).dtype)
        with torch.no_grad():
            return self.critic.log_ratio(rows)

    def as_dict(self) -> dict[str, Any]:
        kept = ("value", "standard_error", "how", "raw", "slope")
        return {name: getattr(self, name) for name in kept}


class _Trial(nn.Module):
    """What `fit` trains: a critic of pairs, x (B, 2, d), one of p and one of q."""

    title, device, dtype = "critic", torch.device("cpu"), torch.float32  # of its draws, wherever `fit` works

    def __init__(self, critic: Critic, statistics: Statistics, how: learnt):
        super().__init__()
        self.critic, self.statistics, self.how = critic, statistics, how
        self.shape, self.recipe, self.provenance = (2, *statistics.shape), {}, {}

    def players(self) -> list[Player]:
        rule = adam(self.how.lr, betas=(0.9, 0.99), schedule=cosine())
        return [Player(self.critic, self._loss, rule, after_step=self.how.lipschitz.after_step)]

    def _loss(self, critic: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        p, q = batch.x.unbind(1)
        return self.critic.loss(p, q, batch.noise, clock)


def by_critic(p: Any, q: Any, how: learnt = learnt(), *, seed: int = 0) -> Judgement:
    """The divergence of p and q that a critic's game has, by a critic trained to tell them apart.

    p, q: densities or samplers, drawn anew at each step, or samples, a fifth of which are held out to judge by. On
    draws that it was not trained on the estimate is a lower bound in expectation: ½V + ln 2 ≤ JS, whatever the
    critic. A packed critic measures p^m against q^m.
    """
    one, held_one = _drawer(p, "p", seed)
    other, held_other = _drawer(q, "q", seed)
    n = min([how.fresh, *(len(x) for x in (held_one, held_other) if x is not None)])
    if not isinstance(n, Integral) or n < 2 * how.pack:
        kept = f"{how.fresh!r} fresh draws" if n == how.fresh else f"the {n} samples that are held out"
        raise ArgumentError(
            f"a critic of {how.pack} samples cannot be judged by {kept}, as an error needs at least {2 * how.pack}: "
            f"take fresh=50_000, or more samples."
        )
    with torch.no_grad():
        some = [draw(4096, Noise.of(seed, 4096).split("measure")) for draw in (one, other)]
        same_size(some[0].shape[1], some[1].shape[1])
        pooled = torch.cat(some)
    statistics = Statistics((pooled.shape[1],))
    statistics.load(measure(pooled))
    with forked(seed, "critic"):
        width = how.pack * pooled.shape[1]
        network = (
            deepcopy(how.network)
            if how.network is not None
            else MLP((width,), (1,), how.hidden, how.activation)
        )
        critic = Critic(network, how.game, how.lipschitz, statistics=statistics, pack=how.pack)

    def pairs(n: int, noise: Noise) -> Tensor:
        return torch.stack([one(n, noise.split("p")), other(n, noise.split("q"))], 1)

    trial = _Trial(critic, statistics, how)
    fit(trial, pairs, steps=how.steps, batch_size=how.batch_size, seed=seed, quiet=True)
    noise = Noise.of(mix(seed, "fresh"), how.fresh)
    x = one(n, noise.split("p")) if held_one is None else held_one[:n]
    y = other(n, noise.split("q")) if held_other is None else held_other[:n]
    return _judged(critic, x, y, noise, how, statistics.sigma)


def _judged(critic: Critic, x: Tensor, y: Tensor, noise: Noise, how: learnt, sigma: Tensor) -> Judgement:
    with torch.no_grad():
        terms = critic.divergence(x, y).double()
    raw, error = float(terms.mean()), float(terms.std() / len(terms) ** 0.5)
    packed = f" packs of {how.pack}" if how.pack > 1 else ""
    text = f"critic of the {how.game} game, {count(len(terms))}{packed} draws that it was not trained on"
    if how.game.name != "wasserstein":
        return Judgement(raw, error, text, raw=raw, critic=critic)
    u, v, score = critic.units(x), critic.units(y), critic.scorer(None)
    middle = between(u, v, noise.split("segment").uniform()[: len(u)])
    slopes = [squared_slope(score, part, False).max() for part in torch.cat([u, v, middle]).split(8192)]
    slope, unit = float(torch.stack(slopes).max().sqrt()), float(sigma)
    if slope == 0:
        raise ArgumentError("the critic is flat, so that it measures nothing: train it for more steps.")
    raw, error = raw * unit, error * unit
    return Judgement(
        raw / slope, error / slope, f"{text}, over its slope", raw=raw, slope=slope, critic=critic
    )


def _drawer(given: Any, side: str, seed: int) -> tuple[Draw, Tensor | None]:
    """Draws to train on, float32 rows, and rows that are kept from it, where there are only so many."""
    if is_density(given):
        known = density(given, side)
        return lambda n, noise: known.draws(n, noise.key, side).float().cpu(), None
    x = samples(given, side, least=10).float().cpu()
    x = x[Noise.of(seed, len(x)).split(side).uniform().argsort()]
    held, rows = x.split([round(HELD_OUT * len(x)), len(x) - round(HELD_OUT * len(x))])
    return lambda n, noise: rows[noise.integers(len(rows)).to(rows.device)], held
