"""Steps onto the linearised decision boundary with a pull towards the input; back inside after each success."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, join, take
from psiphi.attacks.searches import _planes, _walks
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box

_LAST = (0.25, 0.5, 0.9)  # points of the last search, as shares of the way back to the boundary


@dataclass(frozen=True)
class _Bounce:
    """inside, beyond: the margin at x and at the best success; nearest: the distance of that."""

    x: Tensor
    v: Tensor
    best: Tensor
    nearest: Tensor
    inside: Tensor
    beyond: Tensor
    threat: Any
    box: Box
    noise: Noise
    step: Tensor


@dataclass(frozen=True)
class Bounce:
    """v ← (1 − α)(v + η δ_v) + α(x + η δ_x), δ_v and δ_x the least changes onto the boundary linearised at v.

    α = min(‖δ_v‖/(‖δ_v‖ + ‖δ_x‖), alpha_max); a success goes back first, v ← x + β(v − x). `rivals` is the number of
    other classes looked at (None: all).
    """

    steps: int = 100
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    rivals: int | None = None

    needs: ClassVar[Needs] = "jacobian"
    roams: ClassVar = True
    uses: ClassVar = ("reach",)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        check_whole("restarts", self.restarts)
        for name, low, high in (("alpha_max", 0, 1), ("eta", 1, float("inf")), ("beta", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ArgumentError(f"{name} lies in [{low}, {high}]; got {getattr(self, name)!r}.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Bounce:
        zero = x.new_zeros(len(x))
        step = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Bounce(x, x, x, zero + torch.inf, zero, zero, threat, box, noise, step)

    def ask(self, s: _Bounce, room: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(s.v), device=s.v.device)
        over = self.done(s)
        if not (last := over & s.nearest.isfinite()).any():
            return s.v, rows
        closing = take(s, last.nonzero().squeeze(1))
        share = (closing.beyond / (closing.beyond - closing.inside)).clamp(0, self.eta - 1)
        points = [
            closing.box.clamp(closing.best - per_row(part * share, closing.x) * (closing.best - closing.x))
            for part in _LAST
        ]
        return torch.cat((s.v[~last], *points)), torch.cat((rows[~last], rows[last].repeat(len(_LAST))))

    def tell(self, s: _Bounce, points: Tensor, owner: Tensor, answer: Answer) -> _Bounce:
        gaps: Any = answer.gaps
        jacobian: Any = answer.jacobian
        margin, distance = gaps.amax(1), s.threat.distance(s.v, s.x)
        closer: Tensor = answer.broken & (distance < s.nearest)
        best = torch.where(per_row(closer, s.v), s.v, s.best)
        one = gaps.shape[1] == 1
        plane = (
            _planes.Plane(jacobian[:, 0], -gaps[:, 0])
            if one
            else _planes.nearest(gaps, jacobian, s.v, s.threat, s.box)[0]
        )
        back = torch.where(per_row(answer.broken, s.v), s.x + self.beta * (s.v - s.x), s.v)
        step = s.step + 1
        s = replace(
            s,
            v=self._next(s, plane, back),
            best=best,
            nearest=torch.where(closer, distance, s.nearest),
            inside=torch.where(s.step == 0, margin, s.inside),
            beyond=torch.where(closer, margin, s.beyond),
            step=step,
        )
        again: Tensor = (step % self.steps == 0) & (step < self.restarts * self.steps)
        if again.any():
            s.v[again] = self._fresh(take(s, again.nonzero().squeeze(1)))
        return s

    def done(self, s: _Bounce) -> Tensor:
        return s.step >= self.restarts * self.steps

    def _next(self, s: _Bounce, plane: _planes.Plane, back: Tensor) -> Tensor:
        both, twice = (
            torch.cat((back, s.x)),
            _planes.Plane(torch.cat((plane.a, plane.a)), torch.cat((plane.b, plane.b))),
        )
        seen = twice.seen_from(both, torch.cat((s.v, s.v)))
        here, there = _planes.step_onto(seen, both, join(s.threat, s.threat), s.box)[0].chunk(2)
        zero = torch.zeros_like(s.x)
        way, whole = s.threat.distance(here, zero), s.threat.distance(there, zero)
        alpha = (way / (way + whole).clamp_min(torch.finfo(way.dtype).tiny)).clamp_max(self.alpha_max)
        return s.box.clamp(torch.lerp(back + self.eta * here, s.x + self.eta * there, per_row(alpha, s.x)))

    def _fresh(self, s: _Bounce) -> Tensor:
        """Random points within half the distance of the best success; without one, of ε; of the box's far corner."""
        lo, hi = s.box.like(s.x)
        far = s.threat.distance(torch.where(s.x - lo > hi - s.x, s.x - lo, hi - s.x), torch.zeros_like(s.x))
        radius = torch.minimum(s.nearest, torch.minimum(s.threat.eps, far)) / 2
        small = replace(s, threat=replace(s.threat, eps=radius))
        return _walks.drawn(small, torch.arange(len(s.x), device=s.x.device), s.step // self.steps)
