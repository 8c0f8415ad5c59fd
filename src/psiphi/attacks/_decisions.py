"""The named attacks that ask for labels alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Threat
from psiphi.attacks.searches import Hops
from psiphi.attacks.threats import L2
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas.goals import margin

_L2 = L2()  # without a radius


@attacks.register
def hop_skip_jump(
    threat: Threat = _L2,
    steps: int = 64,
    initial: int = 100,
    most: int = 10_000,
    gamma: float = 1.0,
    tries: int = 100,
    growth: float = 0.0,
    start: Any = None,
) -> Attack:
    """HopSkipJump: along the decision boundary towards x, by labels alone, in L2 or Linf.

    At a point v of the boundary, at the distance D, hops v + δ r_b are asked about: z_b is 1 where the goal holds and
    −1 elsewhere, and n̂ ∝ Σ_b (z_b − z̄) r_b estimates the normal. A leap in the direction of (v − x)/D + s n̂ to the
    same distance follows (Linf: sign n̂), and a bisection between there and x, to within θ D.

    initial, most, growth   hops at step t: min(initial (t + 1)^growth, most)
    gamma   θ = γ d^{−3/2}, at most 1e-3; δ = √d θ D; of Linf θ = γ d^{−2}, δ = d θ D
    tries   random points of the box to start from, until the goal holds at one; a row without any fails
    start   points (m, *x) to start from instead, the nearest first; of a target class they are needed

    Published is growth = 1/2, hops in every direction, δ = 0.1 at first, a leap v + (D/√t) n̂ that halves until the goal
    holds, a bisection of all that way. Here L2's hops keep at right angles to v − x, since what they would tell along
    it is known; a leap keeps the distance, its length begins at that of the last one, and half of the longest that
    holds is taken, since the gain is largest midway; a bisection begins at its far end. Linf's n̂ is about the
    mean of the last 16. Half of the random starts are corners of the box: uniform points alike are often of one class.

    Forwards a row: 1, at most `tries` and the points of `start`, and `steps` times the hops, 3 to 15 leaps and about 10
    to bisect; 1 to verify behind a white box. A budget ends it earlier, with the nearest point so far.

    Source: Chen, Jordan, Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", 2020, algorithm 2.
    """
    points = None
    if start is not None:
        points = torch.as_tensor(start)
        if points.ndim < 2 or not len(points) or not _finite(points):
            raise ArgumentError("start holds points (m, *x), one at least, of finite numbers.")
    return Attack(threat, margin, Hops(steps, initial, most, gamma, tries, growth, points), "minimum-norm")


def _finite(points: Tensor) -> bool:
    return bool(points.isfinite().all())
