"""What tests of tables share."""

from __future__ import annotations

import torch
from torch import Tensor

NAN = float("nan")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
