from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.shapes import as_batch
from psiphi.evaluation._likelihood import standard_error
from psiphi.formulas.distortions import squared
from psiphi.formulas.distributions import sum_event


@dataclass(frozen=True)
class Reconstruction:
    """Mean over rows of ‖x − ψ(φ(x))‖², in squared units of the data, and its standard error."""

    squared_error: float
    standard_error: float
    rows: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"squared error {self.squared_error:.4g} ± {self.standard_error:.2g} a sample ({self.rows} samples)"


@torch.no_grad()
def reconstruction(model: Any, x: Any) -> Reconstruction:
    """How far ψ(φ(x)) is from x: the squared error summed over a sample, its mean and error over samples."""
    error = errors(model, as_batch(x, model.shape))
    return Reconstruction(float(error.mean()), standard_error(error), len(error))


def errors(model: Any, x: Tensor) -> Tensor:
    """‖x − ψ(φ(x))‖² of each row, (B,), over the values that are there: NaN is what is missing."""
    return sum_event(squared(x, model.reconstruct(x)).masked_fill(x.isnan(), 0), len(model.shape))
