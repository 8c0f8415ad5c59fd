"""Random points, of each row the worst: the least that a search must beat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs
from psiphi.attacks.searches import _walks
from psiphi.basis.counts import check_whole
from psiphi.basis.noise import Noise
from psiphi.formulas.geometry import Box


@dataclass(frozen=True)
class _Drawn:
    x: Tensor
    threat: Any
    box: Box
    noise: Noise
    told: Tensor


@dataclass(frozen=True)
class RandomPoints:
    """`draws` random points of the threat, one a row in a turn; the engine keeps each row's worst.

    Works by labels; where the access shows scores, the worst is the highest score.
    """

    draws: int = 10

    needs: ClassVar[Needs] = "labels"

    def __post_init__(self) -> None:
        check_whole("draws", self.draws)

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Drawn:
        return _Drawn(x, threat, box, noise, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def ask(self, s: _Drawn, room: int) -> tuple[Tensor, Tensor]:
        owner = (~self.done(s)).nonzero().squeeze(1)
        return _walks.drawn(s, owner, s.told[owner]), owner

    def tell(self, s: _Drawn, points: Tensor, owner: Tensor, answer: Answer) -> _Drawn:
        return replace(s, told=s.told + 1)

    def done(self, s: _Drawn) -> Tensor:
        return s.told >= self.draws
