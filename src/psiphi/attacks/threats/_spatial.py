"""Rotation, translation and scale: few coordinates, whatever the image's size."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite, pi
from typing import ClassVar

import torch
from torch import Tensor

from psiphi.attacks.threats._base import Sized
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.formulas import geometry, projections, warps
from psiphi.formulas.geometry import Box


@dataclass(frozen=True, repr=False)
class Spatial(Sized):
    """The image turned, shifted and scaled within ranges; |u_i| ≤ eps for each coordinate u_i of a change.

    v = x turned by u₁·degrees, shifted by u₂, u₃·pixels, enlarged (1 + scale)^u₄ times: `psiphi.formulas.warps.turned`.

    degrees  the largest angle, either way
    pixels   the largest shift, either way: one number, or those of rows and of columns
    scale    the largest enlargement, and the inverse the other way: 0.25 is from 0.8 to 1.25; there is no u₄ at 0
    border   what comes in from beyond the edge: "zeros", "border" (the nearest pixel) or "reflection"
    eps      the share of all ranges that is allowed; 1 is all of them, and no more is

    A range of 0 holds its coordinate at 0. What is interpolated is brought into the data's box, zeros too. A step of
    length α moves by the share α of the ranges, and `distance` is the largest share. Takes images (b, C, H, W).
    """

    degrees: float = 30.0
    pixels: float | tuple[float, float] = 3.0
    scale: float = 0.0
    border: str = "zeros"
    eps: float | Tensor = field(default=1.0, kw_only=True)

    charted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.pixels if isinstance(self.pixels, (tuple, list)) else (self.pixels, self.pixels)
        if len(given) != 2 or not all(_is_range(each) for each in (self.degrees, *given, self.scale)):
            raise ArgumentError(
                "Spatial needs finite ranges of at least 0: degrees, pixels (one number, or rows and columns) and "
                f"scale; got degrees={self.degrees!r}, pixels={self.pixels!r}, scale={self.scale!r}."
            )
        if self.border not in warps.BORDERS:
            names = ", ".join(map(repr, warps.BORDERS))
            raise ArgumentError(f"border is one of {names}; got {self.border!r}.")
        object.__setattr__(self, "pixels", given[0] if given[0] == given[1] else tuple(given))

    def __repr__(self) -> str:
        told = [f"degrees={self.degrees:g}", f"pixels={self.pixels}"]
        told += [f"scale={self.scale:g}"] * (self.scale > 0) + [f"border={self.border!r}"]
        told += [] if self.radius == "1" else [f"eps={self.radius or 'inf'}"]
        return f"Spatial({', '.join(told)})"

    @property
    def _ranges(self) -> tuple[float, ...]:
        rows, columns = self.pixels if isinstance(self.pixels, tuple) else (self.pixels, self.pixels)
        return (self.degrees, rows, columns) + ((self.scale,) if self.scale else ())

    def expand(self, x: Tensor) -> Spatial:
        if x.ndim != 4:
            raise ShapeError(f"Spatial turns images (B, C, H, W); got {show(x.shape)}: reshape the data.")
        if x.dtype not in (torch.float32, torch.float64):
            raise ArgumentError(
                f"Spatial needs float32 or float64, and the classifier works in {x.dtype}, which is too coarse for "
                "places between pixels: attack classifier.float()."
            )
        return super().expand(x)

    def origin(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), len(self._ranges))

    def walls(self, box: Box, x: Tensor) -> Box:
        """±1, and 0 for a range of 0."""
        free = torch.tensor([float(each > 0) for each in self._ranges]).to(x)
        return Box(-free, free)

    def decode(self, u: Tensor, x: Tensor, box: Box) -> Tensor:
        change = u * torch.tensor(self._ranges[:3] + (1.0,) * (u.shape[1] - 3)).to(u)
        enlarged = (1 + self.scale) ** u[:, 3] if self.scale else torch.ones_like(u[:, 0])
        angle = change[:, 0] * (pi / 180)
        return box.clamp(warps.turned(x, angle, change[:, 1:3], enlarged, self.border))

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """All shares alike."""
        reach = torch.as_tensor(self.eps).clamp(max=1.0)
        return self.project(x + geometry.linf_uniform(noise, tuple(x.shape[1:]), reach), x, box)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        return projections.linf_project(v, x, self.eps, box)

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """The signs of the gradient, 0 where a wall is in the way."""
        return geometry.linf_steepest(g, v, box)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """The largest share of a range."""
        return geometry.linf_norm(v - x)

    def grid(self, counts: int | tuple[int, ...]) -> Tensor:
        """All points of a grid over [−1, 1] in each coordinate, (m, *u): evenly spaced, the farthest from 0 first.

        counts: of the angle, the shifts of rows and of columns, and the scale if there is one; an odd one has 0 among
        its values, 1 has nothing else. A coordinate whose range is 0 has one value.
        """
        ranges = self._ranges
        given = (counts,) * len(ranges) if not isinstance(counts, (tuple, list)) else tuple(counts)
        if len(given) != len(ranges):
            names = "angle, rows, columns" + ", scale" * (len(ranges) > 3)
            raise ArgumentError(
                f"a grid of {self!r} needs {len(ranges)} counts ({names}), or one for all; got {counts!r}."
            )
        for count in given:
            check_whole("a grid's count", count)
        return _lattice(tuple(count if each else 1 for count, each in zip(given, ranges)))


def _is_range(given: float) -> bool:
    return isinstance(given, (int, float)) and isfinite(given) and given >= 0


@lru_cache(maxsize=16)
def _lattice(counts: tuple[int, ...]) -> Tensor:
    """Of each coordinate n values from −1 to 1, of one 0, (Πn, k); in falling order of Σ |u_i|."""
    values = [(2 * torch.arange(n, dtype=torch.float64) - (n - 1)) / max(n - 1, 1) for n in counts]
    points = torch.cartesian_prod(*values).view(-1, len(counts))
    return points[points.abs().sum(1).sort(descending=True, stable=True).indices]
