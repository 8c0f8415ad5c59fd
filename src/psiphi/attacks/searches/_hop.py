"""Walks along a decision boundary by labels alone: hops that tell its normal, a leap along it, a bisection back."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import prod, sqrt
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box, l2_norm

START, BISECT, HOP, LEAP, FAILED = range(5)  # what a row asks next
_FINE = 1e-3  # a bisection ends within this share of the distance at the latest
_STRIDE = 0.05  # the share of the distance that a bisection after a leap first looks below it
_LONGER, _SHORTER = 3, 12  # leaps that are tried beyond the first
_TURNS = 6  # of the fixed point that keeps a leap's distance in spite of the walls
_KEPT = 16  # directions that the mean of Linf's holds
_ROUNDED = 8  # units in the last place below which a change is not to be told from rounding


@dataclass(frozen=True)
class _Walk:
    """Rows on their way.

    v        the nearest point on the goal's side; order: of the starting points that were given, the nearest first
    far      where a bisection comes from, at the distance `off`; it goes on between `low` and `high`, the distance of
             v, and looks at most `stride` below
    normal   the direction of the last leap; pulled, moved, sign, hops: Σ z r, Σ r, Σ z, Σ 1 over the hops told at v
    length   of the leap to try; good: the longest that held; rose: longer ones are tried; half: this is half of good
    step     leaps so far; drawn: random points so far
    """

    x: Tensor
    v: Tensor
    order: Tensor
    far: Tensor
    off: Tensor
    low: Tensor
    high: Tensor
    stride: Tensor
    normal: Tensor
    pulled: Tensor
    moved: Tensor
    sign: Tensor
    hops: Tensor
    wanted: Tensor
    length: Tensor
    good: Tensor
    rose: Tensor
    half: Tensor
    tried: Tensor
    phase: Tensor
    step: Tensor
    drawn: Tensor
    threat: Any
    box: Box
    noise: Noise


@dataclass(frozen=True, eq=False)
class Hops:
    """HopSkipJump: v ← bisection of [x, leap from v along n̂], n̂ = Σ_b (z_b − z̄) r_b over hops v + δ r_b, z = ±1.

    θ = γ d^{−3/2} (Linf: γ d^{−2}) of the distance D is a bisection's width, and δ = √d θ D (d θ D) a hop's. L2's hops
    are at right angles to v − x. Hops at step t: min(initial (t + 1)^growth, most). A leap goes to the distance D of v,
    in the direction (v − x)/D + s n̂ (Linf: clipped, of the sign of n̂); s doubles or halves to the longest that holds,
    and half of it is taken. `points` (m, *x), if any, are tried as starts before `tries` random ones: uniform ones of
    the box, and corners of it with a random share of upper walls, in turns.
    """

    steps: int = 64
    initial: int = 100
    most: int = 10_000
    gamma: float = 1.0
    tries: int = 100
    growth: float = 0.0
    points: Tensor | None = None

    needs: ClassVar[Needs] = "labels"
    norms: ClassVar = ("L2", "Linf")
    roams: ClassVar = True

    def __post_init__(self) -> None:
        for name in ("steps", "initial", "most", "tries"):
            check_whole(name, getattr(self, name))
        if not 0 < self.gamma < float("inf"):
            raise ArgumentError(f"gamma is a positive number; got {self.gamma!r}.")
        if not 0 <= self.growth <= 1:
            raise ArgumentError(f"growth lies in [0, 1]; got {self.growth!r}.")

    @property
    def aims(self) -> bool:
        """Whether it can start in a class that is asked for."""
        return self.points is not None

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Walk:
        zero = x.new_zeros(len(x))
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        no, blank = none.bool(), torch.zeros_like(x)
        return _Walk(
            x=x, v=x, order=self._order(x, threat), far=x, off=zero, low=zero, high=zero, stride=zero,
            normal=blank, pulled=blank, moved=blank, sign=zero, hops=none, wanted=none, length=zero + 1, good=zero,
            rose=no, half=no, tried=none, phase=none, step=none, drawn=none,
            threat=threat, box=box, noise=noise.split("hops"),
        )  # fmt: skip

    def done(self, s: _Walk) -> Tensor:
        return (s.phase == FAILED) | (s.step >= self.steps)

    # ------------------------------------------------------------------------------------------------ what is asked
    def ask(self, s: _Walk, room: int) -> tuple[Tensor, Tensor]:
        every, phase = torch.arange(len(s.x), device=s.x.device), torch.where(self.done(s), FAILED, s.phase)
        points, owners = [s.x[:0]], [every[:0]]
        for kind, make in ((START, self._begun), (BISECT, self._between), (LEAP, self._leapt)):
            if len(rows := every[phase == kind]):
                points.append(make(take(s, rows)))
                owners.append(rows)
        if len(rows := every[phase == HOP]):
            each = max(1, (room - sum(map(len, owners))) // len(rows))
            count = (s.wanted[rows] - s.hops[rows]).clamp(max=each)
            owner = rows.repeat_interleave(count)
            place = torch.arange(len(owner), device=owner.device)
            points.append(self._hopped(s, owner, place - (count.cumsum(0) - count).repeat_interleave(count)))
            owners.append(owner)
        return torch.cat(points), torch.cat(owners)

    def _begun(self, s: _Walk) -> Tensor:
        lo, hi = s.box.like(s.x)
        draws = s.noise.each(s.drawn).uniform((1 + prod(s.x.shape[1:]),))
        share, u = draws[:, 0], draws[:, 1:].view_as(s.x)
        corner = (s.drawn - s.order.shape[1]) % 2 == 1
        points = lo + (hi - lo) * torch.where(per_row(corner, u), (u < per_row(share, u)).to(u), u)
        if self.points is not None and (given := s.drawn < s.order.shape[1]).any():
            number = s.order[given].gather(1, s.drawn[given, None]).squeeze(1)
            points[given] = s.box.clamp(self.points.to(s.x)[number])
        return points

    def _between(self, s: _Walk) -> Tensor:
        change, r = s.far - s.x, per_row(_middle(s), s.x)
        if s.threat.norm == "Linf":
            return s.x + change.minimum(r).maximum(-r)
        return s.x + change * (r / per_row(s.off, s.x))

    def _hopped(self, s: _Walk, owner: Tensor, place: Tensor) -> Tensor:
        v, drawn = s.v[owner], s.noise.take(owner).each(s.drawn[owner] + place)
        r = _unit(_across(drawn.normal(v.shape[1:]), v - s.x[owner], s.threat))
        return s.box.clamp(v + per_row(self._width(s)[owner], v) * r)

    def _leapt(self, s: _Walk) -> Tensor:
        way, long, high = (s.v - s.x) / per_row(s.high, s.x), per_row(s.length, s.x), per_row(s.high, s.x)
        if s.threat.norm == "Linf":
            return s.box.clamp(s.x + high * (way + long * s.normal.sign()).clamp(-1, 1))
        p = way = way + long * s.normal
        scale = s.high / l2_norm(way)
        for _ in range(_TURNS):
            p = s.box.clamp(s.x + per_row(scale, s.x) * way)
            scale = scale * (s.high / l2_norm(p - s.x).clamp_min(torch.finfo(p.dtype).tiny)).clamp(max=4)
        return p

    # ------------------------------------------------------------------------------------------------ what is told
    def tell(self, s: _Walk, points: Tensor, owner: Tensor, answer: Answer) -> _Walk:
        phase = s.phase[owner]
        if len(mine := (phase == HOP).nonzero().squeeze(1)):
            s = self._felt(s, points[mine], owner[mine], answer.broken[mine])
        for kind, hear in ((START, self._started), (BISECT, self._closed), (LEAP, self._landed)):
            if len(mine := (phase == kind).nonzero().squeeze(1)):
                rows = owner[mine]
                s = _put(s, rows, hear(take(s, rows), points[mine], answer.broken[mine]))
        return s

    def _started(self, s: _Walk, points: Tensor, broken: Tensor) -> _Walk:
        drawn, off = s.drawn + 1, s.threat.distance(points, s.x)
        phase = torch.where(drawn >= s.order.shape[1] + self.tries, FAILED, START)
        phase = torch.where(broken, BISECT, phase)
        return replace(s, v=points, far=points, off=off, high=off, stride=off, phase=phase, drawn=drawn)

    def _closed(self, s: _Walk, points: Tensor, broken: Tensor) -> _Walk:
        radius, on = _middle(s), per_row(broken, s.v)
        s = replace(
            s, v=torch.where(on, points, s.v), high=torch.where(broken, radius, s.high),
            low=torch.where(broken, s.low, radius), stride=torch.where(broken, 2 * s.stride, s.stride),
        )  # fmt: skip
        there = s.high - s.low <= self.tolerance(s.v, s.x, s.high, s.threat)
        fresh = per_row(~there, s.v)
        return replace(
            s, phase=torch.where(there, HOP, s.phase), wanted=torch.where(there, self._count(s.step), s.wanted),
            pulled=s.pulled * fresh, moved=s.moved * fresh, sign=s.sign * ~there, hops=s.hops * ~there,
        )  # fmt: skip

    def _felt(self, s: _Walk, points: Tensor, owner: Tensor, broken: Tensor) -> _Walk:
        z, one = 2 * broken.to(s.x) - 1, torch.ones_like(owner)
        r = (points - s.v[owner]) / per_row(self._width(s)[owner], points)
        s = replace(
            s, pulled=s.pulled.index_add(0, owner, per_row(z, r) * r), moved=s.moved.index_add(0, owner, r),
            sign=s.sign.index_add(0, owner, z), hops=s.hops.index_add(0, owner, one),
            drawn=s.drawn.index_add(0, owner, one),
        )  # fmt: skip
        rows = ((s.phase == HOP) & (s.hops >= s.wanted)).nonzero().squeeze(1)
        return _put(s, rows, self._aimed(take(s, rows))) if len(rows) else s

    def _aimed(self, s: _Walk) -> _Walk:
        """All hops told: the normal by covariance, or where they all agree by their mean."""
        mean = s.sign / s.hops
        pull = s.pulled - per_row(torch.where(mean.abs() == 1, 0, mean), s.x) * s.moved
        normal = _unit(_across(_unit(pull), s.v - s.x, s.threat))
        if s.threat.norm == "Linf":  # whose direction of leaps does not hold what was learnt before
            normal = _unit(normal + per_row(s.step.to(s.x).clamp(max=_KEPT).sqrt(), s.x) * s.normal)
        no, none = torch.zeros_like(s.rose), torch.zeros_like(s.tried)
        fresh = {"good": torch.zeros_like(s.good), "rose": no, "half": no, "tried": none}
        return replace(s, normal=normal, phase=none + LEAP, **fresh)

    def _landed(self, s: _Walk, points: Tensor, broken: Tensor) -> _Walk:
        tried = s.tried + 1
        good = torch.where(broken & ~s.half, s.length, s.good)
        longer = broken & ~s.half & (s.rose | (s.tried == 0)) & (tried <= _LONGER)
        half = ~s.half & ~longer & (good > 0)
        lost = ~broken & (good == 0) & (tried > _SHORTER)  # more hops at the same point, beside those told
        over, on, step = s.half, per_row(s.half, s.x), s.step + (s.half | lost)
        far = torch.where(per_row(broken, s.x), points, s.far)
        off = torch.where(broken, s.threat.distance(points, s.x), s.off)
        length = torch.where(longer, 2 * s.length, torch.where(half, good / 2, s.length / 2))
        phase = torch.where(over, BISECT, torch.where(lost, HOP, s.phase))
        return replace(
            s, tried=tried, good=good, rose=longer | (s.rose & broken), half=half, step=step, phase=phase,
            length=torch.where(over, good, torch.where(lost, 1, length)),
            wanted=torch.where(lost, s.hops + self._count(step), s.wanted),
            far=far, off=off, v=torch.where(on, far, s.v), high=torch.where(over, off, s.high),
            low=torch.where(over, 0, s.low), stride=torch.where(over, _STRIDE * off, s.stride),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ sizes
    def _order(self, x: Tensor, threat: Any) -> Tensor:
        if self.points is None:
            return torch.zeros(len(x), 0, dtype=torch.long, device=x.device)
        if self.points.shape[1:] != x.shape[1:]:
            raise ShapeError(
                f"start has shape {show(self.points.shape)}; points of shape {show(x.shape[1:])} are needed."
            )
        far = [threat.distance(point.to(x).expand_as(x), x) for point in self.points]
        return torch.stack(far, 1).argsort(dim=1, stable=True)

    def _count(self, step: Tensor) -> Tensor:
        return (self.initial * (step + 1).double() ** self.growth).long().clamp(max=self.most)

    def _theta(self, x: Tensor, threat: Any) -> float:
        return self.gamma * prod(x.shape[1:]) ** (-2.0 if threat.norm == "Linf" else -1.5)

    def tolerance(self, v: Tensor, x: Tensor, distance: Tensor, threat: Any) -> Tensor:
        """The width at which the bisection of a point at this distance ends: θ, at most 1e-3, of it; no rounding."""
        grain = _rounding(v) * (1 if threat.norm == "Linf" else sqrt(prod(x.shape[1:])))
        return (min(self._theta(x, threat), _FINE) * distance).maximum(grain)

    def _width(self, s: _Walk) -> Tensor:
        d = prod(s.x.shape[1:])
        width = self._theta(s.x, s.threat) * (d if s.threat.norm == "Linf" else sqrt(d)) * s.high
        return width.maximum(4 * sqrt(d) * _rounding(s.v))


def _middle(s: _Walk) -> Tensor:
    return torch.maximum((s.low + s.high) / 2, s.high - s.stride)


def _rounding(v: Tensor) -> Tensor:
    return _ROUNDED * torch.finfo(v.dtype).eps * v.flatten(1).abs().amax(1)


def _unit(v: Tensor) -> Tensor:
    return v / per_row(l2_norm(v).clamp_min(torch.finfo(v.dtype).tiny), v)


def _across(r: Tensor, change: Tensor, threat: Any) -> Tensor:
    """L2: the part of r at right angles to the change, along which the distance does not change."""
    if threat.norm == "Linf":
        return r
    along = _unit(change)
    return r - per_row((along * r).flatten(1).sum(1), r) * along


def _put(s: _Walk, rows: Tensor, part: _Walk) -> _Walk:
    """The state with these rows in place of its own."""
    changed = {}
    for f in fields(s):
        mine, new = getattr(s, f.name), getattr(part, f.name)
        if isinstance(mine, Tensor) and f.name not in ("x", "order"):
            changed[f.name] = mine.index_copy(0, rows, new.to(mine.dtype))
    return replace(s, **changed)
