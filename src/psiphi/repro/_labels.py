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
        told = (noise.split("told").uniform() < self.share).to(self.x.device)
        place = noise.split("row").uniform().double().to(self.x.device)
        some = (place * len(self.known)).long()
        row = torch.where(told, self.known[some], (place * len(self.x)).long())
        x, y = self.x[row].to(noise.device), torch.where(told, self.y[some], -1).to(noise.device)
        return self.fresh(x, noise.split("fresh")), y
