"""Ascent on a sphere around the input whose radius shrinks at each success and grows at each failure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, pi
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.attacks.searches import _planes
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box, l2_norm

_HASTE = 4  # powers of 1 ± γ that a step takes at most while its row stays on one side of the boundary
_CALM = 3  # points on one side that are no sign of a boundary far off, once it has been crossed
_GAIN = 1e-3  # a step that lowers the best norm by a smaller share is stale
_FIRST, _LAST = (2.0, 4.0), (0.02, 0.1)  # α, and γ over its parameter, before and after they are annealed


@dataclass(frozen=True)
class _Sphere:
    """most: the norm of the change to the box's farthest corner; side, run: whether the last point was a success, and
    for how many points that has been so; crossed: the step at which it first changed, −1 before; best: the least norm
    of a success, mark: the value of it from which gains are counted, stale: steps without one."""

    x: Tensor
    v: Tensor
    eps: Tensor
    most: Tensor
    best: Tensor
    mark: Tensor
    side: Tensor
    run: Tensor
    crossed: Tensor
    stale: Tensor
    step: Tensor
    box: Box
    noise: Noise


@dataclass(frozen=True)
class Sphere:
    """δ ← clip(ε (δ + α g/‖g‖)/‖δ + α g/‖g‖‖), ε ← (1 − γ) ε after a success, else (1 + γ) ε.

    α falls from 2 to 0.02 and γ from 4 to 0.1 times `gamma`, by a cosine over the share `pace` of the `steps`, which
    begins once spheres of a row have been on both sides of the boundary; while they stay on one side, the radius
    takes up to four steps at once. `init` is the first radius; None puts the first point on the nearest of the
    boundaries, linearised at x. Afterwards a row leaves when `patience` steps have lowered its norm by less than
    0.1 %.
    """

    steps: int = 100
    init: float | None = None
    gamma: float = 0.05
    pace: float = 0.35
    patience: int | None = None

    needs: ClassVar[Needs] = "gradient"
    roams: ClassVar = True
    norms: ClassVar = ("L2",)
    rivals: ClassVar[int] = 9

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        if self.init is not None and not 0 < self.init < float("inf"):
            raise ArgumentError(f"init is a positive, finite norm; got {self.init!r}.")
        if not 0 < self.gamma < 0.25:
            raise ArgumentError(f"gamma is a share in (0, 0.25); got {self.gamma!r}.")
        if not 0 < self.pace <= 1:
            raise ArgumentError(f"pace is a share of the steps in (0, 1]; got {self.pace!r}.")

    @property
    def surveys(self) -> bool:
        return self.init is None

    def start(
        self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise, survey: Answer | None = None
    ) -> _Sphere:
        lo, hi = box.like(x)
        most = l2_norm(torch.maximum(x - lo, hi - x))
        far, count = torch.full_like(most, torch.inf), torch.zeros_like(most, dtype=torch.long)
        v, eps = x, most.clamp_max(self.init or 0)
        if survey is not None:
            delta = _planes.nearest(survey.gaps, survey.jacobian, x, threat, box)[1]
            size = l2_norm(delta)
            v = box.clamp(x + delta)
            eps = torch.where(size > 0, size, most.clamp_max(1))  # no boundary is seen from x: as published
        return _Sphere(x, v, eps, most, far, far, count.bool(), count, count - 1, count, count, box, noise)

    def ask(self, s: _Sphere, room: int) -> tuple[Tensor, Tensor]:
        return s.v, torch.arange(len(s.v), device=s.v.device)

    def tell(self, s: _Sphere, points: Tensor, owner: Tensor, answer: Answer) -> _Sphere:
        broken, step, delta = answer.broken, s.step + 1, s.v - s.x
        best = torch.where(broken, torch.minimum(s.best, delta.flatten(1).norm(dim=1)), s.best)
        gained = best < s.mark * (1 - _GAIN)
        same = (broken == s.side) | (s.step < 2)  # the first point, and x itself before it
        run = torch.where(same, s.run + 1, 1)
        crossed = torch.where((s.crossed < 0) & ~same, step, s.crossed)
        s = replace(
            s,
            best=best,
            mark=torch.where(gained, best, s.mark),
            side=broken,
            run=run,
            crossed=crossed,
            step=step,
        )
        done = self._annealed(s)
        fade = (1 + torch.cos(pi * done)) / 2
        alpha, gamma = (last + (first - last) * fade for first, last in zip(_FIRST, _LAST))
        factor = torch.where(broken, 1 - self.gamma * gamma, 1 + self.gamma * gamma)
        factor = factor ** torch.where(crossed < 0, run, run - _CALM).clamp(1, _HASTE)
        eps = torch.minimum(s.eps * factor, s.most)
        delta = delta + per_row(alpha, delta) * self._direction(s, answer)
        scale = eps / delta.flatten(1).norm(dim=1).clamp_min(torch.finfo(eps.dtype).tiny)
        return replace(
            s,
            v=s.box.clamp(s.x + per_row(scale, delta) * delta),
            eps=eps,
            stale=torch.where(gained | (done < 1), 0, s.stale + 1),
        )

    def done(self, s: _Sphere) -> Tensor:
        patience = max(2, self.steps // 33) if self.patience is None else self.patience
        return (s.step >= self.steps) | (s.stale >= patience)

    def _annealed(self, s: _Sphere) -> Tensor:
        """Which share of its schedule a row has behind it; the steps that are left, where those are fewer."""
        whole = (self.steps - s.crossed).clamp(1, ceil(self.pace * self.steps))
        return torch.where(s.crossed < 0, 0, ((s.step - s.crossed) / whole).clamp_max(1)).to(s.eps)

    @staticmethod
    def _direction(s: _Sphere, answer: Answer) -> Tensor:
        """g/‖g‖; a random direction where g = 0."""
        g: Any = answer.gradient
        length = l2_norm(g)
        if (flat := length == 0).any():
            rows = flat.nonzero().squeeze(1)
            g = g.index_copy(0, rows, take(s.noise, rows).normal(tuple(g.shape[1:])).to(g))
            length = l2_norm(g)
        return g / per_row(length, g)
