"""What tests of divergences share: draws, normals in double precision, and the bound of an estimate's own error."""

from __future__ import annotations

import torch
import torch.distributions as td
from torch import Tensor

from psiphi import divergences as dv


def draws(seed: int, n: int, d: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(mean: float, sigma: float) -> td.Normal:
    return td.Normal(torch.tensor(mean, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64))


def within(estimate: dv.Estimate, theory: float) -> None:
    assert estimate.standard_error > 0
    assert abs(float(estimate) - theory) <= 4 * estimate.standard_error, (estimate, theory)
