"""Every pixel in every colour of a palette, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import pixels
from psiphi.formulas.geometry import Box

Colours = str | Sequence[float | Sequence[float]]
SLICE = 32  # points of a row in a turn: the same whatever the batch, so that a row's answers are too
_MOST = 8


def check_colours(colours: Any) -> None:
    """Raises `ArgumentError` for what is neither "corners" nor a list of colours."""
    if colours == "corners":
        return
    try:
        table = torch.as_tensor(colours, dtype=torch.float64)
    except (TypeError, ValueError):
        table = torch.empty(0)
    if (
        isinstance(colours, str)
        or table.ndim not in (1, 2)
        or not table.numel()
        or not table.isfinite().all()
    ):
        raise ArgumentError(
            "a palette is 'corners', those of the data's box, or a list of colours in the data's units, each a number "
            f"or one number a channel, such as (0, 0.5, 1) or ((1, 0, 0), (0, 0, 1)); got {colours!r}."
        )


class Swatches(NamedTuple):
    """The colours of a palette at each position, (K, C, P), or (K, C, 1) where they are the same at each."""

    colour: Tensor

    def at(self, number: Tensor, place: Tensor) -> Tensor:
        """Colours of these numbers (n,) at these positions (n,), (n, C)."""
        return self.colour[number, :, place if self.colour.shape[2] > 1 else 0]

    def nearest(self, wanted: Tensor, place: Tensor) -> Tensor:
        """The colours nearest to those wanted (n, C), of equals the first, (n, C)."""
        there = self.colour[:, :, place] if self.colour.shape[2] > 1 else self.colour
        off = (there - wanted.T).square().sum(1)
        return self.at(off.argmin(0), place)

    def repeated(self) -> Tensor:
        """Colours that stand in the palette before, at each position, (K, P or 1)."""
        each = self.colour
        return torch.stack([(each[:j] == each[j]).all(1).any(0) for j in range(len(each))])


def swatches(colours: Colours, x: Tensor, box: Box) -> Swatches:
    """The palette for inputs such as `x`. Raises `ArgumentError` where it does not fit their channels or the box."""
    (channels, _), (lo, hi) = pixels.grid(x), pixels.walls(box, x)
    if colours == "corners":
        if channels > _MOST:
            raise ArgumentError(
                f"a pixel of {channels} channels has {2.0**channels:.3g} corners, too many to try each: name a palette."
            )
        if bool((lo == lo[:, :1]).all() and (hi == hi[:, :1]).all()):
            lo, hi = lo[:, :1], hi[:, :1]
        bits = torch.arange(2**channels, device=x.device)[:, None] >> torch.arange(channels, device=x.device)
        return Swatches(torch.where((bits % 2 == 1)[:, :, None], hi, lo))
    table = torch.as_tensor(colours, dtype=x.dtype, device=x.device)
    table = table[:, None].expand(-1, channels) if table.ndim == 1 else table
    if table.shape[1] != channels:
        raise ArgumentError(
            f"the palette's colours have {table.shape[1]} channels, and a pixel has {channels}: give one number for "
            "all channels, or one for each."
        )
    table = table[:, :, None]
    if ((table < lo) | (table > hi)).any():
        raise ArgumentError(
            f"the palette reaches from {table.min():g} to {table.max():g}, beyond the data's box from {lo.min():g} to "
            f"{hi.max():g}: give colours in the data's units, within the box."
        )
    return Swatches(table)


@dataclass(frozen=True)
class _Tour:
    """order: numbers colour·P + position, as they are asked, (b, KP); count: how many of them differ from x."""

    x: Tensor
    order: Tensor
    count: Tensor
    asked: Tensor
    palette: Swatches
    threat: Any


@dataclass(frozen=True)
class Palette:
    """One pixel: each position in each colour of the palette, once; what equals x is left out.

    First come large changes of central positions, by ‖colour − x_p‖₁ (1.01 − r_p²), r_p the distance from the centre.

    colours  "corners", the 2^C of the data's box; or colours in the data's units, each a number or one a channel
    """

    colours: Colours = "corners"

    needs: ClassVar[Needs] = "labels"
    uses: ClassVar = ("paint",)

    def __post_init__(self) -> None:
        check_colours(self.colours)

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Tour:
        if threat.most > 1:
            raise ArgumentError(
                f"{threat.most} pixels at once have too many places to try each: Palette takes Pixels(1). For more, "
                "evolve them: one_pixel(pixels=…, search='evolution')."
            )
        palette = swatches(self.colours, x, box)
        far = (palette.colour - pixels.flat(x)[:, None]).abs().sum(2)
        far = far.masked_fill(palette.repeated() | (threat.eps < 1)[:, None, None], 0)
        order = (far * _weights(x)).flatten(1).argsort(dim=1, descending=True, stable=True)
        count = (far > 0).flatten(1).sum(1).clamp_min(1)  # x itself, where nothing differs from it
        return _Tour(x, order.int(), count, torch.zeros_like(count), palette, threat)

    def ask(self, s: _Tour, room: int) -> tuple[Tensor, Tensor]:
        owner, number = slices(s.asked, s.count, room)
        here = s.order[owner, number].long()
        positions = s.order.shape[1] // len(s.palette.colour)
        place = here % positions
        colour = s.palette.at(here // positions, place)
        return take(s.threat, owner).paint(s.x[owner], place[:, None], colour[:, None]), owner

    def tell(self, s: _Tour, points: Tensor, owner: Tensor, answer: Answer) -> _Tour:
        return replace(s, asked=s.asked + owner.bincount(minlength=len(s.x)))

    def done(self, s: _Tour) -> Tensor:
        return s.asked >= s.count


def slices(told: Tensor, count: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """The next points of the first rows that have points left, `SLICE` a row: the row of each, and its number there."""
    rows = (told < count).nonzero().squeeze(1)[: max(1, room // SLICE)]
    number = told[rows, None] + torch.arange(SLICE, device=told.device)
    left = number < count[rows, None]
    return rows[:, None].expand_as(number)[left], number[left]


def _weights(x: Tensor) -> Tensor:
    """1.01 − r², r how far a position is from the centre of an image, 1 in the corners; 1 for flat data, (P,)."""
    _, extents = pixels.grid(x)
    if len(extents) < 2:
        return x.new_ones(extents)
    away = x.new_zeros(())
    for n in extents:
        away = away[..., None] + (torch.arange(n, device=x.device) * 2 / (n - 1 or 1) - 1).square()
    return 1.01 - away.flatten() / len(extents)
