"""Steps onto the nearest linearised decision boundary, until one is crossed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs
from psiphi.attacks.searches import _planes
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.geometry import Box

_FLOOR = (
    1e-4  # of a step: the share of the gain so far that is added where the gap is closed but for rounding
)


@dataclass(frozen=True)
class _Crossing:
    x: Tensor
    u: Tensor
    v: Tensor
    threat: Any
    box: Box
    step: Tensor
    over: Tensor


@dataclass(frozen=True)
class Crossing:
    """u ← u + δ, δ the least change in the box onto the nearest boundary, linearised at v = x + (1 + η)(u − x).

    `steps` bounds the linearisations, `overshoot` is η, `rivals` the number of other classes looked at (None: all).
    """

    steps: int = 50
    overshoot: float = 0.02
    rivals: int | None = 9

    needs: ClassVar[Needs] = "jacobian"
    roams: ClassVar = True
    uses: ClassVar = ("reach",)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        if self.rivals is not None:
            check_whole("rivals", self.rivals)
        if not 0 <= self.overshoot < float("inf"):
            raise ArgumentError(f"overshoot is a finite share of at least 0; got {self.overshoot!r}.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Crossing:
        step = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Crossing(x, x, x, threat, box, step, step.bool())

    def ask(self, s: _Crossing, room: int) -> tuple[Tensor, Tensor]:
        rows = (~s.over).nonzero().squeeze(1)
        return s.v[rows], rows

    def tell(self, s: _Crossing, points: Tensor, owner: Tensor, answer: Answer) -> _Crossing:
        gaps: Any = answer.gaps
        jacobian: Any = answer.jacobian
        gained = (jacobian * (s.u - s.x).unsqueeze(1)).flatten(2).sum(2)
        _, delta = _planes.nearest(
            torch.minimum(gaps, -_FLOOR * gained.abs()), jacobian, s.u, s.threat, s.box
        )
        u = s.box.clamp(s.u + delta)
        v = s.box.clamp(s.x + (1 + self.overshoot) * (u - s.x))
        stuck = (v == s.v).flatten(1).all(1)
        return replace(s, u=u, v=v, step=s.step + 1, over=answer.broken | stuck)

    def done(self, s: _Crossing) -> Tensor:
        return s.over | (s.step >= self.steps)
