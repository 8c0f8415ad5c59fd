"""Laws of the attacks."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from psiphi.attacks import L1, L2, Linf
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.geometry import Box
from psiphi.formulas.projections import l2_project
from psiphi.laws import _convex
from psiphi.laws._law import Measured, at_most, equal, law

_BALLS = {"linf": Linf, "l2": L2, "l1": L1}
_BOXES = {
    "": Box(-0.5, 1.5),
    ", a box for each channel": Box(
        torch.tensor([-0.5, 0.0, 0.2, -1.0, 0.0, 0.3]).double(),
        torch.tensor([1.5, 1.0, 0.6, 0.0, 2.0, 0.9]).double(),
    ),
}


def _centres(key: str, rows: int, dims: int, box: Box) -> tuple[Tensor, torch.Generator]:
    """Points of the box, a third of their coordinates on a wall, in float64; and the generator they came from."""
    draw = generator(key)
    x = torch.rand(rows, dims, generator=draw, dtype=torch.float64)
    kind = torch.randint(6, (rows, dims), generator=draw)
    x = torch.where(kind == 0, 0.0, torch.where(kind == 1, 1.0, x))
    return box.clamp(x * (box.hi - box.lo) + box.lo), draw


def _unexplained(norm: str, eps: Tensor, delta: Tensor, wish: Tensor, x: Tensor, box: Box) -> float:
    """Largest violation of the optimality conditions: one μ explains every coordinate off the walls.

    L2: δ = clip(v/(1+μ)); L1: δ = clip(soft(v, μ)). μ ≥ 0, and it is 0 unless the ball is full.
    """
    worst = 0.0
    size, goal, ahead = delta.abs(), wish.abs(), box.ahead(wish, x)
    for d, v, wall, e in zip(size, goal, ahead, eps):
        free = (d > 1e-9) & (d < wall - 1e-9)
        if not free.any():
            continue
        if norm == "l2":
            scale = (d[free] / v[free]).mean()
            predicted, slack = (scale * v).minimum(wall), 1 - scale
        else:
            slack = (v[free] - d[free]).mean()
            predicted = (v - slack).clamp_min(0).minimum(wall)
        worst = max(worst, float((predicted - d).abs().max()), -float(slack))
        if slack > 1e-9:
            worst = max(worst, float(((d.norm() if norm == "l2" else d.sum()) - e).abs()))
    return worst


def _nearest(norm: str, eps: float, which: str, box: Box) -> list[Measured]:
    ball, name = _BALLS[norm], _BALLS[norm].__name__ + which
    x, draw = _centres("law 22", 24, 6, box)
    reach = torch.logspace(-1.5, 0.7, len(x), dtype=torch.float64).unsqueeze(1)
    v = x + reach * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    radii = eps * torch.linspace(0.2, 2.0, len(x), dtype=torch.float64)
    threat = ball(radii)
    u = threat.project(v, x, box)
    gap = ((u - v).norm(dim=1) - (_convex.nearest(norm, radii, v, x, box) - v).norm(dim=1)).abs().max()
    measured = [
        Measured(f"{name}: distance to v, as the solver's", 0.0, float(gap), 1e-6),
        at_most(f"{name}: leaves the ball by", 0.0, float((threat.distance(u, x) - radii).max()), 1e-12),
        at_most(f"{name}: leaves the box by", 0.0, float(torch.maximum(box.lo - u, u - box.hi).max())),
        Measured(f"{name}: twice is once", 0.0, float((threat.project(u, x, box) - u).abs().max()), 1e-12),
    ]
    if norm != "linf":
        broken = _unexplained(norm, radii, u - x, v - x, x, box)
        measured.append(Measured(f"{name}: optimality conditions", 0.0, broken, 1e-9))
        onto = ball(radii).project(v, x, Box(-torch.inf, torch.inf))
        excess = ((box.clamp(onto) - v).norm(dim=1) - (u - v).norm(dim=1)).max()
        measured.append(
            at_most(f"{name}: shortfall of the gain over ball-then-clip", 0.0, 0.01 - float(excess))
        )
    return measured


def _uniform(norm: str, eps: float = 0.01, dims: int = 5, rows: int = 20_000) -> list[Measured]:
    """‖δ‖/ε has mean d/(d+1); E δ_i² has a closed form; E δ_i = 0. From the centre of a box far away."""
    ball, name = _BALLS[norm], _BALLS[norm].__name__
    x = torch.full((rows, dims), 0.5, dtype=torch.float64)
    delta = ball(eps).start(x, Box(), Noise.of(22, rows, dtype=torch.float64)) - x
    second = {"linf": 1 / 3, "l2": 1 / (dims + 2), "l1": 2 / ((dims + 1) * (dims + 2))}[norm]
    draws = {
        "length/ε of random starts": (dims / (dims + 1), ball().distance(delta, 0 * x) / eps),
        "square of a coordinate/ε²": (second, (delta / eps).square().mean(1)),
        "product of two coordinates/ε²": (0.0, (delta[:, 0] * delta[:, 1]) / eps**2),
        "sum of coordinates/ε": (0.0, delta.sum(1) / eps),
    }
    return [
        Measured(f"{name}: {what}", theory, float(each.mean()), 4 * float(each.std()) / sqrt(rows))
        for what, (theory, each) in draws.items()
    ]


@law("22", "projection is the nearest point of ball ∩ box")
def projection() -> list[Measured]:
    """Three balls against a generic convex solver, the optimality conditions, and their own rules; starts."""
    radii = {"linf": 0.3, "l2": 0.7, "l1": 1.2}
    measured = [
        each
        for which, box in _BOXES.items()
        for norm in radii
        for each in _nearest(norm, radii[norm], which, box)
    ]
    v, x = (torch.randn(2000, 6, generator=generator("law 22", name)) for name in ("far", "near"))
    once = l2_project(v, x.sigmoid(), 0.7, Box())
    again = l2_project(once, x.sigmoid(), 0.7, Box())
    return [
        *measured,
        *(each for norm in radii for each in _uniform(norm)),
        equal("l2: what is projected already stays, bit for bit", once, again, 0.0),
    ]


def _irregular(norm: str, a: Tensor, delta: Tensor, x: Tensor, box: Box) -> float:
    """Largest violation of the optimality conditions of a least change that moves at all.

    L∞: coordinates off the walls all move by t, and none moves further. L2: δ_i = λ a_i there, and none
    moves further. L1: only the largest |a_i| move, all but one value of |a_i| to the wall.
    """
    worst = 0.0
    for slope, d, wall in zip(a.abs(), delta.abs(), box.ahead(a, x)):
        free = (d < wall - 1e-9) & (slope > 0)
        if not free.any() or not (d > 0).any():
            continue
        if norm == "l1":
            worst = max(worst, float(slope[free].max() - slope[d > 1e-9].min()))
        else:
            rate = slope if norm == "l2" else torch.ones_like(slope)
            level = (d / rate)[free].mean()
            worst = max(worst, float(((level * rate).minimum(wall) - d)[slope > 0].abs().max()))
    return worst


@law("23a", "the least change to a half-space")
def half_space() -> list[Measured]:
    """Three norms against linear and quadratic programmes; optimality; half-spaces that the box does not meet."""
    measured = []
    for which, box in _BOXES.items():
        x, draw = _centres("law 23a", 30, 6, box)
        a = torch.randn(x.shape, generator=draw, dtype=torch.float64)
        a[::3] = (2 * a[::3]).round() / 2  # zeros and ties
        most = (a * (box.ahead(a, x) * a.sign())).sum(1)
        b = most * torch.linspace(-0.2, 1.3, len(x), dtype=torch.float64)
        for norm, ball in _BALLS.items():
            name = ball.__name__ + which
            delta, reached = ball().reach(a, b, x, box)
            theory = _convex.least(norm, a, b, x, box)
            gained = (a * delta).sum(1)
            length = ball().distance(delta, torch.zeros_like(delta))
            off = (length - theory)[reached].abs().max()
            outside = torch.maximum(box.lo - x - delta, x + delta - box.hi).max()
            measured += [
                Measured(f"{name}: length, as the solver's", 0.0, float(off), 1e-6),
                Measured(
                    f"{name}: ⟨a, δ⟩ − max(b, 0)",
                    0.0,
                    float((gained - b.clamp_min(0))[reached].abs().max()),
                    1e-12,
                ),
                at_most(f"{name}: leaves the box by", 0.0, float(outside), 1e-12),
                Measured(f"{name}: optimality conditions", 0.0, _irregular(norm, a, delta, x, box), 1e-9),
                Measured(
                    f"{name}: rows out of reach", float(theory.isnan().sum()), float((~reached).sum()), 0.0
                ),
                Measured(
                    f"{name}: short of the corner there",
                    0.0,
                    float((most - gained)[theory.isnan()].abs().max()),
                    1e-12,
                ),
                Measured(f"{name}: moves where a = 0", 0.0, float(delta[a == 0].abs().max()), 0.0),
            ]
    a, x = torch.zeros(4, 6, dtype=torch.float64), torch.full((4, 6), 0.5, dtype=torch.float64)
    a[3] = torch.tensor([0.5, -0.5, 0.5, 0.5, -0.5, 0.25])
    b = torch.tensor([0.0, 1.0, -1.0, 0.6], dtype=torch.float64)
    for ball in _BALLS.values():
        delta, reached = ball().reach(a, b, x, Box())
        measured += [
            equal(f"{ball.__name__}: a = 0 reaches 0 and less, not 1", [1, 0, 1, 1], reached),
            equal(f"{ball.__name__}: which moves nothing", torch.zeros(3, 6), delta[:3]),
            *(
                equal(
                    f"{ball.__name__}: in units of {unit}",
                    delta[3],
                    ball().reach(unit * a, unit * b, x, Box())[0][3],
                )
                for unit in (1e-200, 1e200)
            ),
        ]
    ties = torch.tensor([0.5, -0.5, 0.2, 0.0, 0.0, 0.0])
    return [*measured, equal("L1: ties by index", ties, L1().reach(a, b, x, Box())[0][3], 1e-7)]
