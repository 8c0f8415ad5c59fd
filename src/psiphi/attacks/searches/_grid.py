"""All points of a grid over the few coordinates of a change, of each row the worst."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs
from psiphi.basis.counts import check_whole
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box


class _Lattice(NamedTuple):
    """Points that all rows share, (m, *u)."""

    points: Tensor


@dataclass(frozen=True)
class _Tried:
    x: Tensor
    reach: Tensor
    told: Tensor
    lattice: _Lattice


@dataclass(frozen=True)
class Grid:
    """The points of the threat's grid, the farthest first, one a row in a turn; the engine keeps each row's worst.

    counts: how many values each coordinate takes, evenly spaced from −eps to eps of its range; one number for all, or
    one for each. The clean input is known already, whether or not a count is odd.

    Works by labels; where the access shows scores, the worst is the highest score.

    Source: Engstrom et al., "Exploring the landscape of spatial robustness", 2019, section 3.
    """

    counts: int | tuple[int, ...] = 5

    needs: ClassVar[Needs] = "labels"
    uses: ClassVar = ("grid",)

    def __post_init__(self) -> None:
        for count in self.counts if isinstance(self.counts, (tuple, list)) else (self.counts,):
            check_whole("a grid's count", count)

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Tried:
        lattice = _Lattice(threat.grid(self.counts).to(x))
        told = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Tried(x, threat.eps.clamp(max=1), told, lattice)

    def ask(self, s: _Tried, room: int) -> tuple[Tensor, Tensor]:
        owner = (~self.done(s)).nonzero().squeeze(1)
        shares = s.lattice.points[s.told[owner]]
        return s.x[owner] + per_row(s.reach[owner], shares) * shares, owner

    def tell(self, s: _Tried, points: Tensor, owner: Tensor, answer: Answer) -> _Tried:
        return replace(s, told=s.told + 1)

    def done(self, s: _Tried) -> Tensor:
        return s.told >= len(s.lattice.points)
