"""Tables: columns that stay, that count, that have bounds of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isnan, nan, prod
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks.threats._balls import L1, L2, Linf
from psiphi.attacks.threats._base import OfInputs, Sized
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box


@dataclass(frozen=True, repr=False)
class Columns(OfInputs, Sized):
    """A ball of changes to some columns only: immutable ones stay, integers stay whole, ranges bound v itself.

    ball       Linf, L2 or L1, in the data's units
    immutable  columns that keep their value
    integers   columns that take whole values; those of x must be whole, or a sentence says which is not
    ranges     column -> (low, high), beside the data's box; x must lie within
    eps        the ball's radius, if it is not to be the ball's own

    Columns are numbered from 0, of the flat coordinates where data have more axes. `project` is the nearest point in
    Linf; in L2 and L1 where there are no integers. With them it is nearest but for the integers, which are rounded if
    that stays in the ball and else go back towards x.

    A step that would move an integer by less than a half is undone by the rounding. In Linf the steepest step moves
    integers by 1 at least; in L2 and L1 give a step that is long enough, or start at random points.
    """

    ball: Linf | L2 | L1 = field(default_factory=Linf)
    immutable: tuple[int, ...] = ()
    integers: tuple[int, ...] = ()
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    eps: float | Tensor = field(default=nan, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.ball, (Linf, L2, L1)):
            raise ArgumentError(f"Columns needs a ball, Linf, L2 or L1; got {self.ball!r}.")
        own = isinstance(self.eps, float) and isnan(self.eps)
        object.__setattr__(self, "eps", self.ball.eps if own else self.eps)
        super().__post_init__()
        object.__setattr__(self, "ball", replace(self.ball, eps=self.eps))
        for name in ("immutable", "integers"):
            object.__setattr__(self, name, _columns(name, getattr(self, name)))
        _columns("ranges", self.ranges)
        for column, bounds in self.ranges.items():
            if not isinstance(bounds, (tuple, list)) or len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise ArgumentError(
                    f"the range of column {column} is (low, high) with low ≤ high; got {bounds!r}."
                )

    def __repr__(self) -> str:
        told = [f"{name}={value}" for name in ("immutable", "integers") if (value := getattr(self, name))]
        told += [f"ranges={dict(self.ranges)}"] if self.ranges else []
        return f"Columns({', '.join([repr(self.ball), *told])})"

    def expand(self, x: Tensor) -> Columns:
        """Raises `ArgumentError` for a column that is not there, `DataError` for values that break the constraints."""
        flat, count = x.flatten(1), prod(x.shape[1:])
        for column in (*self.immutable, *self.integers, *self.ranges):
            if column >= count:
                raise ArgumentError(f"Columns names column {column}, but a row has {count}, from 0 on.")
        for column in self.integers:
            value = flat[:, column]
            _check(value == value.round(), value, column, "which is said to hold whole numbers")
        for column, (low, high) in self.ranges.items():
            value = flat[:, column]
            within = (value >= low) & (value <= high)
            _check(within, value, column, f"whose range is from {low} to {high}")
        return super().expand(x)

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """A uniform draw from the ball, brought to the nearest point that is allowed."""
        return self.project(self.ball.start(x, self._within(x, box), noise), x, box)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        """The nearest point to `v` that is allowed; with integers in L2 and L1 one that is allowed."""
        u = self.ball.project(v, x, self._held(x, box))
        if not self.integers:
            return u
        whole = self._where(self.integers, x)
        near = torch.where(whole, u.round(), u)
        back = torch.where(whole, x + (u - x).trunc(), u)
        if isinstance(self.ball, Linf):
            return torch.where((near - x).abs() <= per_row(torch.as_tensor(self.eps).to(x), x), near, back)
        fits = self.ball.distance(near, x) <= torch.as_tensor(self.eps).to(x)
        return torch.where(per_row(fits, x), near, back)

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """The ball's, along the columns that may change; in Linf integers move by 1 at least, given the `length`."""
        g = g.masked_fill(self._where(self.immutable, g), 0)
        d = self.ball.steepest(g, v, self._within(v, box), length)
        if not self.integers or length is None or not isinstance(self.ball, Linf):
            return d
        whole = torch.as_tensor(length).to(v).clamp_min(torch.finfo(v.dtype).tiny).reciprocal()
        return torch.where(self._where(self.integers, g), d * per_row(whole.clamp_min(1), v), d)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """The ball's norm of v − x."""
        return self.ball.distance(v, x)

    def _where(self, columns: Iterable[int], x: Tensor) -> Tensor:
        """Whether a coordinate is of one of the columns, (1, *x)."""
        mask = torch.zeros(prod(x.shape[1:]), dtype=torch.bool, device=x.device)
        mask[list(columns)] = True
        return mask.view(1, *x.shape[1:])

    def _within(self, x: Tensor, box: Box) -> Box:
        """The box with the ranges, and whole bounds for integers, (1, *x)."""
        if not self.ranges and not self.integers:
            return box
        one = x.new_zeros(1, *x.shape[1:])
        lo, hi = ((one + wall).flatten() for wall in box.like(x))
        for column, (low, high) in self.ranges.items():
            lo[column], hi[column] = max(float(lo[column]), low), min(float(hi[column]), high)
        counted = list(self.integers)
        lo[counted], hi[counted] = lo[counted].ceil(), hi[counted].floor()
        return Box(lo.view_as(one), hi.view_as(one))

    def _held(self, x: Tensor, box: Box) -> Box:
        """The same, with x itself for both walls of an immutable column, (b, *x)."""
        box = self._within(x, box)
        if not self.immutable:
            return box
        fixed, like = self._where(self.immutable, x), box.like(x)
        return Box(*(torch.where(fixed, x, torch.as_tensor(wall).to(x)) for wall in like))


def _columns(name: str, given: Any) -> tuple[int, ...]:
    columns = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in columns):
        raise ArgumentError(f"{name} names columns by their numbers, from 0 on; got {given!r}.")
    return columns


def _check(holds: Tensor, value: Tensor, column: int, what: str) -> None:
    if len(bad := (~holds).nonzero().flatten()):
        row = int(bad[0])
        raise DataError(
            f"row {row} has {float(value[row]):g} in column {column}, {what} ({len(bad)} rows do): "
            "leave the column out of the constraints, or the rows out of the data."
        )
