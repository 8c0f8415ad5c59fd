"""Conformal thresholds: a false-alarm rate that holds for rows exchangeable with those it was set on.

Scores are higher where a row is stranger; a row is flagged where its score exceeds the threshold.
"""

from __future__ import annotations

from math import floor
from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.errors import ArgumentError

_ROUNDED = 1e-12  # 0.29 · 100 is 28.999999999999996


def spared(n: int, alarm: Any) -> int:
    """How many of n + 1 exchangeable rows may be flagged: ⌊α (n + 1)⌋."""
    if not isinstance(alarm, Real) or not 0 < float(alarm) < 1:
        raise ArgumentError(f"a false-alarm rate lies strictly between 0 and 1; got {alarm!r}: e.g. 0.05.")
    return floor(float(alarm) * (n + 1) * (1 + _ROUNDED))


def least_rows(alarm: float) -> int:
    """The fewest rows that a threshold can be set on, ⌈1/α⌉ − 1."""
    spared(0, alarm)
    return max(1, -floor(-1 / alarm * (1 - _ROUNDED)) - 1)


def threshold(scores: Float[Tensor, " n"], alarm: float) -> float:
    """The ⌈(1 − α)(n + 1)⌉-th smallest of n scores; infinite where n + 1 < 1/α.

    A further row, exchangeable with these, exceeds it with probability at most α, and without ties at least
    α − 1/(n + 1), over the draw of all n + 1 rows.

    Source: Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2005, chapter 4 (inductive form); Lei et
    al., "Distribution-free predictive inference for regression", 2018, section 2.2 (split form, both bounds).
    """
    n = len(scores)
    rank = n + 1 - spared(n, alarm)
    return float(scores.sort().values[rank - 1]) if rank <= n else torch.inf


def p_values(scores: Float[Tensor, " b"], seen: Float[Tensor, " n"]) -> Float[Tensor, " b"]:
    """p = (1 + #{i: seen_i ≥ score})/(n + 1): at most α with probability at most α; ≤ α where the threshold flags.

    Source: Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2005, chapter 2.
    """
    at_least = len(seen) - torch.searchsorted(seen.sort().values, scores.detach().contiguous())
    return (1 + at_least).double() / (len(seen) + 1)


class Beta(NamedTuple):
    """A law on [0, 1] with density ∝ p^(a−1) (1 − p)^(b−1)."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> float:
        return self.a * self.b / ((self.a + self.b) ** 2 * (self.a + self.b + 1))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """What it lies in with this probability, the rest shared by both sides."""
        from scipy.special import betaincinv

        tail = (1 - level) / 2
        low, high = (float(betaincinv(self.a, self.b, q)) for q in (tail, 1 - tail))
        return low, high


def rate(n: int, alarm: float) -> Beta:
    """The law of the false-alarm rate of one threshold, given the n rows it was set on: Beta(k, n + 1 − k),
    k = ⌊α (n + 1)⌋, of independent rows without ties.

    Source: Vovk, "Conditional validity of inductive conformal predictors", 2012, section 2 (as binomial tails).
    """
    k = spared(n, alarm)
    if not k:
        raise ArgumentError(too_few(n, alarm))
    return Beta(float(k), float(n + 1 - k))


def too_few(n: int, alarm: float) -> str:
    """Why so few rows allow no such rate, as a sentence."""
    return (
        f"a false-alarm rate of {alarm:g} needs {least_rows(alarm)} validation rows at least; got {n}: give more rows, "
        f"or a rate of {1 / (n + 1):.2g} or more."
    )
