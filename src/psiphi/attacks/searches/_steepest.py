"""Steps along the steepest direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import ascent_step
from psiphi.formulas.geometry import Box


@dataclass(frozen=True)
class _Walk:
    x: Tensor
    v: Tensor
    threat: Any
    box: Box
    noise: Noise
    step: Tensor
    told: Tensor


@dataclass(frozen=True)
class Steepest:
    """Steps of one length along the threat's steepest direction, projected back: v ← Π(v + α d(∇)).

    `step` is α in the data's units; None means that `steps` steps reach `reach` radii, α = reach·ε/steps.
    Each of `restarts` walks begins at a random point of the ball, or at x.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, section 2.1.
    """

    steps: int = 40
    step: float | None = None
    reach: float = 2.5
    random_start: bool = True
    restarts: int = 1

    needs: ClassVar[Needs] = "gradient"

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("restarts", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ArgumentError(f"{name} is an integer of at least {least}; got {value!r}.")
        if self.step is not None and not 0 <= self.step < float("inf"):
            raise ArgumentError(f"step is a finite length of at least 0; got {self.step!r}.")
        if self.restarts > 1 and not self.random_start:
            raise ArgumentError("several restarts from x are the same walk: set random_start=True.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Walk:
        step = self.reach / self.steps * threat.eps if self.step is None else x.new_full((len(x),), self.step)
        v = threat.start(x, box, noise.at(0)) if self.random_start else x
        return _Walk(x, v, threat, box, noise, step, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def ask(self, s: _Walk, room: int) -> tuple[Tensor, Tensor]:
        return s.v, torch.arange(len(s.v), device=s.v.device)

    def tell(self, s: _Walk, points: Tensor, owner: Tensor, answer: Answer) -> _Walk:
        # A walk of `steps` steps has steps + 1 points; the gradient at its last one is not used.
        told = s.told + 1
        v = ascent_step(
            s.v,
            s.threat.steepest(answer.gradient, s.v, s.box),
            s.step,
            project=lambda v: s.threat.project(v, s.x, s.box),
        )
        if self.restarts > 1 and (again := told % (self.steps + 1) == 0).any():
            walk = told[again] // (self.steps + 1)
            v[again] = self._fresh(s, again.nonzero().squeeze(1), walk)
        return replace(s, v=v, told=told)

    def done(self, s: _Walk) -> Tensor:
        return s.told >= self.restarts * (self.steps + 1) - 1

    @staticmethod
    def _fresh(s: _Walk, rows: Tensor, walk: Tensor) -> Tensor:
        fresh = s.x[rows].clone()
        for number in walk.unique().tolist():
            mine = walk == number
            part = take(s, rows[mine])
            fresh[mine] = part.threat.start(part.x, part.box, part.noise.at(number))
        return fresh
