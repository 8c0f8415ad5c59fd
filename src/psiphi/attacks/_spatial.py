"""The named attack by rotations and translations."""

from __future__ import annotations

from typing import Any

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Search, Threat
from psiphi.attacks._targets import Targets
from psiphi.attacks.searches import Grid, RandomPoints, Steepest
from psiphi.attacks.threats import Spatial
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas import goals
from psiphi.formulas.goals import Goal

_PUBLISHED: Any = Spatial(degrees=30.0, pixels=3.0)


@attacks.register
def spatial(
    threat: Threat = _PUBLISHED,
    search: str = "grid",
    counts: int | tuple[int, ...] = (31, 5, 5),
    draws: int = 10,
    steps: int = 200,
    step: float = 0.01,
    restarts: int = 1,
    goal: str | Goal = "cross_entropy",
    targets: Targets = None,
) -> Attack:
    """The worst rotation and translation of each image: by a grid, at random, or by gradient.

    search    "grid" tries every combination of `counts` values of the angle, the shifts of rows and of columns (and
              the scale), "random" takes `draws` points of the threat, "gradient" takes `steps` signed steps of
              the share `step` of the ranges, from a random point, `restarts` times
    goal      as of `pgd`

    Grid and random points work by labels too, where the access shows no more. Forwards a row: 1 for the clean check; at
    most ∏ counts (775) by grid, `draws` at random, restarts·(steps + 1) by gradient, all but the last of which with one
    backward; 1 to verify a success.

    Source: Engstrom et al., "Exploring the landscape of spatial robustness", 2019, section 3: 30°, 3 pixels, 31 × 5 × 5
    points, 10 draws.
    """
    chosen: dict[str, Search] = {
        "grid": Grid(counts),
        "random": RandomPoints(draws),
        "gradient": Steepest(steps, step, restarts=restarts),
    }
    if search not in chosen:
        raise ArgumentError(f"search is one of {', '.join(map(repr, chosen))}; got {search!r}.")
    if search == "grid" and isinstance(threat, Spatial):
        threat.grid(counts)  # a sentence before anyone is asked
    return Attack(threat, goals.named(goal), chosen[search], targets=targets)
