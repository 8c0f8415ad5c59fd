from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.geometry import Box
from psiphi.formulas.poisons import mismatch
from psiphi.models._base import evaluating
from psiphi.poisoning._aims import Taken
from psiphi.poisoning._picks import drawn
from psiphi.poisoning._poison import Ball, Poison, Setting, ball, said

DECAY = (1 / 2.667, 1 / 1.6, 1 / 1.142)  # of the steps: after each the length is a tenth


def gradient_matching(
    surrogate: nn.Module | Sequence[nn.Module],
    target: Tensor,
    label: int,
    eps: float = 16 / 255,
    fraction: float = 0.01,
    steps: int = 250,
    restarts: int = 8,
    step: float = 0.1,
) -> Poison:
    """Rows of class `label`, each within ε of itself, on which training is training on the target with that label.

        min over ‖δ_i‖_∞ ≤ ε of   1 − cos(∇_θ mean_i ℓ(x_i + δ_i, y_i), ∇_θ ℓ(t, label))

    surrogate  a classifier trained on clean data, or several, whose objectives are averaged
    target     the row t, (*x), or rows (m, *x), to be taken for `label`; labels of the poisons are kept
    steps      of signed Adam, of length `step` · ε at first, which falls to a tenth after 3/8, 5/8 and 7/8 of them
    restarts   from random points of the ball, of which the one that ends lowest is kept

    Batches of the whole poison: each step costs one pass forward and two back over it. Augmentation, which the source
    has in step and victim, is left out.
    Source: Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' brew: industrial scale data poisoning
    via gradient matching", 2021, algorithm 1.
    """
    models = [surrogate] if isinstance(surrogate, nn.Module) else list(surrogate)
    for name, count in (("steps", steps), ("restarts", restarts), ("surrogates", len(models))):
        check_whole(name, count)
    if not eps > 0 or not step > 0:
        raise ArgumentError(f"eps and step are above 0; got {eps!r} and {step!r}.")
    threat = ball(eps)

    def change(setting: Setting, rows: Tensor) -> Tensor:
        base, y = setting.x[rows], setting.y[rows]
        t = target.to(base).reshape(-1, *base.shape[1:])
        wanted = [_gradient(model, t, y.new_full((len(t),), label), graph=False) for model in models]
        found: list[tuple[float, Tensor]] = []
        for number in range(restarts):
            noise = setting.noise.take(rows).split("start").at(number)
            start = threat.start(base, setting.box, noise)
            found.append(_matched(models, wanted, start, base, y, threat, setting.box, steps, step * eps))
        return min(found, key=lambda each: each[0])[1]

    return Poison(
        fraction,
        drawn(lambda y: y == label, f"of class {label}"),
        change,
        None,
        Taken(target, label),
        threat,
        said("gradient_matching", label=label, eps=eps, fraction=fraction, steps=steps, restarts=restarts),
    )


def _matched(
    models: Sequence[nn.Module], wanted: Sequence[list[Tensor]], v: Tensor, base: Tensor, y: Tensor, threat: Ball,
    box: Box, steps: int, length: float,
) -> tuple[float, Tensor]:  # fmt: skip
    """From v, the least objective that signed Adam meets and the point where it does."""
    best, found = float("inf"), v
    v = v.clone().requires_grad_()
    rule = torch.optim.Adam([v], lr=length)
    falls = torch.optim.lr_scheduler.MultiStepLR(rule, [int(share * steps) for share in DECAY])
    for done in range(steps + 1):
        with torch.enable_grad():
            values = [
                mismatch(_gradient(m, v, y, graph=True), g) for m, g in zip(models, wanted, strict=True)
            ]
            value = torch.stack(values).mean()
            if float(value.detach()) < best:
                best, found = float(value.detach()), v.detach().clone()
            if done == steps:
                return best, found
            (slope,) = torch.autograd.grad(value, v)
        v.grad = slope.sign()
        rule.step()
        falls.step()
        with torch.no_grad():
            v.copy_(threat.project(v, base, box))
    return best, found


def _gradient(model: nn.Module, x: Tensor, y: Tensor, graph: bool) -> list[Tensor]:
    """∇_θ of the mean cross-entropy of rows, by the parameters that training moves."""
    moved = [p for p in model.parameters() if p.requires_grad]
    if not moved:
        raise ArgumentError(
            f"no parameter of {type(model).__name__} is trained (requires_grad): give a classifier that is."
        )
    with torch.enable_grad(), evaluating(model):
        return list(torch.autograd.grad(F.cross_entropy(model(x), y), moved, create_graph=graph))
