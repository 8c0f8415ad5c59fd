"""Laws of one perturbation for all inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psiphi.access import white_box
from psiphi.attacks import L1, L2, Linf, universal
from psiphi.basis.noise import forked, generator
from psiphi.laws._law import Measured, at_most, law

_DIMS, _ROWS = 6, 40
_BALLS = {"Linf": (Linf, 0.3, torch.inf, 1), "L2": (L2, 0.7, 2, 2), "L1": (L1, 1.2, 1, torch.inf)}


def _linear(classes: int) -> tuple[nn.Linear, Tensor]:
    """A linear model, and rows around 0."""
    with forked("law 24", classes):
        net = nn.Linear(_DIMS, classes, bias=False).double()
    x = torch.rand(_ROWS, _DIMS, generator=generator("law 24", "x"), dtype=torch.float64) - 0.5
    return net, x


def _toward(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """z_t − z_y, or for two classes z_{1−y} − z_y: linear in a shared δ, whatever the labels."""
    other = 1 - y if target is None else target
    return (logits.gather(1, other[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def _best(norm: str, eps: float, w: Tensor) -> Tensor:
    """argmax ⟨w, δ⟩ over ‖δ‖ ≤ ε: ε sign w; ε w/‖w‖₂; ε on the largest |w_i|."""
    if norm == "Linf":
        return eps * w.sign()
    if norm == "L2":
        return eps * w / w.norm()
    at = w.abs().argmax()
    return torch.zeros_like(w).index_fill_(0, at, eps * float(w[at].sign()))


@law("24", "the best shared change of a linear model, and what it does to inputs not used")
def shared_change() -> list[Measured]:
    """Cross-entropy where all share a label; the mean margin of rows of both, or toward a class, which is ⟨w, δ⟩."""
    measured = []
    two, x = _linear(2)
    many, _ = _linear(4)
    one, both, y = torch.zeros(_ROWS).long(), (torch.arange(_ROWS) % 3 == 0).long(), torch.arange(_ROWS) % 4
    up = (two.weight[1] - two.weight[0]).detach()
    own = nn.functional.one_hot(y, 4).double().mean(0)
    toward = (many.weight[2] - own @ many.weight).detach()
    cases = {
        "two classes, one label, cross-entropy": (two, one, {}, up),
        "two classes, both labels, mean margin": (
            two,
            both,
            {"goal": _toward},
            (1 - 2 * both.double().mean()) * up,
        ),
        "four classes, mean z_2 − z_y": (many, y, {"goal": _toward, "target": 2}, toward),
    }
    for norm, (ball, eps, order, dual) in _BALLS.items():
        for what, (net, labels, how, w) in cases.items():
            # One batch an epoch: of fewer rows, w would change from batch to batch where labels are mixed.
            plan = universal(ball(eps), steps=20, batch_size=_ROWS, ceiling=None, **how)
            u = plan.fit(white_box(net, (-100.0, 100.0)), x, labels)
            off = float((u.delta - _best(norm, eps, w)).abs().max())
            short = eps * float(torch.linalg.vector_norm(w, dual)) - float(w @ u.delta)
            size = float(torch.linalg.vector_norm(u.delta, order))
            measured += [
                Measured(f"{norm}, {what}: δ off the closed form by", 0.0, off, 1e-6),
                Measured(f"{norm}, {what}: ⟨w, δ⟩ short of ε‖w‖_* by", 0.0, short, 1e-6),
                at_most(f"{norm}, {what}: ‖δ‖ beyond ε by", 0.0, size - eps, 1e-12),
            ]
    return measured + _counted(many, x)


def _counted(net: nn.Linear, x: Tensor) -> list[Measured]:
    """Rates on rows of which some were used, against a count by hand over the others; the classifier is often wrong."""
    y = torch.zeros(_ROWS).long()
    train, box = x[: _ROWS // 2], (-0.6, 0.6)
    u = universal(Linf(0.3), steps=20).fit(white_box(net, box), train, y[: len(train)])
    with torch.no_grad():
        rest, labels = x[len(train) :], y[len(train) :]
        clean, moved = net(rest).argmax(1), net((rest + u.delta).clamp(*box)).argmax(1)
    access = white_box(net, box)
    fooled, wrong = u.fooling_rate(access, x), u.error(access, x, y)
    return [
        Measured(
            "fooled, f(x + δ) ≠ f(x), of rows not used", float((moved != clean).sum()), fooled.hits, 0.0
        ),
        Measured("wrong, f(x + δ) ≠ y, of rows not used", float((moved != labels).sum()), wrong.hits, 0.0),
        Measured("rows not used", float(len(rest)), fooled.n, 0.0),
        at_most(
            "the two counts are told apart: shortfall of one row", 0.0, 1.0 - abs(fooled.hits - wrong.hits)
        ),
    ]
