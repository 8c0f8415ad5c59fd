"""Conditionals that are told a label as well as x or z, by its one-hot code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.formulas.distributions import DiagonalNormal, Measure
from psiphi.networks import MLP
from psiphi.parts.conditional import Decoder, refer
from psiphi.parts.statistics import Statistics


def joined(x: Tensor, y: Tensor, planes: bool) -> Tensor:
    """x with its one-hot label (B, k): as k further channels of an image, or k further numbers of a vector."""
    if planes:
        return torch.cat([x, y[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
    return torch.cat([x.flatten(1), y], 1)


class LabelledEncoder(nn.Module):
    """q(z|x, y) = N(μ(x, y), diag σ²(x, y)); the network takes x joined with the one-hot y.

    y of n B rows: every one of the B rows of x at n labels, (n B) codes, x's part of a first layer computed once.
    """

    statistics: Statistics

    def __init__(self, network: nn.Module, statistics: Statistics, planes: bool):
        super().__init__()
        self.network, self.planes = network, planes
        refer(self, statistics)

    def forward(self, x: Tensor, y: Tensor) -> DiagonalNormal:
        u, many = self.statistics(x), len(y) // max(1, len(x))
        if isinstance(self.network, MLP) and isinstance(self.network.layers[0], nn.Linear):
            mean, log_scale = _told(self.network, u.flatten(1), y, many).chunk(2, 1)
            return DiagonalNormal(mean, log_scale)
        u = u.repeat(many, *[1] * (u.ndim - 1))
        mean, log_scale = self.network(joined(u, y, self.planes)).chunk(2, 1)
        return DiagonalNormal(mean, log_scale)


def _told(network: MLP, u: Tensor, y: Tensor, many: int) -> Tensor:
    """The network of (u, y) for y of `many` B rows: W (u, y) = W_u u + W_y y, and W_u u is the same for every label."""
    first, *rest = network.layers
    of_u, of_y = first.weight.split([u.shape[1], y.shape[1]], 1)  # pyright: ignore[reportCallIssue, reportArgumentType]
    out = F.linear(u, of_u, first.bias).repeat(many, 1) + F.linear(y, of_y)  # pyright: ignore[reportArgumentType]
    for layer in rest:
        out = layer(out)
    return out


class LabelledDecoder(nn.Module):
    """p(x|z, y): a decoder of the code (z, one-hot y)."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor, y: Tensor) -> Any:
        return self.decoder(torch.cat([z, y], 1))


class Given(nn.Module):
    """A labelled conditional at labels y, (1, k) for all rows, (B, k), or (n B, k): a conditional of x or z alone."""

    def __init__(self, conditional: nn.Module, y: Tensor):
        super().__init__()
        self.__dict__["conditional"], self.__dict__["y"] = conditional, y

    def forward(self, c: Tensor) -> Any:
        y: Tensor = self.__dict__["y"]
        many = len(y) > max(1, len(c))
        return self.__dict__["conditional"](c, y if many else y.repeat(len(c) // len(y), 1))

    @property
    def measure(self) -> Measure:
        return self.__dict__["conditional"].decoder.measure

    def fitted(self, p: Any, x: Tensor) -> Any:
        return self.__dict__["conditional"].decoder.fitted(p, x)

    def check_support(self, low: float, high: float) -> None:
        self.__dict__["conditional"].decoder.check_support(low, high)
