"""The Lagrangian of a minimum-norm attack: distance against score, in a chart of the box, its weight by bisection."""

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
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box
from psiphi.formulas.halfspaces import l2_reach

_EDGE = 1 - 1e-4  # of the chart's (−1, 1): where a coordinate at a wall begins
_GAIN = 1e-3  # of the loss within a round, and of the distance from round to round: less is no progress
_OVER = 1.2  # times the weight at which the nearest point would rest: holds the goal against noise
_MOST = 1e10  # of the weight
_FINE = 1e-5  # of numbers near 1, that the chart can be told from a wall
_STRIDE = 0.2  # of a warm step, at most, as a share of the distance
_APPROACH, _BEYOND = 20, 1.02  # Newton steps to the boundary, at most, and how far each goes


@dataclass(frozen=True)
class _Adam:
    """Points in the chart, and the moments of their slopes."""

    w: Tensor
    first: Tensor
    second: Tensor
    step: Tensor

    @staticmethod
    def at(w: Tensor) -> _Adam:
        return _Adam(
            w,
            torch.zeros_like(w),
            torch.zeros_like(w),
            torch.zeros(len(w), dtype=torch.long, device=w.device),
        )

    def descend(self, slope: Tensor, lr: Tensor) -> _Adam:
        step = self.step + 1
        age = step.to(slope)
        first = self.first.lerp(slope, 0.1)
        second = self.second.lerp(slope.square(), 0.001)
        scale = second.div(per_row(1 - 0.999**age, slope)).sqrt_().add_(1e-8)
        w = self.w - per_row(lr / (1 - 0.9**age), slope) * first.div(scale)
        return _Adam(w, first, second, step)


@dataclass(frozen=True)
class _Descent:
    x: Tensor
    box: Box
    adam: _Adam
    lr: Tensor
    turn: Tensor
    c: Tensor
    low: Tensor  # the largest weight that failed
    high: Tensor  # the least that did not
    found: Tensor  # whether the goal held in this round
    lowest: Tensor  # loss of this round
    stale: Tensor  # steps since it fell
    best: Tensor  # the nearest point at which the goal holds, in the chart
    nearest: Tensor  # its distance
    before: Tensor  # that at the start of the round
    rest: Tensor  # the weight at which that point would be at rest


@dataclass(frozen=True)
class Lagrangian:
    """min ‖δ‖² + c·max(κ − score, 0) over w, x + δ = lo + (hi − lo)(1 + tanh w)/2, by Adam; c by bisection.

    A round of at most `steps` descents has one c, and ends when its loss has not fallen for `patience` steps. Its rate
    is lr·decay^round. A *cold* round begins at x, with the c of the bisection. A *warm* one begins at the nearest point
    so far, with 1.2 times the c at which that point would be at rest, 2‖δ‖²/⟨δ, ∇score⟩, and steps of at most a fifth
    of its distance; it is the last if it gains less than a thousandth. The first begins where at most 20 Newton steps
    meet the boundary, the first of which goes onto the nearest of the boundaries, linearised at x.

    Source: Carlini, Wagner, "Towards evaluating the robustness of neural networks", 2017, sections V and VI.A.
    """

    steps: int = 1000
    bisections: int = 9
    lr: float = 0.1
    initial_c: float = 10.0
    confidence: float = 0.0
    decay: float = 0.6
    patience: int = 40
    warm: bool = True

    needs: ClassVar[Needs] = "gradient"
    roams: ClassVar = True
    norms: ClassVar = ("L2",)
    rivals: ClassVar[int] = 9

    def __post_init__(self) -> None:
        for name in ("steps", "bisections", "patience"):
            check_whole(name, getattr(self, name))
        for name in ("lr", "initial_c", "decay"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ArgumentError(f"{name} is a finite number above 0; got {getattr(self, name)!r}.")
        if not 0 <= self.confidence < float("inf"):
            raise ArgumentError(f"confidence is a finite margin of at least 0; got {self.confidence!r}.")

    @property
    def surveys(self) -> bool:
        return self.warm

    def start(
        self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise, survey: Answer | None = None
    ) -> _Descent:
        if torch.finfo(x.dtype).eps > _FINE:
            raise ArgumentError(
                f"the chart of the box needs float32 or float64, and the classifier works in {x.dtype}, where its "
                "walls round to infinity: attack classifier.float()."
            )
        zero, far = x.new_zeros(len(x)), x.new_full((len(x),), torch.inf)
        first = (
            x
            if survey is None
            else box.clamp(x + _BEYOND * _planes.nearest(survey.gaps, survey.jacobian, x, threat, box)[1])
        )
        w, none = _chart(first, box), zero.bool()
        turn = zero.long() - int(self.warm)
        return _Descent(
            x, box, _Adam.at(w), zero + self.lr, turn, zero + self.initial_c, zero, far, none, far, zero.long(), w, far,
            far, zero,
        )  # fmt: skip

    def ask(self, s: _Descent, room: int) -> tuple[Tensor, Tensor]:
        rows = (~self.done(s)).nonzero().squeeze(1)
        return _point(s.adam.w[rows], s.box), rows

    def tell(self, s: _Descent, points: Tensor, owner: Tensor, answer: Answer) -> _Descent:
        gradient: Any = answer.gradient
        delta = points - s.x
        flat = delta.flatten(1)
        square = flat.square().sum(1)
        short, holds = (self.confidence - answer.score).clamp_min(0), answer.broken
        closer = holds & (square.sqrt() < s.nearest)
        rest = (2 * square / (flat * gradient.flatten(1)).sum(1)).nan_to_num(nan=0).clamp(0, _MOST)
        loss = square + s.c * short
        slope = (2 * delta - per_row(s.c * (short > 0), delta) * gradient) * _speed(points, s.box)
        adam = s.adam.descend(slope, s.lr * self.decay ** s.turn.to(s.lr))
        if (afar := s.turn < 0).any():
            step, _ = l2_reach(gradient, _BEYOND * short, points, s.box)
            adam = replace(adam, w=torch.where(per_row(afar, delta), _chart(points + step, s.box), adam.w))
        s = replace(
            s,
            adam=adam,
            found=s.found | holds,
            stale=torch.where(loss < s.lowest * (1 - _GAIN), 0, s.stale + 1),
            lowest=torch.minimum(loss, s.lowest),
            best=torch.where(per_row(closer, delta), s.adam.w, s.best),
            nearest=torch.where(closer, square.sqrt(), s.nearest),
            rest=torch.where(closer, rest, s.rest),
        )
        over = (s.adam.step >= self.steps) | (s.stale >= self.patience)
        over = torch.where(afar, s.found | (s.adam.step >= _APPROACH), over)
        return self._next(s, over) if over.any() else s

    def done(self, s: _Descent) -> Tensor:
        return s.turn >= self.bisections

    def _next(self, s: _Descent, over: Tensor) -> _Descent:
        """The rows whose round is `over` at the start of the next."""
        afar, turn, w = s.turn < 0, s.turn + 1, _chart(s.x, s.box)
        none = torch.zeros_like(s.found)
        low = torch.where(s.found | afar, s.low, s.c)
        high = torch.where(s.found & ~afar, s.c, s.high)
        c = torch.where(high.isfinite(), (low + high) / 2, (10 * s.c).clamp_max(_MOST))
        lr = s.lr
        if self.warm:
            again = s.nearest.isfinite()
            c = torch.where(again, torch.where(s.found, _OVER * s.rest, 2 * s.c), torch.where(afar, s.c, c))
            w = torch.where(per_row(again, w), s.best, w)
            pace = _STRIDE * s.nearest / _speed(_point(w, s.box), s.box).flatten(1).norm(dim=1)
            lr = torch.where(again, pace.clamp_max(self.lr), lr)
            idle = (s.turn > 0) & again & (s.before - s.nearest <= _GAIN * s.nearest)
            turn = torch.where(idle, self.bisections, turn)
        fresh = replace(
            s, adam=_Adam.at(w), lr=lr, turn=turn, c=c, low=low, high=high, found=none, stale=none.long(),
            lowest=torch.full_like(c, torch.inf), before=s.nearest,
        )  # fmt: skip
        return _where(over, fresh, s)


def _where(rows: Tensor, one: Any, other: Any) -> Any:
    """The rows of one state where `rows`, else those of the other."""
    if isinstance(one, Tensor):
        return torch.where(per_row(rows, one), one, other)
    if isinstance(one, (_Descent, _Adam)):
        return replace(
            one, **{name: _where(rows, getattr(one, name), getattr(other, name)) for name in vars(one)}
        )
    return one


def _chart(x: Tensor, box: Box) -> Tensor:
    return ((2 * (x - box.lo) / (box.hi - box.lo) - 1) * _EDGE).atanh()


def _point(w: Tensor, box: Box) -> Tensor:
    return box.clamp(box.lo + (box.hi - box.lo) * ((1 + w.tanh()) / 2))


def _speed(v: Tensor, box: Box) -> Tensor:
    """∂v/∂w at v = point(w)."""
    return 2 * (v - box.lo) * (box.hi - v) / (box.hi - box.lo)
