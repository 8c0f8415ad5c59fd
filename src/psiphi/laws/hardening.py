"""Laws of training on attacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from psiphi.attacks import L1, L2, Linf, pgd
from psiphi.basis.noise import Noise, forked, generator
from psiphi.defenses import adversarial_training, trades
from psiphi.laws._law import Measured, law
from psiphi.models import Classifier
from psiphi.parts import Batch, Clock, Statistics

_DIMS, _ROWS, _EPS = 5, 24, 0.1
_BALLS = {"Linf": (Linf, 1), "L2": (L2, 2), "L1": (L1, torch.inf)}


def _linear() -> tuple[Classifier, Batch]:
    """Two classes, z = W x + b, and rows that no ball around them leaves the box of."""
    with forked("law 28c"):
        model = Classifier(Statistics((_DIMS,)), 2, nn.Linear(_DIMS, 2)).double()
    x = 0.2 + 0.6 * torch.rand(_ROWS, _DIMS, generator=generator("law 28c"), dtype=torch.float64)
    return model, Batch(x, torch.arange(_ROWS) % 2, Noise.of(0, _ROWS, dtype=torch.float64))


def _gap(model: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """z_1 − z_0 of each row, and its gradient w."""
    layer: nn.Linear = model.network  # pyright: ignore[reportAssignmentType]
    w = layer.weight[1] - layer.weight[0]
    return x @ w + layer.bias[1] - layer.bias[0], w


def _gradient(model: Classifier, loss: Tensor) -> Tensor:
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)]
    )


@law("28c", "training on attacks: loss and gradient of a linear model, and what each of its options does")
def linear() -> list[Measured]:
    """max −ln p_y = ln(1 + e^{−(m − ε‖w‖*)}), m = ±(z_1 − z_0); TRADES: the KL at an end ±ε‖w‖*."""
    model, batch = _linear()
    y, clock = 2 * batch.y.double() - 1, Clock(10, 2.0, 100)  # pyright: ignore[reportOptionalMemberAccess]
    measured = []
    for name, (ball, dual) in _BALLS.items():
        gap, w = _gap(model, batch.x)
        reach = _EPS * torch.linalg.vector_norm(w, dual)
        theory = softplus(reach - y * gap).mean()
        plain = softplus(-y * gap).mean()
        options: dict[str, Any]
        for what, options, wanted in (
            ("", {}, theory),
            (", half way through the warm-up", {"warmup": 4.0}, softplus(reach / 2 - y * gap).mean()),
            (", a quarter of it clean", {"clean": 0.25}, 0.25 * plain + 0.75 * theory),
        ):
            trained = adversarial_training(model, pgd(ball(_EPS), steps=40, step=_EPS), **options)
            found = trained.loss(trained, batch, clock)["loss"]
            measured.append(Measured(f"{name}{what}", wanted.item(), found.item(), 1e-6))
            off = _gradient(model, found) - _gradient(model, wanted)
            measured.append(Measured(f"{name}{what}: gradient of the weights", 0.0, off.norm().item(), 1e-5))
        made = trades(model, pgd(ball(_EPS), steps=40, step=_EPS, restarts=12, goal="kl"), beta=3.0)
        found = made.loss(made, batch, clock)["loss"]
        wanted = plain + 3 * _farthest(gap, reach, y).mean()
        measured.append(Measured(f"{name}: TRADES", wanted.item(), found.item(), 1e-6))
    return measured


def _farthest(gap: Tensor, reach: Tensor, y: Tensor) -> Tensor:
    """The larger KL of both ends; that of the end which alone is misclassified, since an attack keeps that point."""
    ends = torch.stack([gap + reach, gap - reach])
    apart, broken = _kl(gap, ends), y * ends < 0
    return torch.where(broken.any(0), apart.masked_fill(~broken, 0), apart).amax(0)


def _kl(gap: Tensor, moved: Tensor) -> Tensor:
    """KL between the answers of two classes with these differences of logits."""
    p = gap.sigmoid()
    return p * (softplus(-moved) - softplus(-gap)) + (1 - p) * (softplus(moved) - softplus(gap))
