"""The nearest of several linearised decision boundaries."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box


class Plane(NamedTuple):
    """{z : ⟨a, z − v⟩ = b}, one a row: a (n, *x), b (n,)."""

    a: Tensor
    b: Tensor

    def seen_from(self, u: Tensor, v: Tensor) -> Plane:
        """The same plane as {z : ⟨a, z − u⟩ = b}."""
        return Plane(self.a, self.b - (self.a * (u - v)).flatten(1).sum(1))


def step_onto(plane: Plane, u: Tensor, threat: Any, box: Box) -> tuple[Tensor, Tensor]:
    """The least change of `u` within the box onto {z : ⟨a, z − u⟩ = b}, from either side, and whether there is one.

    A coordinate that may not move in the box stays; where the box misses the plane, the corner nearest to it.
    """
    side = torch.where(plane.b < 0, -1.0, 1.0).to(plane.b)
    return threat.reach(plane.a * per_row(side, u), plane.b.abs(), u, box)


def nearest(gaps: Any, jacobian: Any, v: Tensor, threat: Any, box: Box) -> tuple[Plane, Tensor]:
    """Of the planes gap_r + ⟨∇gap_r, z − v⟩ = 0 the one that the least change within the box reaches, and that change.

    gaps (n, R), jacobian (n, R, *x); v (n, *x) in the box. Where none is reached, the one with the smallest |gap| over
    the dual norm of its slope.
    """
    n, rivals = gaps.shape
    every = torch.arange(n, device=v.device)
    if rivals == 1:
        plane = Plane(jacobian[:, 0], -gaps[:, 0])
        return plane, step_onto(plane, v, threat, box)[0]
    shape = tuple(v.shape[1:])
    from_v = v.unsqueeze(1).expand_as(jacobian).reshape(-1, *shape)
    planes = Plane(jacobian.reshape(-1, *shape), -gaps.reshape(-1))
    delta, reached = step_onto(planes, from_v, threat, box)
    length = threat.distance(delta, torch.zeros_like(delta)).masked_fill(~reached, torch.inf).view(n, rivals)
    free = gaps.abs() / threat.dual(planes.a).view(n, rivals).clamp_min(torch.finfo(v.dtype).tiny)
    chosen = torch.where(length.isinf().all(1), free.argmin(1), length.argmin(1))
    return Plane(jacobian[every, chosen], -gaps[every, chosen]), delta.view(n, rivals, *shape)[every, chosen]
