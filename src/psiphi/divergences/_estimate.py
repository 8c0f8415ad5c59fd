"""What a divergence function returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite, isnan, nan
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A divergence, how far off it may be, and how it was found.

    standard_error: of the draws or directions; the error left by a quadrature; 0 in closed form, NaN where there is
    no simple valid one. It holds no bias: the page "which distance when" says which estimates have one.
    """

    value: float
    standard_error: float = nan
    how: str = ""

    def __float__(self) -> float:
        return self.value

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        shown = f"{self.value:.6g}"
        if isfinite(self.value) and not isnan(self.standard_error) and self.standard_error > 0:
            shown += f" ± {self.standard_error:.2g}"
        return f"{shown} ({self.how})"
