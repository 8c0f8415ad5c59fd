"""Any change within a window, none outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from psiphi.attacks.threats._base import OfInputs, Sized
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.formulas import geometry, projections
from psiphi.formulas.geometry import Box


@dataclass(frozen=True, repr=False)
class Patch(OfInputs, Sized):
    """The pixels of one window take any value of the box, all others stay: v = x off W, |v − x| ≤ eps on W.

    size   of the window in pixels: one number, or height and width
    place  "center", or row and column of its upper left pixel
    eps    the largest change of a value; by default the box alone limits it

    The window lies at the same place of every image, through all channels. Steps are by sign, as in `Linf`; where
    there is no eps, a search needs the length of its steps in the data's units, or Patch(…, eps=1.0) for a box [0, 1].
    """

    size: int | tuple[int, int] = 5
    place: str | tuple[int, int] = "center"
    eps: float | Tensor = field(default=inf, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.size if isinstance(self.size, (tuple, list)) else (self.size, self.size)
        if not _are_whole(size, 1):
            raise ArgumentError(
                f"size is a whole number of pixels of at least 1, or height and width; got {self.size!r}."
            )
        object.__setattr__(self, "size", tuple(size))
        if self.place != "center":
            if isinstance(self.place, str) or not _are_whole(self.place, 0):
                raise ArgumentError(
                    'place is "center", or row and column of the upper left pixel, from 0 on; '
                    f"got {self.place!r}."
                )
            object.__setattr__(self, "place", tuple(self.place))

    def __repr__(self) -> str:
        told = [f"size={self.size}", f"place={self.place!r}"] + [f"eps={self.radius}"] * bool(self.radius)
        return f"Patch({', '.join(told)})"

    def window(self, shape: Sequence[int]) -> Tensor:
        """The pixels that may change, bool (H, W), of data of shape (…, H, W). Raises `ShapeError`."""
        if len(shape) < 2:
            raise ShapeError(f"Patch needs images (…, H, W); got {show(shape)}: reshape the data.")
        image, size = tuple(shape[-2:]), self._pair(self.size)
        top, left = (
            ((image[0] - size[0]) // 2, (image[1] - size[1]) // 2)
            if self.place == "center"
            else self._pair(self.place)
        )
        if min(top, left) < 0 or top + size[0] > image[0] or left + size[1] > image[1]:
            raise ShapeError(
                f"a window of {size[0]} × {size[1]} pixels at row {top}, column {left} does not fit into an "
                f"image of {image[0]} × {image[1]}: give a smaller size or another place."
            )
        inside = torch.zeros(image, dtype=torch.bool)
        inside[top : top + size[0], left : left + size[1]] = True
        return inside

    def expand(self, x: Tensor) -> Patch:
        self.window(x.shape[1:])
        return super().expand(x)

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """Uniform in the window: over the box, or within eps of x and brought into the box."""
        eps, (lo, hi) = torch.as_tensor(self.eps), box.like(x)
        if eps.isfinite().all():
            delta = geometry.linf_uniform(noise, tuple(x.shape[1:]), self.eps)
            return self.project(x + delta, x, box)
        if not all(torch.as_tensor(wall).isfinite().all() for wall in box):
            raise ArgumentError(
                "Patch has no eps and the data's box no end, so there is no random point to start from: give "
                "Patch(…, eps=…), or bounds to the access, or start at the input (random_start=False)."
            )
        return self.project(lo + (hi - lo) * noise.uniform(tuple(x.shape[1:])), x, box)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        """v within eps and the box on the window, x elsewhere."""
        near = projections.linf_project(v, x, self.eps, box)
        return torch.where(self.window(x.shape[1:]).to(x.device), near, x)

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """The signs of the gradient in the window, 0 where a wall is in the way."""
        return geometry.linf_steepest(g * self.window(g.shape[1:]).to(g.device), v, box)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """The largest change of a value."""
        return geometry.linf_norm(v - x)

    @staticmethod
    def _pair(given: int | str | tuple[int, int]) -> tuple[int, int]:
        assert isinstance(given, tuple)
        return given


def _are_whole(given: object, least: int) -> bool:
    return (
        isinstance(given, (tuple, list))
        and len(given) == 2
        and all(isinstance(each, int) and not isinstance(each, bool) and each >= least for each in given)
    )
