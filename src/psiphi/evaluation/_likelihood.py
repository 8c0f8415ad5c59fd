"""Marginal likelihood with two errors: of the importance sampler, and over test points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.noise import mix
from psiphi.basis.shapes import as_batch

TRUSTED = 10
PROBES = 4  # walks of a probability flow whose trace is estimated
EXACT, SAMPLED, FLOW = "exact", "importance sampling", "probability flow"
HEADINGS = {
    "continuous": "ln density (nats)",
    "discrete": "ln probability (nats)",
    "binarised": "ln probability of drawn bits (nats)",
    "smoothed": "ln density blurred by the least noise (nats)",
    "mixed": "ln density × probability (nats)",
    "loss-only": "reconstruction loss, no density (nats)",
    "dequantised": "bits per dimension",
}


def heading(measure: str) -> str:
    """What a column of numbers of this measure is called; two measures never stand in one column."""
    return HEADINGS.get(measure, f"ln p(x), {measure} (nats)")


@dataclass(frozen=True)
class Likelihood:
    """Mean ln p(x) over test points, with its errors, in `unit`.

    standard_error: Monte Carlo, of the mean (0 where nothing is drawn); spread: standard error over test
    points; effective: median effective sample size; untrusted: rows whose effective sample size is below 10, where
    the Monte Carlo error is not to be trusted; bias: the estimate's, about −SE²/2 a row; measure: `discrete` (of
    binary data), `continuous`, `mixed`, or what `dequantised` and `binarised` make of pixels; numbers of two measures
    are never to be compared; samples: draws a row, 0 where nothing is drawn; how: `exact`, `importance sampling`, or
    `probability flow`, an integral whose steps leave an error that is not among these.
    """

    mean: float
    standard_error: float
    spread: float
    effective: float
    untrusted: int
    bias: float
    measure: str
    samples: int
    rows: int
    unit: str = "nats"
    how: str = SAMPLED

    def as_dict(self) -> dict[str, Any]:
        """Plain values; the effective sample size is None where there is no importance sampler."""
        return asdict(self) | ({} if isfinite(self.effective) else {"effective": None})

    def __str__(self) -> str:
        flag = (
            f"; {self.untrusted} rows with an effective sample size below {TRUSTED}" if self.untrusted else ""
        )
        error = f"± {self.standard_error:.2g} Monte Carlo"
        sampled = f"{error}, ESS {self.effective:.0f}" if self.how == SAMPLED else f"{self.how}, {error}"
        how = sampled if self.samples else self.how
        value = f"{self.mean:.2f}" if self.unit == "nats" else f"{self.mean:.4f}"
        return (
            f"{value} {self.unit} ({self.measure}; {how}; ± {self.spread:.2g} over {self.rows} points{flag})"
        )


@torch.no_grad()
def likelihood(model: Any, x: Any, samples: int = 500, seed: int = 0) -> Likelihood:
    """Mean ln p(x) over the rows of x: importance sampling with `samples` draws a row, exact where the model is.

    A probability flow whose trace is estimated is walked 4 times, which gives its Monte Carlo error.

    With normalised weights w̃ of a row: SE² ≈ Σ w̃² − 1/K, bias ≈ −SE²/2, effective sample size 1/Σ w̃².
    Raises `MissingVerb` where the model has no likelihood, `MeasureError` where it is no density on x.
    """
    x = as_batch(x, model.shape)
    model.log_prob  # noqa: B018  a model that has none says so
    if hasattr(model, "importance"):
        sums = model.importance(x, samples, seed)
        value, error, effective, how = sums.estimate, sums.standard_error, sums.effective, SAMPLED
    else:
        samples = PROBES if getattr(model, "estimates", False) else 0
        value, error = _whole(model, x, samples, seed)
        effective, how = torch.full_like(value, torch.inf), FLOW if model.measure == "smoothed" else EXACT
    return Likelihood(
        mean=float(value.mean()),
        standard_error=float(error.square().sum().sqrt() / len(x)),
        spread=standard_error(value),
        effective=float(effective.median()),
        untrusted=int((effective < TRUSTED).sum()),
        bias=float(-0.5 * error.square().mean()) if how == SAMPLED else 0.0,
        measure=str(model.measure),
        samples=samples,
        rows=len(x),
        how=how,
    )


def _whole(model: Any, x: Tensor, walks: int, seed: int) -> tuple[Tensor, Tensor]:
    """ln p(x) of a model that needs no importance sampler, and its Monte Carlo error, (B,) each."""
    if not walks:
        value = model.log_prob(x)
        return value, torch.zeros_like(value)
    found = torch.stack([model.log_prob(x, seed=mix(seed, "walk", k)) for k in range(walks)])
    return found.mean(0), found.std(0) / walks**0.5


def standard_error(values: Tensor) -> float:
    """s/√n of the mean of n values; 0 for a single one."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0
