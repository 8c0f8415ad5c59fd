"""Steps of one length along the steepest direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs
from psiphi.attacks.searches import _walks
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import ascent_step, per_row
from psiphi.formulas.geometry import Box, l1_norm

Direction = Callable[[Tensor, Tensor, Box, Tensor], Tensor]


@dataclass(frozen=True)
class _Walk:
    x: Tensor
    v: Tensor
    threat: Any
    box: Box
    noise: Noise
    step: Tensor
    told: Tensor
    pull: Tensor | None


@dataclass(frozen=True)
class Steepest:
    """Steps of one length, projected back: m ← μ m + ∇/‖∇‖₁, v ← Π(v + α d(m)); without momentum m = ∇.

    steps, restarts  of each walk, and the number of walks
    step             α in the data's units; None means that `steps` steps reach `reach` radii, α = reach·ε/steps
    random_start     whether a walk begins at a random point of the threat, or at x
    momentum         μ; the gradient alone is normalised, before it is accumulated, as published
    project          Π is the nearest point of threat ∩ box; without it, of the box alone
    direction        d(m, v, box, α); None is the threat's steepest

    Sources: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, section 2.1;
    Dong et al., "Boosting adversarial attacks with momentum", 2018, eq. 6 and 7.
    """

    steps: int = 40
    step: float | None = None
    reach: float = 2.5
    random_start: bool = True
    restarts: int = 1
    momentum: float = 0.0
    project: bool = True
    direction: Direction | None = None

    needs: ClassVar[Needs] = "gradient"
    uses: ClassVar = ("steepest",)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        check_whole("restarts", self.restarts)
        if self.step is not None and not 0 <= self.step < inf:
            raise ArgumentError(f"step is a finite length of at least 0; got {self.step!r}.")
        if not 0 <= self.momentum < inf:
            raise ArgumentError(f"momentum is a finite number of at least 0; got {self.momentum!r}.")
        if self.restarts > 1 and not self.random_start:
            raise ArgumentError("several restarts from x are the same walk: set random_start=True.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Walk:
        if self.step is None and not threat.eps.isfinite().all():
            raise ArgumentError(f"{threat!r} has no radius to take a step's length from: give step=.")
        step = self.reach / self.steps * threat.eps if self.step is None else x.new_full((len(x),), self.step)
        v = threat.start(x, box, noise.at(0)) if self.random_start else x
        pull = torch.zeros_like(x) if self.momentum else None
        told = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Walk(x, v, threat, box, noise, step, told, pull)

    def ask(self, s: _Walk, room: int) -> tuple[Tensor, Tensor]:
        return _walks.each(s.v)

    def tell(self, s: _Walk, points: Tensor, owner: Tensor, answer: Answer) -> _Walk:
        told, pull, gradient = s.told + 1, s.pull, answer.gradient
        assert gradient is not None
        if pull is not None:
            length = l1_norm(gradient)
            pull = gradient = self.momentum * pull + gradient / per_row(length.where(length > 0, 1), gradient)
        direction = (self.direction or s.threat.steepest)(gradient, s.v, s.box, s.step)
        v = ascent_step(s.v, direction, s.step)
        v = s.threat.project(v, s.x, s.box) if self.project else s.box.clamp(v)
        if len(again := _walks.ended(told, self.steps, self.restarts)):
            v[again] = _walks.drawn(s, again, told[again] // (self.steps + 1))
            if pull is not None:
                pull[again] = 0
        return replace(s, v=v, told=told, pull=pull)

    def done(self, s: _Walk) -> Tensor:
        return _walks.over(s.told, self.steps, self.restarts)
