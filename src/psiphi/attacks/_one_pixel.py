"""The attack that changes a few pixels, whatever their colours."""

from __future__ import annotations

from typing import Any

from psiphi.attacks._attack import Attack
from psiphi.attacks._targets import Targets
from psiphi.attacks.searches import Evolution, Palette
from psiphi.attacks.searches._palette import Colours
from psiphi.attacks.threats import Pixels
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas import goals
from psiphi.formulas.goals import Goal


@attacks.register
def one_pixel(
    pixels: int = 1,
    search: str | None = None,
    palette: Colours | None = None,
    population: int = 400,
    generations: int = 100,
    factor: float = 0.5,
    goal: str | Goal = "margin",
    targets: Targets = None,
) -> Attack:
    """A few pixels of any colour: max over positions p and colours c of the goal at x with x_p = c.

    pixels      that change at most, all channels of a position at once
    search      "exhaustive" tries one pixel at each position in each colour of the palette; "evolution" is differential
                evolution, g'_i = g_a + F (g_b − g_c) in place of g_i where it scores no less, over positions and
                colours. By default exhaustive for one pixel, else evolution
    palette     "corners", the 2^C of the data's box, or colours in the data's units, each a number or one a channel; by
                default the corners if exhaustive, and any colour of the box in evolution
    population, generations, factor   of the evolution: N, how many follow the first, F; as published
    goal        margin, cross_entropy or dlr by name, or a function (logits, y, target) -> scores (b,) to raise

    Asks for scores (exhaustive: for labels alone), never for a gradient. Forwards a row: 1 for the clean check; at most
    P positions × K colours, less those that equal x, or N·(1 + generations); 1 to verify a success.

    Source: Su, Vargas, Sakurai, "One pixel attack for fooling deep neural networks", 2019.
    """
    check_whole("pixels", pixels)
    chosen = search or ("exhaustive" if pixels == 1 else "evolution")
    if chosen not in ("exhaustive", "evolution"):
        raise ArgumentError(f"search is 'exhaustive' or 'evolution'; got {search!r}.")
    if chosen == "exhaustive" and pixels > 1:
        raise ArgumentError(
            f"an exhaustive search takes one pixel; {pixels} at once have too many places: search='evolution'."
        )
    how = (
        Palette("corners" if palette is None else palette)
        if chosen == "exhaustive"
        else Evolution(population, generations, factor, palette)
    )
    threat: Any = Pixels(pixels)
    return Attack(threat, goals.named(goal), how, targets=targets)
