"""The time of training, and weights that follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple


class Clock(NamedTuple):
    """Rounds done, epochs done (a fraction), and the rounds planned."""

    step: float = 0
    epoch: float = 0.0
    steps: float = inf


END = Clock(inf, inf)
Weight = float | Callable[[Clock], float]


@dataclass(frozen=True)
class warmup:
    """A weight that rises linearly from 0 to `value` over the first `epochs` epochs."""

    value: float
    epochs: float

    def __call__(self, clock: Clock) -> float:
        return self.value * min(1.0, clock.epoch / self.epochs)


def at(weight: Weight, clock: Clock) -> float:
    return weight(clock) if callable(weight) else weight
