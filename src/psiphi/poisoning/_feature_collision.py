from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.calculus import input_gradient, per_row
from psiphi.formulas.geometry import Box
from psiphi.formulas.poisons import collision, forward_backward
from psiphi.poisoning._aims import Taken
from psiphi.poisoning._picks import nearest
from psiphi.poisoning._poison import Ball, Poison, Setting, ball, said

Features = Callable[[Tensor], Tensor]
_TINY = 1e-12


def feature_collision(
    features: Features,
    target: Tensor,
    label: int,
    fraction: float = 0.01,
    eps: float | None = None,
    beta: float = 0.25,
    steps: int = 200,
    step: float | None = None,
    opacity: float = 0.0,
) -> Poison:
    """Rows of class `label` that look like themselves and have the features of the target: labels are kept.

        p ← argmin ‖f(p) − f(t)‖² + β ‖p − b‖²,   b the base row, ‖p − b‖_∞ ≤ ε, p in the box

    features  f: a module or function (n, *x) -> (n, d), the victim's own where it learns its last layer only (`head`);
              of a classifier, `pp.models.Penultimate(classifier)`
    target    the row t, (*x), that is to be taken for `label`; bases are the rows of that class nearest to f(t)
    beta      β, in units of ‖f(t)‖² a unit of x², so that it means the same whatever f's scale: β ‖f(t)‖²/‖1‖²
    step      the gradient step λ at first, by default what moves a pixel by 0.1 at most; a row's own from then on
    opacity   of the target laid over the base before the first step; published for victims that learn all layers

    Source: Shafahi, Huang, Najibi, Suciu, Studer, Dumitras, Goldstein, "Poison frogs! Targeted clean-label poisoning
    attacks on neural networks", 2018, algorithm 1; there λ is fixed and ε is not bounded.
    """
    check_whole("steps", steps)
    if not 0 <= opacity < 1 or beta < 0:
        raise ArgumentError(f"opacity lies in [0, 1) and beta is at least 0; got {opacity!r} and {beta!r}.")
    threat = ball(eps)

    def near(x: Tensor) -> Tensor:
        return collision(features(x).flatten(1), features(target[None].to(x)).flatten(1))

    def change(setting: Setting, rows: Tensor) -> Tensor:
        base = setting.x[rows]
        t = target.to(base)
        start = threat.project(torch.lerp(base, t.expand_as(base), opacity), base, setting.box)
        with torch.no_grad():
            aimed = features(t[None]).flatten(1)
        weight = beta * float(aimed.square().sum()) / t.numel()
        return _collided(features, start, base, aimed, weight, steps, step, threat, setting.box)

    return Poison(
        fraction,
        nearest(near, label),
        change,
        None,
        Taken(target, label),
        threat,
        said("feature_collision", label=label, fraction=fraction, eps=eps, beta=beta, steps=steps),
    )


def _collided(
    features: Features, p: Tensor, base: Tensor, aimed: Tensor, beta: float, steps: int, step: float | None,
    threat: Ball, box: Box,
) -> Tensor:  # fmt: skip
    """Forward-backward splitting, with a step a row that a quadratic of curvature 1/λ above the distance allows.

    Each step taken lowers the objective. Source of the rule: Beck, Teboulle, "A fast iterative shrinkage-thresholding
    algorithm for linear inverse problems", 2009, section 3.
    """

    def distance(v: Tensor) -> Tensor:
        return collision(features(v).flatten(1), aimed)

    with torch.no_grad():
        value = distance(p)
    gradient = input_gradient(distance, p)
    largest = gradient.flatten(1).abs().amax(1)
    rate = torch.full_like(largest, step) if step is not None else 0.1 / largest.clamp(min=_TINY)
    for _ in range(steps):
        moved = forward_backward(p, gradient, base, per_row(rate, p), beta)
        moved = threat.project(moved, base, box)
        with torch.no_grad():
            found = distance(moved)
        shift = (moved - p).flatten(1)
        bound = value + (gradient.flatten(1) * shift).sum(1) + shift.square().sum(1) / (2 * rate)
        taken = found <= bound + _TINY
        p, value = torch.where(per_row(taken, p), moved, p), torch.where(taken, found, value)
        rate = torch.where(taken, 1.2 * rate, 0.5 * rate)
        gradient = input_gradient(distance, p)
    return p
