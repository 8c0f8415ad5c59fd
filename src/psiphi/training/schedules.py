"""Schedules of the learning rate: fraction of training done -> factor."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi


@dataclass(frozen=True)
class cosine:
    """Linear rise over the first `warmup` of training, then ½(1 + cos πt) down to `floor`.

    Source: Loshchilov & Hutter, "SGDR", 2017, eq. 5.
    """

    warmup: float = 0.0
    floor: float = 0.0

    def __call__(self, done: float) -> float:
        if done < self.warmup:
            return done / self.warmup
        t = (done - self.warmup) / (1 - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + cos(pi * min(t, 1.0)))


@dataclass(frozen=True)
class linear:
    """From 1 down to `floor` in a straight line."""

    floor: float = 0.0

    def __call__(self, done: float) -> float:
        return 1 - (1 - self.floor) * min(done, 1.0)
