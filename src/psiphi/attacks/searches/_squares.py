"""Random search with windows that shrink: only scores are asked for, and only what raises them is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import windows
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box

_TILES, _TINY = 5, 1e-12
_BLOCK = 64  # steps whose draws are made at once
_PATIENCE = 2  # failures in a row for each further step that is asked about at once
_DRAWS = {"Linf": 2, "L2": 5, "L1": 5}  # of a step, beside a sign a channel


class _Plan(NamedTuple):
    """What all rows share: the shape of a row; of each level the sides of its windows and how many places they have.

    sides, places  (levels, 2); row, column: the numbers of the pixels, (h,) and (w,)
    lobes          (levels, 2, h, w), of the largest window; tile: those of the start, (2, h, w); neither in L∞
    """

    shape: tuple[int, ...]
    row: Tensor
    column: Tensor
    sides: Tensor
    places: Tensor
    lobes: Tensor
    tile: Tensor


@dataclass(frozen=True)
class _Squares:
    """x, best and what lies within the walls of ball and box as images (b, c, h, w); `step` counts the points told.

    failed: points told since the last one that raised the score.

    draws: of the steps from the last multiple of `_BLOCK` on, (b, _BLOCK, k).
    """

    x: Tensor
    best: Tensor
    low: Tensor
    high: Tensor
    score: Tensor
    step: Tensor
    failed: Tensor
    draws: Tensor
    threat: Any
    box: Box
    noise: Noise
    plan: _Plan

    @property
    def draw(self) -> Tensor:
        """Those of this step, (b, k)."""
        return self.draws[torch.arange(len(self.step), device=self.step.device), self.step % _BLOCK]


@dataclass(frozen=True)
class _Window:
    """Windows of the rows: where, (b, 1, h, w), and the places of the pixels in them, (b, h) and (b, w)."""

    mask: Tensor
    row: Tensor
    column: Tensor


@dataclass(frozen=True)
class Squares:
    """Vertical stripes at first; then one window a query at a random place, over the share p of the image, p falling.

    L∞: each channel of the window becomes x + ε or x − ε. L2, L1: the window gets a bump beside a dip and the length
    that is left over, that it had, and that a second window loses. What raises the score stays. Each row has
    windows, sizes and signs of its own.

    queries   points a row and restart, the start among them; p falls in step with them, from `p_init` to p_init/512
    restarts  runs from a new start
    ahead     at most so many windows of a row are asked about at once, more the longer none has helped, each as if
              those before it did not; those after one that does are sent for nothing. A black box is asked one by one

    Images are (c, h, w); two axes are height and width, one is an image of one row, and of four and more all between
    the first and the last are the height.

    Source: Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial attack via
    random search", 2020, algorithms 1-3; of L1, the code of Croce, Hein, "Mind the box: l1-APGD for sparse
    adversarial attacks on image classifiers", 2021.
    """

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    ahead: int = 1

    needs: ClassVar[Needs] = "scores"
    norms: ClassVar = ("Linf", "L2", "L1")

    def __post_init__(self) -> None:
        check_whole("queries", self.queries)
        check_whole("restarts", self.restarts)
        check_whole("ahead", self.ahead)
        if not 0 < self.p_init <= 1:
            raise ArgumentError(f"p_init is a share of the image in (0, 1]; got {self.p_init!r}.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Squares:
        if not threat.eps.isfinite().all():
            raise ArgumentError(f"{threat!r} has no radius, and a random search fills a ball: give one.")
        shape = tuple(x.shape[1:])
        c, h, w = _as_image(shape)
        far = per_row(threat.eps, x)
        low, high = box.clamp(x - far), box.clamp(x + far)
        image, low, high = (each.reshape(len(x), c, h, w) for each in (x, low, high))
        step = torch.zeros(len(x), dtype=torch.long, device=x.device)
        score = x.new_full((len(x),), -torch.inf)
        plan, draws = self._plan(shape, threat.norm, x), _drawn(noise, step, c + _DRAWS[threat.norm])
        s = _Squares(
            image, image, low, high, score, step, torch.zeros_like(step), draws, threat, box, noise, plan
        )
        return replace(s, best=_begun(s))

    def ask(self, s: _Squares, room: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(s.step), device=s.x.device)
        if self.done(s).any():  # all of them, whose last points were judged
            return s.best[:0].reshape(0, *s.plan.shape), rows[:0]
        if self.ahead > 1:
            many = self._many(s)
            rows = rows.repeat_interleave(torch.where(many.cumsum(0) - many < room, many, 0))
            s = replace(taken := take(s, rows), step=taken.step + _place(rows))
        i = s.step % self.queries - 1
        level = windows.level(i.clamp_min(0), self.queries)
        points = (_corners if s.threat.norm == "Linf" else _moved)(s, level)
        if (first := i < 0).any():
            points = torch.where(per_row(first, points), s.best, points)
        return points.reshape(-1, *s.plan.shape), rows

    def _many(self, s: _Squares) -> Tensor:
        """How many points each row asks about: none beyond a run or the draws at hand, and a start by itself, (b,)."""
        place = s.step % self.queries
        most = torch.minimum(self.queries - place, _BLOCK - s.step % _BLOCK).clamp_max(self.ahead)
        return torch.where(place == 0, 1, (1 + s.failed // _PATIENCE).minimum(most))

    def tell(self, s: _Squares, points: Tensor, owner: Tensor, answer: Answer) -> _Squares:
        points, score, used = points.view(-1, *s.best.shape[1:]), answer.score, 1
        if self.ahead > 1:
            place, many = _place(owner), owner.bincount(minlength=len(s.step))
            helps = torch.where(score > s.score[owner], place, self.ahead)
            first = torch.full_like(many, self.ahead).scatter_reduce(0, owner, helps, "amin")
            used = torch.where(first < self.ahead, first + 1, many)
            chosen = (many.cumsum(0) - many + (used - 1).clamp_min(0)).clamp_max(len(owner) - 1)
            points, score = points[chosen], torch.where(many > 0, score[chosen], -torch.inf)
        better = score > s.score
        best = torch.where(per_row(better, s.best), points, s.best)
        score, step = torch.where(better, score, s.score), s.step + used
        s = replace(s, best=best, score=score, step=step, failed=torch.where(better, 0, s.failed + used))
        if len(fresh := ((step % _BLOCK == 0) & (used > 0)).nonzero().squeeze(1)):
            s.draws[fresh] = _drawn(s.noise.take(fresh), step[fresh], s.draws.shape[2])
        again = (step % self.queries == 0) & (used > 0) & ~self.done(s)
        if again.any():
            best[again], score[again] = _begun(take(s, again.nonzero().squeeze(1))), -torch.inf
        return s

    def done(self, s: _Squares) -> Tensor:
        return s.step >= self.restarts * self.queries

    def _plan(self, shape: tuple[int, ...], norm: str, x: Tensor) -> _Plan:
        _, h, w = _as_image(shape)
        shares = [self.p_init / 2**k for k in range(len(windows.FALLS) + 1)]
        sizes = [windows.sides(p, h, w, odd=norm != "Linf") for p in shares]
        row, column = (torch.arange(n, device=x.device) for n in (h, w))
        sides = torch.tensor(sizes, device=x.device)
        places = torch.tensor((h, w), device=x.device) - sides + 1
        lobes = tile = x.new_zeros(0)
        if norm != "Linf":
            q = 2 if norm == "L2" else 1
            lobes = x.new_zeros(len(sizes), 2, *sizes[0])
            for k, (high, wide) in enumerate(sizes):
                lobes[k, :, :high, :wide] = windows.lobes(high, wide, q)
            tile = windows.lobes(max(h // _TILES, 1), max(w // _TILES, 1), q).to(x)
        return _Plan(shape, row, column, sides, places, lobes, tile)


def _as_image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width that the axes of a row are taken for."""
    if len(shape) < 3:
        return (1, *shape) if len(shape) == 2 else (1, 1, shape[0] if shape else 1)
    return shape[0], torch.Size(shape[1:-1]).numel(), shape[-1]


def _place(owner: Tensor) -> Tensor:
    """The how-manieth of its owner's points each one is, from 0, for owners in order, (n,)."""
    every = torch.arange(len(owner), device=owner.device)
    return every - torch.searchsorted(owner, owner)


def _drawn(noise: Noise, step: Tensor, k: int) -> Tensor:
    """What rows at these steps draw then and at the steps to come, (b, _BLOCK, k)."""
    rows = torch.arange(len(step), device=step.device).repeat_interleave(_BLOCK)
    steps = step[:, None] + torch.arange(_BLOCK, device=step.device)
    return noise.take(rows).each(steps.flatten()).uniform((k,)).view(len(step), _BLOCK, k)


def _sign(draw: Tensor) -> Tensor:
    return torch.where(draw < 0.5, -1.0, 1.0).to(draw)


def _begun(s: _Squares) -> Tensor:
    """Stripes of ±ε, or tiles of bumps and dips."""
    _, c, h, w = s.x.shape
    draws = s.noise.split("start").each(s.step)
    if s.threat.norm == "Linf":
        return torch.where(draws.uniform((c, 1, w)) < 0.5, s.low, s.high)
    high, wide = s.plan.tile.shape[1:]
    i, j = s.plan.row - h % high // 2, s.plan.column - w % wide // 2
    rows, columns = h // high, w // wide
    whole = ((i >= 0) & (i < rows * high))[:, None] & ((j >= 0) & (j < columns * wide))
    up, across = (i // high).clamp(0, rows - 1)[:, None], (j // wide).clamp(0, columns - 1)
    draw = draws.uniform((c + 1, rows, columns))[:, :, up, across]
    shape = s.plan.tile[(draw[:, :1] < 0.5).long(), (i % high)[:, None], j % wide]
    return _within(s, shape * _sign(draw[:, 1:]) * whole)


def _placed(s: _Squares, level: Tensor, draw: Tensor) -> _Window:
    """Windows at places drawn by (b, 2), every place alike."""
    size, places = s.plan.sides[level], s.plan.places[level]
    first = (draw * places).long().minimum(places - 1)
    row, column = s.plan.row - first[:, :1], s.plan.column - first[:, 1:]
    rows, columns = (row >= 0) & (row < size[:, :1]), (column >= 0) & (column < size[:, 1:])
    return _Window((rows[:, :, None] & columns[:, None, :])[:, None], row, column)


def _corners(s: _Squares, level: Tensor) -> Tensor:
    """The best image with a window of ±ε; the other signs where these would change nothing."""
    draw = s.draw
    mask, up = _placed(s, level, draw[:, :2]).mask, (draw[:, 2:] < 0.5)[..., None, None]
    points = torch.where(mask, torch.where(up, s.high, s.low), s.best)
    if len(idle := (points == s.best).flatten(1).all(1).nonzero().squeeze(1)):
        other = torch.where(up[idle], s.low[idle], s.high[idle])
        points[idle] = torch.where(mask[idle], other, s.best[idle])
    return points


def _moved(s: _Squares, level: Tensor) -> Tensor:
    """The best image with a bump and a dip in one window, of the length that is free and that another window gives up.

    A channel of the window gets ±η + δ/‖δ‖ over it, scaled to the q-th root of (ε^q − Σ|δ|^q)/c + Σ|δ|^q over both
    windows; in L1 times c, as the code has it.
    """
    c, q = s.x.shape[1], 2 if s.threat.norm == "L2" else 1
    draw = s.draw
    here, there = (_placed(s, level, draw[:, k : k + 2]) for k in (0, 2))
    lobes, turned = s.plan.lobes, (draw[:, 4] < 0.5).long()
    row, column = here.row.clamp(0, lobes.shape[2] - 1), here.column.clamp(0, lobes.shape[3] - 1)
    eta = lobes[level[:, None, None], turned[:, None, None], row[:, :, None], column[:, None, :]][:, None]
    delta = s.best - s.x
    mass = delta.abs().pow(q)
    spare = (s.threat.eps**q - mass.flatten(1).sum(1)).clamp_min(0)[:, None, None, None] / c
    free = (spare + _sum(mass * (here.mask | there.mask))) * (c if q == 1 else 1)
    window = eta * _sign(draw[:, 5:])[..., None, None] + delta / (_sum(mass * here.mask).pow(1 / q) + _TINY)
    window = window * here.mask
    window = window * (free.pow(1 / q) / (_sum(window.abs().pow(q)).pow(1 / q) + _TINY))
    return _within(s, torch.where(here.mask, window, delta * ~there.mask))


def _sum(value: Tensor) -> Tensor:
    return value.sum((2, 3), keepdim=True)


def _within(s: _Squares, delta: Tensor) -> Tensor:
    """x + δ inside: in L2 δ at the length ε and clipped, in L1 the nearest point of ball ∩ box, δ no shorter than ε."""
    length = torch.linalg.vector_norm(delta.flatten(1), 2 if s.threat.norm == "L2" else 1, dim=1)
    scale = s.threat.eps / length.clamp_min(_TINY)
    if s.threat.norm == "L2":
        return (s.x + per_row(scale, delta) * delta).clamp(s.low, s.high)
    v, x = (
        each.reshape(-1, *s.plan.shape) for each in (s.x + delta * per_row(scale.clamp_min(1), delta), s.x)
    )
    return s.threat.project(v, x, s.box).view_as(s.x)
