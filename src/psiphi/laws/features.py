"""Laws of changes that are measured by a network's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psiphi.access import white_box
from psiphi.attacks import L2, pgd
from psiphi.attacks.threats import Features
from psiphi.basis.noise import Noise, forked, generator
from psiphi.formulas import features
from psiphi.formulas.geometry import Box
from psiphi.laws._law import Measured, at_most, law

_WIDE, _EPS, _CURVED = Box(-100.0, 100.0), 0.7, 0.1


def _far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@law("26c", "features by the identity network are L2; projection in features goes as far as it may")
def identity_features() -> list[Measured]:
    """Distance, projection, steepest step and a whole PGD; then a curved network, whose set has no closed form."""
    draw, measured, rows = generator("law 26c"), [], 12
    x = torch.rand(rows, 2, 3, generator=draw, dtype=torch.float64)
    v = (
        x
        + torch.logspace(-1.5, 0.7, rows).double().view(-1, 1, 1)
        * torch.randn(x.shape, generator=draw).double()
    )
    g = torch.randn(x.shape, generator=draw, dtype=torch.float64)
    with forked("law 26c"):
        linear = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).double()
    y = torch.arange(rows) % 2
    for network in (nn.Identity(), nn.Flatten()):
        mine, theirs = Features(network, eps=_EPS), L2(_EPS)
        name = f"{mine!r}"
        near = mine.project(v, x, Box())
        attacks = [
            pgd(threat, steps=20, random_start=False)(
                white_box(linear, (_WIDE.lo, _WIDE.hi)), x, y, stop_early=False
            ).x
            for threat in (mine, theirs)
        ]
        outside = torch.maximum(-near, near - 1).max()
        measured += [
            Measured(f"{name}: distance", 0.0, _far(mine.distance(v, x), theirs.distance(v, x)), 1e-12),
            Measured(
                f"{name}: nearest point, no wall near",
                0.0,
                _far(mine.project(v, x, _WIDE), theirs.project(v, x, _WIDE)),
                1e-8,
            ),
            at_most(f"{name}: leaves the ball by", 0.0, float(theirs.distance(near, x).max()) - _EPS, 1e-12),
            at_most(f"{name}: leaves the box by", 0.0, float(outside), 0.0),
            Measured(
                f"{name}: steepest step",
                0.0,
                _far(mine.steepest(g, x, _WIDE), theirs.steepest(g, x, _WIDE)),
                1e-12,
            ),
            Measured(f"{name}: PGD on a linear model", 0.0, _far(*attacks), 1e-7),
        ]
    return measured + _curved(x, v, g)


def _curved(x: Tensor, v: Tensor, g: Tensor) -> list[Measured]:
    """A network of tanh: largest t, and the steepest step against (JᵀJ)⁻¹g by a solver."""
    with forked("law 26c", "curved"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8)).double()
    threat, tol, measured = Features(network, eps=_CURVED), 1e-8, []
    for which, box in {"": _WIDE, ", walls near": Box()}.items():
        inside = box.clamp(v)
        u = threat.project(v, x, box)
        along = (u - x).flatten(1).norm(dim=1) / (inside - x).flatten(1).norm(dim=1)
        active = threat.distance(inside, x) > _CURVED
        beyond = x + (along + tol).view(-1, 1, 1) * (inside - x)
        off = (u - (x + along.view(-1, 1, 1) * (inside - x))).abs().max()
        begun = threat.start(x, box, Noise.of(26, len(x), dtype=x.dtype))
        measured += [
            at_most(
                f"tanh{which}: leaves the set by", 0.0, float(threat.distance(u, x).max()) - _CURVED, 1e-12
            ),
            at_most(
                f"tanh{which}: a start leaves it by",
                0.0,
                float(threat.distance(begun, x).max()) - _CURVED,
                1e-12,
            ),
            at_most(
                f"tanh{which}: ε − d just beyond, of those cut off",
                0.0,
                float((_CURVED - threat.distance(beyond, x))[active].max()),
            ),
            Measured(f"tanh{which}: off the segment by", 0.0, float(off), 1e-12),
            Measured(f"tanh{which}: moves what is within by", 0.0, _far(u[~active], inside[~active]), 0.0),
            at_most(f"tanh{which}: rows cut off, and not: shortfall of two", 0.0, 2.0 - _fewer(active)),
        ]
    jacobian = torch.autograd.functional.jacobian(lambda u: threat.features(u).sum(0), x)
    j = jacobian.transpose(0, 1).flatten(2)  # pyright: ignore[reportAttributeAccessIssue]
    d, flat = threat.steepest(g, x, _WIDE).flatten(1), g.flatten(1)
    most = (flat * torch.linalg.solve(j.mT @ j, flat)).sum(1).sqrt()
    plain = (flat * flat).sum(1) / _of(j, flat).norm(dim=1)
    solved = features.steepest(flat, lambda d: _of(j, d), lambda u: _of(j.mT, u), 60, 1e-12)
    gained, length = (flat * d).sum(1), _of(j, d).norm(dim=1)
    return [
        *measured,
        Measured("tanh: ‖J d‖₂ of the steepest step", 1.0, float(length[(length - 1).abs().argmax()]), 1e-9),
        Measured(
            "tanh: ⟨g, d⟩ over √(gᵀ(JᵀJ)⁻¹g), solved to the end, off 1 by",
            0.0,
            _far((flat * solved).sum(1) / most, torch.ones_like(most)),
            1e-6,
        ),
        at_most("tanh: the same of the threat, above 1 by", 0.0, float((gained / most).max()) - 1, 1e-9),
        at_most("tanh: mean share that its five steps miss", 0.25, 1 - float((gained / most).mean())),
        at_most("tanh: shortfall of a gain of half over g/‖J g‖", 0.0, 1.5 - float((gained / plain).mean())),
    ]


def _of(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors.unsqueeze(2)).squeeze(2)


def _fewer(active: Tensor) -> float:
    return float(min(active.sum(), (~active).sum()))
