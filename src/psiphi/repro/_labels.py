"""Rows of which only a few have a label that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from psiphi.basis.noise import Noise


@dataclass(frozen=True)
class Mixture:
    """A sampler of rows with and without their label, −1: a `share` of known ones; fresh: what is seen of a row."""

    x: Tensor
    known: Tensor
    y: Tensor
    share: float
    fresh: Callable[[Tensor, Noise], Tensor]

    def __call__(self, n: int, noise: Noise) -> tuple[Tensor, Tensor]:
        told = noise.split("told").uniform() < self.share
        place = noise.split("row").uniform().double()
        some = (place * len(self.known)).long()
        row = torch.where(told, self.known[some], (place * len(self.x)).long())
        return self.fresh(self.x[row], noise.split("fresh")), torch.where(told, self.y[some], -1)


def known(y: Tensor, labels: int, seed: int) -> Tensor:
    """Rows whose label is told: drawn at random, as many of every class."""
    order = Noise.of(seed, len(y)).uniform().argsort()
    classes = int(y.max()) + 1
    return torch.cat([order[y[order] == k][: labels // classes] for k in range(classes)])
