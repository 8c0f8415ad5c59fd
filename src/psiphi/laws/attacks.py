"""Laws of the attacks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psiphi.attacks import L2, Linf
from psiphi.basis.noise import generator
from psiphi.formulas.geometry import Box
from psiphi.laws._law import Measured, at_most, law


def _cases(rows: int, dims: int, box: Box) -> tuple[Tensor, Tensor]:
    """Centres in the box, a third of their coordinates on a wall, and points far and near, in float64."""
    draw = generator("law 22")
    x = torch.rand(rows, dims, generator=draw, dtype=torch.float64)
    kind = torch.randint(6, (rows, dims), generator=draw)
    x = torch.where(kind == 0, 0.0, torch.where(kind == 1, 1.0, x)) * (box.hi - box.lo) + box.lo
    reach = torch.logspace(-1.5, 0.7, rows, dtype=torch.float64).unsqueeze(1)
    return x, x + reach * torch.randn(rows, dims, generator=draw, dtype=torch.float64)


def _solved(ball: type, eps: Tensor, v: Tensor, x: Tensor, box: Box) -> Tensor:
    """min ½‖u − v‖² over ball ∩ box, by sequential quadratic programming, a row at a time."""
    from scipy.optimize import minimize

    answers = []
    for centre, point, radius in zip(x.numpy(), v.numpy(), eps.tolist()):
        low, high = np.full_like(centre, box.lo), np.full_like(centre, box.hi)
        inside = []
        if ball is Linf:
            low, high = np.maximum(low, centre - radius), np.minimum(high, centre + radius)
        else:
            inside = [
                {
                    "type": "ineq",
                    "fun": lambda u, c=centre, e=radius: e**2 - ((u - c) ** 2).sum(),
                    "jac": lambda u, c=centre: -2 * (u - c),
                }
            ]
        found = minimize(
            lambda u, p=point: 0.5 * ((u - p) ** 2).sum(),
            centre,
            jac=lambda u, p=point: u - p,
            bounds=list(zip(low, high)),
            constraints=inside,
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-15},
        )
        answers.append(torch.from_numpy(found.x))
    return torch.stack(answers)


def _stationarity(eps: Tensor, u: Tensor, v: Tensor, x: Tensor, box: Box) -> float:
    """Largest violation of δ = clip(v/(1+μ), lo−x, hi−x): one μ ≥ 0 explains every coordinate off the walls."""
    worst = 0.0
    for point, aim, centre, radius in zip(u, v, x, eps):
        delta, wish = point - centre, aim - centre
        free = (point > box.lo) & (point < box.hi) & (wish.abs() > 1e-9)
        scale = (delta[free] / wish[free]).mean() if free.any() else torch.tensor(0.0, dtype=u.dtype)
        predicted = (scale * wish).clamp(box.lo - centre, box.hi - centre)
        if free.any():
            worst = max(worst, float((predicted - delta).abs().max()), float(scale) - 1)
            if scale < 1 - 1e-9:
                worst = max(worst, float((delta.norm() - radius).abs()))
    return worst


@law("22", "projection is the nearest point of ball ∩ box")
def projection() -> list[Measured]:
    """Both balls against a generic convex solver, the optimality conditions, and their own rules."""
    measured = []
    box = Box(-0.5, 1.5)
    x, v = _cases(24, 6, box)
    for ball, eps in ((Linf, 0.3), (L2, 0.7)):
        name = ball.__name__
        radii = eps * torch.linspace(0.2, 2.0, len(x), dtype=torch.float64)
        threat = ball(radii)
        u = threat.project(v, x, box)
        gap = ((u - v).norm(dim=1) - (_solved(ball, radii, v, x, box) - v).norm(dim=1)).abs().max()
        measured += [
            Measured(f"{name}: distance to v, as the solver's", 0.0, float(gap), 1e-6),
            at_most(f"{name}: leaves the ball by", 0.0, float((threat.distance(u, x) - radii).max()), 1e-12),
            at_most(f"{name}: leaves the box by", 0.0, float(torch.maximum(box.lo - u, u - box.hi).max())),
            Measured(
                f"{name}: twice is once", 0.0, float((threat.project(u, x, box) - u).abs().max()), 1e-12
            ),
        ]
        if ball is L2:
            broken = _stationarity(radii, u, v, x, box)
            measured.append(Measured("L2: optimality conditions", 0.0, broken, 1e-9))
            onto = x + (v - x) * (radii / (v - x).norm(dim=1)).clamp(max=1).unsqueeze(1)
            clipped = onto.clamp(box.lo, box.hi)
            excess = ((clipped - v).norm(dim=1) - (u - v).norm(dim=1)).max()
            measured.append(
                at_most("L2: shortfall of the gain over ball-then-clip", 0.0, 0.01 - float(excess))
            )
    return measured
