"""A share of rows with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psiphi.formulas.intervals import wilson


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
