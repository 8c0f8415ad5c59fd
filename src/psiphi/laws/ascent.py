"""Laws of the attacks that climb within a fixed radius."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psiphi.access import white_box
from psiphi.attacks import (
    L1,
    L2,
    Linf,
    apgd,
    fgsm,
    iterative_fgsm,
    iterative_least_likely,
    least_likely,
    pgd,
)
from psiphi.basis.noise import forked, generator
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box
from psiphi.laws._law import Measured, at_most, law

_BALLS = {"linf": Linf, "l2": L2, "l1": L1}
_RADII = {"linf": 0.3, "l2": 0.7, "l1": 1.2}
_BOXES = {
    "": Box(-0.5, 1.5),
    ", a box for each coordinate": Box(
        torch.tensor([-0.5, 0.0, 0.2, -1.0, 0.0, 0.3]).double(),
        torch.tensor([1.5, 1.0, 0.6, 0.0, 2.0, 0.9]).double(),
    ),
}
_WIDE = Box(-100.0, 100.0)


def _linear(key: str) -> nn.Linear:
    """Two classes, six inputs; both rows of the weights are free."""
    with forked(key):
        return nn.Linear(6, 2).double()


def _curved(key: str, classes: int = 5) -> nn.Sequential:
    """Curved enough that the gradient's length changes along a walk."""
    with forked(key):
        net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        for each in net.parameters():
            each *= 4
    return net


def _centres(key: str, rows: int, box: Box) -> Tensor:
    """Points of the box, a third of their coordinates on a wall, in float64."""
    draw = generator(key)
    x = torch.rand(rows, 6, generator=draw, dtype=torch.float64)
    kind = torch.randint(6, (rows, 6), generator=draw)
    x = torch.where(kind == 0, 0.0, torch.where(kind == 1, 1.0, x))
    return box.clamp(x * (box.hi - box.lo) + box.lo)


def _uphill(net: nn.Linear, y: Tensor) -> Tensor:
    """∇ of the margin of a linear model of two classes, a row, (b, 6)."""
    return net.weight.detach()[1 - y] - net.weight.detach()[y]


def _margin(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return goals.margin(net(x), y)


def _away(net: nn.Module, reached: Tensor, y: Tensor, theory: Tensor) -> float:
    """Largest distance between the loss reached and ln(1 + e^margin) of the margin that theory gives."""
    with torch.no_grad():
        loss = F.cross_entropy(net(reached), y, reduction="none")
    return float((loss - F.softplus(theory)).abs().max())


@law("20", "one step is enough on a linear model")
def one_step() -> list[Measured]:
    """FGSM, of two classes: the loss reached is the largest there is. L∞ in any box; L2, L1 where no wall is near."""
    net, measured = _linear("law 20"), []
    y = torch.arange(40) % 2
    for which, box in _BOXES.items():
        x = _centres("law 20", 40, box)
        up = _uphill(net, y)
        gain = (up.abs() * box.ahead(up, x).clamp_max(_RADII["linf"])).sum(1)
        found = fgsm(Linf(_RADII["linf"]))(white_box(net, (box.lo, box.hi)), x, y, stop_early=False)
        off = _away(net, found.x, y, _margin(net, x, y) + gain)
        measured.append(Measured(f"Linf{which}: the largest loss", 0.0, off, 1e-12))
    x = _centres("law 20, inside", 40, Box(-1.0, 1.0))
    for norm, dual in {"linf": 1, "l2": 2, "l1": torch.inf}.items():
        gain = _RADII[norm] * torch.linalg.vector_norm(_uphill(net, y), dual, dim=1)
        access = white_box(net, (_WIDE.lo, _WIDE.hi))
        for how, found in {
            "away from y": fgsm(_BALLS[norm](_RADII[norm]))(access, x, y, stop_early=False),
            "towards 1 − y": fgsm(_BALLS[norm](_RADII[norm]))(access, x, y, target=1 - y, stop_early=False),
        }.items():
            off = _away(net, found.x, y, _margin(net, x, y) + gain)
            measured.append(Measured(f"{_BALLS[norm].__name__} inside, {how}: ε‖w‖_*", 0.0, off, 1e-12))
    return measured


def _most(norm: str, eps: float, up: Tensor, x: Tensor, box: Box) -> Tensor:
    """max ⟨w, δ⟩ over ball ∩ box, (b,): a linear programme for L∞ and L1, bisection of clip(λ w) for L2."""
    from scipy.optimize import linprog

    answers = []
    for w, low, high in zip(*(part.numpy() for part in (up, box.lo - x, box.hi - x))):
        if norm == "l2":
            scale = np.array([0.0, 1e6])
            for _ in range(200):
                inside = np.linalg.norm(np.clip(scale.mean() * w, low, high)) <= eps
                scale[0 if inside else 1] = scale.mean()
            answers.append(w @ np.clip(scale[0] * w, low, high))
        elif norm == "linf":
            bounds = [*zip(np.maximum(low, -eps), np.minimum(high, eps))]
            answers.append(-linprog(-w, bounds=bounds).fun)
        else:
            bounds = [*((0, h) for h in high), *((0, -l) for l in low)]
            total = np.ones((1, 2 * len(w)))
            answers.append(-linprog(np.concatenate((-w, w)), total, [eps], bounds=bounds).fun)
    return torch.tensor(answers)


@law("20a", "many steps reach the optimum of a linear model in any box")
def many_steps() -> list[Measured]:
    """PGD and Auto-PGD in three balls and two boxes: the margin gained is the convex problem's optimum."""
    net, measured = _linear("law 20a"), []
    y = torch.arange(12) % 2
    for which, box in _BOXES.items():
        x = _centres("law 20a", 12, box)
        access = white_box(net, (box.lo, box.hi))
        for norm, eps in _RADII.items():
            theory = _most(norm, eps, _uphill(net, y), x, box)
            threat = _BALLS[norm](eps)
            for attack in (pgd(threat, steps=30, step=eps / 2), apgd(threat, steps=45)):
                found = attack(access, x, y, stop_early=False)
                gained = _margin(net, found.x, y) - _margin(net, x, y)
                what = f"{repr(attack).partition('(')[0]}, {type(threat).__name__}{which}: ⟨w, δ⟩"
                off = float((gained - theory).abs().max())
                measured.append(Measured(f"{what} off the optimum by", 0.0, off, 1e-7))
    return measured


class _Overheard(nn.Module):
    """A classifier that remembers what it was asked."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.asked = net, []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        return self.net(x)


def _path(attack: Any, net: nn.Module, x: Tensor, y: Tensor, box: Box, **how: Any) -> Tensor:
    """The points of a whole run after x itself, (steps, b, *x)."""
    overheard = _Overheard(net)
    attack(white_box(overheard, (box.lo, box.hi)), x, y, stop_early=False, batch_size=len(x), **how)
    return torch.stack([asked for asked in overheard.asked[1:] if len(asked) == len(x)])


def _rolled(
    move: Callable[[Tensor, Tensor], Tensor], net: nn.Module, x: Tensor, y: Tensor, steps: int
) -> Tensor:
    """x, and the points of v ← move(v, ∇ of torch's own cross-entropy)."""
    points = [x]
    for _ in range(steps):
        v = points[-1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(v), y, reduction="sum"), v)
        points.append(move(points[-1], gradient))
    return torch.stack(points)


@law("20b", "iterative steps and momentum are their papers' recursions")
def recursions() -> list[Measured]:
    """On a curved network, against loops by hand: g ← μ g + ∇/‖∇‖₁, v ← clip(v + α sign g), and without projection."""
    net, box, x = _curved("law 20b"), Box(0.0, 1.0), _centres("law 20b", 30, Box(0.0, 1.0))
    with torch.no_grad():
        y = net(x).argmax(1)
    eps, steps, measured = 0.2, 10, []

    def ball(v: Tensor) -> Tensor:
        return v.maximum(x - eps).minimum(x + eps).clamp(0, 1)

    def sphere(v: Tensor) -> Tensor:
        return x + (v - x) * (eps / (v - x).norm(dim=1, keepdim=True)).clamp_max(1)

    def hand(
        mu: float, step: float, unit: Callable[[Tensor], Tensor], onto: Callable[[Tensor], Tensor]
    ) -> Tensor:
        kept = torch.zeros_like(x)

        def move(v: Tensor, gradient: Tensor) -> Tensor:
            kept.mul_(mu).add_(gradient / gradient.abs().sum(1, keepdim=True))
            return onto(v + step * unit(kept))

        return _rolled(move, net, x, y, steps)

    def l2(g: Tensor) -> Tensor:
        return g / g.norm(dim=1, keepdim=True)

    runs = {
        "BIM, L∞": (iterative_fgsm(Linf(eps), steps), box, hand(0, eps / steps, torch.sign, ball)),
        "BIM, L∞, long steps": (
            iterative_fgsm(Linf(eps), steps, 0.06),
            box,
            hand(0, 0.06, torch.sign, ball),
        ),
        "MI-FGSM, L∞": (
            iterative_fgsm(Linf(eps), steps, momentum=1.0),
            box,
            hand(1, eps / steps, torch.sign, ball),
        ),
        "MI-FGSM, L∞, μ = 0.5, long steps": (
            iterative_fgsm(Linf(eps), steps, 0.06, momentum=0.5),
            box,
            hand(0.5, 0.06, torch.sign, ball),
        ),
        "MI-FGSM, L2, no wall near": (
            iterative_fgsm(L2(eps), steps, 0.06, momentum=0.9),
            _WIDE,
            hand(0.9, 0.06, l2, sphere),
        ),
        "literal BIM": (
            iterative_fgsm(Linf(eps), steps, 0.06, project=False),
            box,
            hand(0, 0.06, torch.sign, lambda v: v.clamp(0, 1)),
        ),
    }
    for name, (attack, within, theory) in runs.items():
        off = float((_path(attack, net, x, y, within) - theory).abs().max())
        measured.append(Measured(f"{name}: its {steps + 1} points", 0.0, off, 1e-12))
    drift = float((runs["literal BIM"][2][-1] - x).abs().max())
    return [
        *measured,
        at_most("literal BIM leaves the ball by at least half of it: shortfall", 0.0, 1.5 * eps - drift),
    ]


@law("21", "least likely is targeted at the argmin")
def least_likely_class() -> list[Measured]:
    """One step and many, fixed on the clean point; chosen anew at each step, against a loop by hand."""
    net, box, x = _curved("law 21"), Box(0.0, 1.0), _centres("law 21", 60, Box(0.0, 1.0))
    eps, steps = 0.4, 10
    with torch.no_grad():
        clean = net(x)
    y, aim = clean.argmax(1), clean.argmin(1)

    def towards(choose: Callable[[Tensor], Tensor], steps: int) -> Tensor:
        """v ← clip(v + ε/steps sign ∇ ln p_t), t chosen by the logits."""
        points = [x]
        for _ in range(steps):
            v = points[-1].clone().requires_grad_()
            logits = net(v)
            score = logits.log_softmax(1).gather(1, choose(logits)[:, None])
            (gradient,) = torch.autograd.grad(score.sum(), v)
            stepped = points[-1] + eps / steps * gradient.sign()
            points.append(stepped.maximum(x - eps).minimum(x + eps).clamp(0, 1))
        return torch.stack(points)

    def anew(logits: Tensor) -> Tensor:
        return logits.scatter(1, y[:, None], torch.inf).argmin(1)

    fixed, moving = towards(lambda _: aim, steps), towards(anew, steps)
    threat = Linf(eps)
    runs = {
        "one step": (least_likely(threat), towards(lambda _: aim, 1), {}),
        "one step, as FGSM with that target": (fgsm(threat), towards(lambda _: aim, 1), {"target": aim}),
        "ten steps": (iterative_least_likely(threat), fixed, {}),
        "ten steps, as BIM with that target": (iterative_fgsm(threat), fixed, {"target": aim}),
        "ten steps, chosen anew": (iterative_least_likely(threat, recompute=True), moving, {}),
    }
    measured = [
        Measured(
            f"{name}: its points",
            0.0,
            float((_path(attack, net, x, y, box, **how) - theory).abs().max()),
            1e-12,
        )
        for name, (attack, theory, how) in runs.items()
    ]
    with torch.no_grad():
        stays = torch.stack([anew(net(v)) == aim for v in moving[:-1]]).all(0)
    apart = (fixed[-1] - moving[-1]).abs().amax(1) > eps / steps
    return [
        *measured,
        at_most("rows whose argmin moves: shortfall of ten", 0.0, 10.0 - float((~stays).sum())),
        Measured("rows that differ though it does not move", 0.0, float((apart & stays).sum()), 0.0),
        at_most(
            "rows that differ where it moves: shortfall of ten", 0.0, 10.0 - float((apart & ~stays).sum())
        ),
    ]
