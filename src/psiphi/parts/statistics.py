"""Statistics of the training data as buffers of a model, so that files and devices carry them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.shapes import Shape
from psiphi.formulas.distributions import DiagonalNormal


class Statistics(nn.Module):
    """Mean and σ of the data; (x − mean)/σ is what networks see.

    mean, std: (*shape), of each coordinate; sigma: root mean square of the centred data, a scalar; low, high: the
    range; binary: all values are 0 or 1. Before `load` the map is the identity.
    """

    mean: Tensor
    std: Tensor
    sigma: Tensor
    low: Tensor
    high: Tensor
    binary: Tensor
    measured: Tensor

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self.register_buffer("sigma", torch.ones(()))
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))
        self.register_buffer("binary", torch.tensor(False))
        self.register_buffer("measured", torch.tensor(False))

    def load(self, record: Any) -> None:
        """Take what was measured; a σ of zero becomes one, moments of nothing zero."""
        self.mean.copy_(torch.as_tensor(record.mean).nan_to_num(0.0).reshape(self.mean.shape))
        self.std.copy_(torch.as_tensor(record.std).nan_to_num(0.0).reshape(self.std.shape))
        self.sigma.fill_(float(record.sigma) or 1.0)
        self.low.fill_(float(record.low))
        self.high.fill_(float(record.high))
        self.binary.fill_(bool(record.binary))
        self.measured.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        """To the network's units: (x − mean)/σ."""
        return (x - self.mean).div_(self.sigma)

    def blurred(self, sigma: float | Tensor) -> DiagonalNormal:
        """N(m, v + σ²), v the variance of each coordinate: what the data's first two moments are under noise of σ."""
        return DiagonalNormal(self.mean, (self.std**2 + sigma**2).log() / 2, len(self.shape))

    def inverse(self, u: Tensor) -> Tensor:
        """To the data's units: mean + σ u."""
        return torch.addcmul(self.mean, self.sigma, u)
