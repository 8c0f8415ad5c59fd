"""One threat after another, such as a rotation and then a small change of every pixel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks.threats._base import Sized
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box


@dataclass(frozen=True, repr=False)
class Chain(Sized):
    """What `second` makes of what `first` makes of x: v = clamp(T(x) + δ) for `Chain(Spatial(), Linf(8/255))`.

    Points are the coordinates of both, side by side, (b, n₁ + n₂): those of its chart where a threat has one (T), and
    the change itself, δ about 0, of one whose points are inputs. Both move at once, each by the same share of its
    radius: `steepest` is the steepest step in the norm maxᵢ ‖·‖ᵢ/epsᵢ, which `distance` reads, and `project` is the
    nearest point, part by part.

    eps  the share of both radii that is allowed, so a curve varies both; each part needs a finite radius of its own

    Where T(x) + δ leaves the box, v is at the wall and δ beyond it; it is then pulled back inside only.
    """

    first: Any = None
    second: Any = None
    eps: float | Tensor = field(default=1.0, kw_only=True)
    _shapes: tuple[tuple[int, ...], ...] = field(default=(), kw_only=True)

    charted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in (self.first, self.second):
            for use in ("steepest", "eps"):
                if not hasattr(part, use):
                    raise ArgumentError(
                        f"Chain needs threats with a radius and a steepest step; got {part!r}."
                    )
            if not torch.as_tensor(part.eps).isfinite().all():
                raise ArgumentError(
                    f"Chain takes shares of the radii of its parts, and {part!r} has none: give it one, e.g. eps=1.0."
                )

    def __repr__(self) -> str:
        share = "" if self.radius == "1" else f", eps={self.radius or 'inf'}"
        return f"Chain({self.first!r}, {self.second!r}{share})"

    def expand(self, x: Tensor) -> Chain:
        parts = [part.expand(x) for part in (self.first, self.second)]
        shapes = tuple(tuple((part.origin(x) if part.charted else x).shape[1:]) for part in parts)
        return replace(super().expand(x), first=parts[0], second=parts[1], _shapes=shapes)

    def origin(self, x: Tensor) -> Tensor:
        """(b, n₁ + n₂)."""
        return torch.cat(
            [
                (part.origin(x) if part.charted else torch.zeros_like(x)).flatten(1)
                for part in (self.first, self.second)
            ],
            1,
        )

    def walls(self, box: Box, x: Tensor) -> Box:
        """Those of a chart; lo − hi and hi − lo of a change. Two vectors (n₁ + n₂)."""
        lo, hi = box.like(x)
        walls = [
            part.walls(box, x) if part.charted else Box(lo - hi, hi - lo)
            for part in (self.first, self.second)
        ]
        bounds = (
            torch.cat(
                [(x.new_zeros(1, *shape) + each[side]).flatten() for each, shape in zip(walls, self._forms)]
            )
            for side in (0, 1)
        )
        return Box(*bounds)

    def decode(self, u: Tensor, x: Tensor, box: Box) -> Tensor:
        v, (lo, hi) = x, box.like(x)
        for part, own in zip((self.first, self.second), self._split(u)):
            v = part.decode(own, v, box) if part.charted else _moved(v, own, lo, hi)
        return v

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """A random point of each."""
        names = ("first", "second")
        parts = zip(names, self._sized, self._split(x), self._boxes(box))
        return _side_by_side(part.start(own, walls, noise.split(name)) for name, part, own, walls in parts)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        parts = zip(self._sized, self._split(v), self._split(x), self._boxes(box))
        return _side_by_side(part.project(own, centre, walls) for part, own, centre, walls in parts)

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """Of each part its steepest step, times its radius."""
        parts = zip((self.first, self.second), self._split(g), self._split(v), self._boxes(box))
        return _side_by_side(
            per_row(part.eps, g)
            * part.steepest(slope, own, walls, None if length is None else length * part.eps).flatten(1)
            for part, slope, own, walls in parts
        )

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """The larger share of a radius, (b,)."""
        shares = []
        for part, own, centre in zip((self.first, self.second), self._split(v), self._split(x)):
            far = part.distance(own, centre)
            shares.append(torch.where(far > 0, far / part.eps, 0))
        return torch.maximum(*shares)

    @property
    def _sized(self) -> list[Any]:
        """The parts at their share of their radii."""
        return [replace(part, eps=part.eps * self.eps) for part in (self.first, self.second)]

    @property
    def _forms(self) -> tuple[tuple[int, ...], ...]:
        if not self._shapes:
            raise ArgumentError(
                "Chain does not know the shape of the data yet: ask threat.expand(x) instead."
            )
        return self._shapes

    def _split(self, u: Tensor) -> list[Tensor]:
        """The coordinates of each part, (b, *uᵢ)."""
        parts = u.split([prod(shape) for shape in self._forms], 1)
        return [part.reshape(len(u), *shape) for part, shape in zip(parts, self._forms)]

    def _boxes(self, box: Box) -> list[Box]:
        lo, hi = (self._split(torch.as_tensor(wall)[None]) for wall in box)
        return [Box(*walls) for walls in zip(lo, hi)]


def _side_by_side(parts: Any) -> Tensor:
    return torch.cat([part.flatten(1) for part in parts], 1)


def _moved(v: Tensor, delta: Tensor, lo: Any, hi: Any) -> Tensor:
    """clamp(v + δ)."""
    return _Moved.apply(v, delta, *(torch.as_tensor(wall).to(v) for wall in (lo, hi)))  # pyright: ignore[reportReturnType]


class _Moved(torch.autograd.Function):
    """clamp(v + δ), whose gradient by v is the true one, and by δ also points back inside from beyond a wall.

    The true one is 0 there, and δ would never return.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, delta: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
        there = v + delta
        ctx.save_for_backward(there <= lo, there >= hi, (there < lo) | (there > hi))
        return there.clamp(min=lo).clamp_(max=hi)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        low, high, beyond = ctx.saved_tensors
        (g,) = gradients
        stuck = (low & (g < 0)) | (high & (g > 0))
        return g.masked_fill(beyond, 0), g.masked_fill(stuck, 0), None, None
