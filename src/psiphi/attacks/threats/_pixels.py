"""A few pixels of any colour."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

from psiphi.attacks.threats._base import OfInputs, Sized
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import pixels
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box, l1_norm


@dataclass(frozen=True, repr=False)
class Pixels(OfInputs, Sized):
    """At most eps pixels change, each to any colour of the box: k = eps is a whole number, one or one a row.

    A pixel is all channels of a position; of flat data (b, d), a coordinate.
    """

    eps: float | Tensor = 1.0
    most: int = field(default=0, kw_only=True, compare=False)  # pixels of a row, once there are rows

    def __post_init__(self) -> None:
        super().__post_init__()
        eps = torch.as_tensor(self.eps)
        if not (eps == eps.round()).all():
            raise ArgumentError(
                f"Pixels needs a whole number of pixels, or one a row; got {self.eps}. How far a pixel's colour "
                "moves has no limit but the box."
            )

    def __repr__(self) -> str:
        return f"Pixels({self.radius})"

    def expand(self, x: Tensor) -> Pixels:
        each = super().expand(x)
        if not len(x):
            return each
        largest = torch.as_tensor(each.eps).max().clamp_max(prod(pixels.grid(x)[1]))
        return replace(each, most=int(largest))

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """k random positions, each of a random colour of the box, (b, *x)."""
        channels, _ = pixels.grid(x)
        place = noise.split("place").uniform((pixels.flat(x).shape[2],))
        colour = noise.split("colour").uniform((channels, place.shape[1]))
        lo, hi = pixels.walls(box, x)
        k = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device).expand(len(x))
        chosen = pixels.first(place, k)[:, None]
        return torch.where(chosen, lo + colour * (hi - lo), pixels.flat(x)).view_as(x)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        """The nearest point to `v`, in L2, of set ∩ box."""
        return pixels.pixels_project(v, x, self.eps, box)

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """d g/‖g‖₁, of d coordinates: a step of length α moves a coordinate by α on average.

        The projection that follows keeps the k pixels that moved most.

        Source: Croce, Hein, "Sparse and imperceivable adversarial attacks", 2019, PGD₀; the steps of their code on
        colour images of 32 × 32 are α = 0.15.
        """
        size = l1_norm(g)
        return g * per_row(g[:1].numel() / size.where(size > 0, 1), g)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """How many pixels differ, (b,)."""
        return pixels.changed(v, x).sum(1).to(x.dtype)

    def paint(self, x: Tensor, place: Tensor, colour: Tensor) -> Tensor:
        """The rows `x` (n, *x) with pixels of these colours (n, p, C) at these positions (n, p), in reading order.

        Of more than k pixels a row, the first k.
        """
        k = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device).expand(len(x))
        enough = place.shape[1] <= k
        return pixels.painted(x, place, colour, None if enough.all() else k)
