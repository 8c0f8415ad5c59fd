"""Ascent that sets the length of its steps itself, each row by what it has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import ceil, inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, join, take
from psiphi.attacks.searches import _walks
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import ascent_step, per_row
from psiphi.formulas.geometry import Box, l1_sparse
from psiphi.formulas.goals import above

_ALPHA = 0.75  # weight of the step beside the momentum


def checkpoints(steps: int) -> list[int]:
    """w_j = ⌈p_j·steps⌉ < steps, p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06).

    In whole hundredths, so that ⌈·⌉ is exact. Source: Croce, Hein, 2020, section 3.2.
    """
    found, before, p = {0}, 0, 22
    while (w := -(-p * steps // 100)) < steps:
        found.add(w)
        before, p = p, p + max(p - before - 3, 6)
    return sorted(found)


@lru_cache(maxsize=64)
def _windows(steps: int, device: torch.device) -> Tensor:
    """w_j − w_{j−1} at place w_j, 0 elsewhere, (steps + 1,)."""
    table, marks = torch.zeros(steps + 1), checkpoints(steps)
    for before, mark in pairwise(marks):
        table[mark] = mark - before
    return table.to(device)


@dataclass(frozen=True)
class _Best:
    """The point of a walk with the highest score so far."""

    point: Tensor
    gradient: Tensor
    score: Tensor

    @staticmethod
    def of(v: Tensor) -> _Best:
        return _Best(v, torch.zeros_like(v), v.new_full((len(v),), -torch.inf))

    def improved(self, points: Tensor, gradient: Tensor, score: Tensor) -> _Best:
        better = above(score, self.score)
        wide = per_row(better, points)
        return _Best(
            torch.where(wide, points, self.point),
            torch.where(wide, gradient, self.gradient),
            torch.where(better, score, self.score),
        )


@dataclass(frozen=True)
class _Climb:
    """score: of the point before v; rises, mark, halved: steps that raised it since the last checkpoint, the
    best score at it, and whether the step was halved there."""

    x: Tensor
    v: Tensor
    threat: Any
    box: Box
    noise: Noise
    told: Tensor
    step: Tensor
    best: _Best
    before: Tensor
    score: Tensor
    rises: Tensor
    mark: Tensor
    halved: Tensor


@dataclass(frozen=True)
class AutoStep:
    """Auto-PGD: steps with momentum that are halved, from the best point, wherever progress stalls.

    z = Π(v_k + η d(∇)), v_{k+1} = Π(v_k + α (z − v_k) + (1 − α)(v_k − v_{k−1})), α = 0.75, but 1 in the first step;
    η starts at `reach` radii. At the checkpoints w_j, η ← η/2 and v ← the best point, if fewer than
    ρ (w_j − w_{j−1}) of the steps since the last one raised the score, or if neither η nor the best score
    changed there. A checkpoint w_j follows v_{w_j}. Scores are compared with an allowance for rounding.

    Source: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", 2020, algorithm 1, conditions 1 and 2 of section 3.2.
    """

    steps: int = 100
    restarts: int = 1
    rho: float = 0.75
    reach: float = 2.0

    needs: ClassVar[Needs] = "gradient"
    uses: ClassVar = ("steepest",)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        check_whole("restarts", self.restarts)
        if not 0 <= self.rho <= 1:
            raise ArgumentError(f"rho is a share of the steps, from 0 to 1; got {self.rho!r}.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Climb:
        if not threat.eps.isfinite().all():
            raise ArgumentError(f"{threat!r} has no radius to take a step's length from: give it one.")
        return self._from(threat.start(x, box, noise.at(0)), x, threat, box, noise)

    def _from(self, v: Tensor, x: Tensor, threat: Any, box: Box, noise: Noise) -> _Climb:
        count = torch.zeros(len(x), dtype=torch.long, device=x.device)
        high = x.new_full((len(x),), torch.inf)
        return _Climb(
            *(x, v, threat, box, noise, count, self.reach * threat.eps, _Best.of(v)),
            before=v,
            score=high,
            rises=count,
            mark=high,
            halved=count > 0,
        )

    def ask(self, s: _Climb, room: int) -> tuple[Tensor, Tensor]:
        return _walks.each(s.v)

    def tell(self, s: _Climb, points: Tensor, owner: Tensor, answer: Answer) -> _Climb:
        gradient, score, age = answer.gradient, answer.score, s.told % (self.steps + 1)
        assert gradient is not None
        first = age == 0
        s = replace(
            s,
            told=s.told + 1,
            best=s.best.improved(s.v, gradient, score),
            score=score,
            rises=s.rises + above(score, s.score),
            mark=torch.where(first, score, s.mark),
        )
        window = _windows(self.steps, age.device)[age]
        if (due := window > 0).any():
            s, gradient = self._checked(s, gradient, due, window)
        z = ascent_step(s.v, s.threat.steepest(gradient, s.v, s.box, s.step), s.step)
        z = s.threat.project(z, s.x, s.box)
        alpha = per_row(torch.where(first, 1.0, _ALPHA).to(z), z)
        v = torch.lerp(s.v, z, alpha).add_(
            (1 - alpha) * (s.v - s.before)
        )  # exactly z where α = 1: walls are exact
        v = s.threat.project(v, s.x, s.box)
        s = replace(s, v=v, before=s.v)
        return _renewed(self, s) if self.restarts > 1 else s

    def _checked(self, s: _Climb, gradient: Tensor, due: Tensor, window: Tensor) -> tuple[_Climb, Tensor]:
        slow, stuck = s.rises < self.rho * window, ~s.halved & (s.best.score == s.mark)
        stalled = due & (slow | stuck)
        wide = per_row(stalled, s.v)
        checked = replace(
            s,
            v=torch.where(wide, s.best.point, s.v),
            step=torch.where(stalled, s.step / 2, s.step),
            score=torch.where(stalled, s.best.score, s.score),
            rises=s.rises.masked_fill(due, 0),
            mark=torch.where(due, s.best.score, s.mark),
            halved=torch.where(due, stalled, s.halved),
        )
        return checked, torch.where(wide, s.best.gradient, gradient)

    def done(self, s: _Climb) -> Tensor:
        return _walks.over(s.told, self.steps, self.restarts)


@dataclass(frozen=True)
class _SparseClimb:
    """share: of the coordinates that a step moves; support: how many the best point had moved at the last check."""

    x: Tensor
    v: Tensor
    threat: Any
    box: Box
    noise: Noise
    told: Tensor
    step: Tensor
    best: _Best
    share: Tensor
    support: Tensor


@dataclass(frozen=True)
class SparseAutoStep:
    """Auto-PGD in the L1 ball: v ← Π(v + η d_s(∇)), d_s the signs of a share s of the coordinates.

    η starts at ε and s at 0.2. Every 4 % of the steps, s ← ‖v_best − x‖₀/(1.5 d). Where the support has shrunk
    by more than 5 % since the last check, η ← ε and v ← the best point; elsewhere η ← max(η/1.5, ε/10).
    With `widths`, parts of each walk stay in balls of these multiples of ε, (3, 2, 1) as published, from the best
    point of the part before; all but the last take 30 % of the steps, of three. Points beyond ε are no success.
    Other than published, s counts coordinates at a wall but moves none of them: where all are, the best other
    one moves (`psiphi.formulas.geometry.l1_sparse`), so that ascent comes to rest at the optimum of a linear score.

    Source: Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", 2021, section 4.
    """

    steps: int = 100
    restarts: int = 1
    widths: tuple[float, ...] = ()

    needs: ClassVar[Needs] = "gradient"
    norms: ClassVar = ("L1",)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        check_whole("restarts", self.restarts)
        if self.widths and (self.widths[-1] != 1 or not all(1 <= width < inf for width in self.widths)):
            raise ArgumentError(
                f"widths are multiples of the radius, from 1 up, the last 1; got {self.widths!r}."
            )

    @property
    def roams(self) -> bool:
        return bool(self.widths)

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _SparseClimb:
        return self._from(threat.start(x, box, noise.at(0)), x, threat, box, noise)

    def _from(self, v: Tensor, x: Tensor, threat: Any, box: Box, noise: Noise) -> _SparseClimb:
        told = torch.zeros(len(x), dtype=torch.long, device=x.device)
        share, support = x.new_full((len(x),), 0.2), x.new_full((len(x),), x[:1].numel())
        step = (self.widths or (1.0,))[0] * threat.eps
        return _SparseClimb(x, v, threat, box, noise, told, step, _Best.of(v), share, support)

    def ask(self, s: _SparseClimb, room: int) -> tuple[Tensor, Tensor]:
        return _walks.each(s.v)

    def tell(self, s: _SparseClimb, points: Tensor, owner: Tensor, answer: Answer) -> _SparseClimb:
        gradient, age = answer.gradient, s.told % (self.steps + 1)
        assert gradient is not None
        s = replace(s, told=s.told + 1, best=s.best.improved(s.v, gradient, answer.score))
        near, threat = s.threat, self._part(s, age)[0]
        s = replace(s, threat=threat)
        if (due := (age > 0) & (age % max(self.steps // 25, 1) == 0)).any():
            s, gradient = self._checked(s, gradient, due)
        v = ascent_step(s.v, l1_sparse(gradient, s.v, s.box, s.share), s.step)
        s = replace(s, v=s.threat.project(v, s.x, s.box))
        if self.widths:
            s = self._narrowed(s, near, age)
        return _renewed(self, s) if self.restarts > 1 else s

    def _part(self, s: _SparseClimb, age: Tensor) -> tuple[Any, Tensor]:
        """The ball that the point after one of this age stays in, and the number of its part of the walk."""
        if not self.widths:
            return s.threat, torch.zeros_like(age)
        m = len(self.widths)
        part = (age // ceil(0.9 * self.steps / m)).clamp_max(m - 1)
        return replace(s.threat, eps=s.threat.eps * torch.tensor(self.widths).to(s.step)[part]), part

    def _narrowed(self, s: _SparseClimb, near: Any, age: Tensor) -> _SparseClimb:
        """The true ball again; where the next part begins, from the best point of the last one."""
        s = replace(s, threat=near)
        threat, part = self._part(s, age + 1)
        if not (ends := part > self._part(s, age)[1]).any():
            return s
        v = torch.where(per_row(ends, s.v), threat.project(s.best.point, s.x, s.box), s.v)
        fresh = replace(self._from(v, s.x, threat, s.box, s.noise), told=s.told, threat=near, step=threat.eps)
        every = torch.where(ends, len(age), 0) + torch.arange(len(age), device=age.device)
        return take(join(s, fresh), every)

    def _checked(self, s: _SparseClimb, gradient: Tensor, due: Tensor) -> tuple[_SparseClimb, Tensor]:
        moved = (s.best.point != s.x).flatten(1)
        support = moved.sum(1).to(s.support)
        sparser = due & (support < 0.95 * s.support)
        step = torch.where(sparser, s.threat.eps, (s.step / 1.5).maximum(s.threat.eps / 10))
        wide = per_row(sparser, s.v)
        checked = replace(
            s,
            v=torch.where(wide, s.best.point, s.v),
            step=torch.where(due, step, s.step),
            share=torch.where(due, support / (1.5 * moved.shape[1]), s.share),
            support=torch.where(due, support, s.support),
        )
        return checked, torch.where(wide, s.best.gradient, gradient)

    def done(self, s: _SparseClimb) -> Tensor:
        return _walks.over(s.told, self.steps, self.restarts)


def _renewed(search: Any, s: Any) -> Any:
    """The state with a fresh one for each row whose walk has ended."""
    again = _walks.ended(s.told, search.steps, search.restarts)
    if not len(again):
        return s
    old = take(s, again)
    start = _walks.drawn(s, again, old.told // (search.steps + 1))
    fresh = replace(search._from(start, old.x, old.threat, old.box, old.noise), told=old.told)
    going = torch.ones_like(s.told, dtype=torch.bool)
    going[again] = False
    stay = going.nonzero().squeeze(1)
    return take(join(take(s, stay), fresh), torch.cat((stay, again)).argsort())
