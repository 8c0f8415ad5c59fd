"""Confidence intervals, two-sided: of a proportion, `hits` of `n` trials, and of a mean; a share with its interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from psiphi.basis.errors import ArgumentError


def _check(hits: int, n: int, level: float) -> None:
    if not (0 <= hits <= n and n >= 1):
        raise ArgumentError(f"a proportion needs 0 ≤ hits ≤ n and n ≥ 1; got {hits} of {n}.")
    if not 0 < level < 1:
        raise ArgumentError(f"a confidence level lies strictly between 0 and 1; got {level:g}: e.g. 0.95.")


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval: the p for which |p̂ − p| ≤ z √(p(1−p)/n).

    (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n), p̂ = hits/n, z the normal quantile at (1 + level)/2.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    from scipy.special import ndtri

    _check(hits, n, level)
    p, z = hits / n, float(ndtri((1 + level) / 2))
    centre = p + z * z / (2 * n)
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return (0.0 if hits == 0 else max(low, 0.0)), (1.0 if hits == n else min(high, 1.0))


def at_least(hits: Int[Tensor, "*b"], n: int, alpha: float) -> Float[Tensor, "*b"]:
    """The p with P(Bin(n, p) ≥ hits) = α, the α-quantile of Beta(hits, n − hits + 1); 0 without hits.

    It exceeds the true p with probability at most α: Clopper and Pearson's one-sided bound, at most α^(1/n).

    Source: Clopper, Pearson, "The use of confidence or fiducial limits", 1934.
    """
    from scipy.special import betaincinv

    if not 0 < alpha < 1:
        raise ArgumentError(
            f"alpha, the failure rate, lies strictly between 0 and 1; got {alpha!r}: e.g. 0.001."
        )
    if len(hits.flatten()) and not 0 <= int(hits.min()) <= int(hits.max()) <= n:
        raise ArgumentError(f"hits are 0 to n = {n}; got {int(hits.min())} to {int(hits.max())}.")
    counted = hits.cpu()
    some = counted.clamp_min(1).numpy()
    return torch.as_tensor(betaincinv(some, n + 1 - some, alpha)).where(counted > 0, 0.0)


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval, which covers with at least its level for every p.

    `at_least` with α = (1 − level)/2, of the hits and, from above, of the misses.

    Source: Clopper, Pearson, "The use of confidence or fiducial limits", 1934.
    """
    _check(hits, n, level)
    low, miss = at_least(torch.tensor([hits, n - hits]), n, (1 - level) / 2).tolist()
    return low, 1 - miss


def normal(values: Tensor) -> tuple[float, float]:
    """95 % interval of a mean, by the normal law: mean ± 1.96 s/√n of values (n,); NaN for fewer than two."""
    values = values.double()
    half = 1.96 * values.std() / len(values) ** 0.5 if len(values) > 1 else values.new_tensor(float("nan"))
    return float(values.mean() - half), float(values.mean() + half)


@dataclass(frozen=True)
class Share:
    """hits of n, with Wilson's 95% interval."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.n) if self.n else (0.0, 1.0)

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval), "hits": self.hits, "n": self.n}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}]" if self.n else "—"


@dataclass(frozen=True)
class Mean:
    """A mean of n numbers with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    def within(self, low: float, high: float) -> Mean:
        """Its interval cut to the values that what it is the mean of can have."""
        return replace(self, low=max(self.low, low), high=min(self.high, high))

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": [self.low, self.high], "n": self.n}

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


def student(values: Tensor, level: float = 0.95) -> Mean:
    """Student's interval of a mean: mean ± t s/√n, t the quantile of n − 1 degrees at (1 + level)/2; NaN for one value.

    Source: Student, "The probable error of a mean", 1908.
    """
    from scipy.special import stdtrit

    values, n = values.double(), len(values)
    mean = float(values.mean())
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(values.std()) / n**0.5 if n > 1 else float("nan")
    return Mean(mean, mean - half, mean + half, n)
