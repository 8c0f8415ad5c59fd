"""Laws of poisoned training sets: what may change, what does, and what none of it changes."""

from __future__ import annotations

import torch
from torch import Tensor

from psiphi.attacks.threats import Linf
from psiphi.basis.noise import forked, generator
from psiphi.laws._law import Measured, at_most, law
from psiphi.models import Penultimate
from psiphi.networks import MLP
from psiphi.poisoning import (
    Poison,
    Victim,
    backdoor,
    feature_collision,
    gradient_matching,
    label_flip,
    outliers,
    trials,
)
from psiphi.zoo import classifier

_SHAPE, _CLASSES, _ROWS = (1, 5, 5), 2, 200


def _rows(seed: int) -> tuple[Tensor, Tensor]:
    """Images in two classes, one bright above and one below, with a dark corner."""
    y = torch.arange(_ROWS) % _CLASSES
    x = 0.4 * torch.rand(_ROWS, *_SHAPE, generator=generator("law 27", seed))
    x[y == 0, :, :2, :3] += 0.5
    x[y == 1, :, 3:, :3] += 0.5
    return x, y


def _victim() -> Victim:
    return Victim(
        lambda seed: classifier(_SHAPE, _CLASSES, hidden=(16,), seed=seed), {"epochs": 6, "lr": 2e-2}
    )


def _poisons(fraction: float) -> dict[str, Poison]:
    with forked("law 27"):
        net = MLP(_SHAPE, (_CLASSES,), (8,))
    target = _rows(1)[0][0]
    return {
        "label_flip": label_flip(fraction),
        "outliers": outliers(fraction),
        "backdoor": backdoor(1, fraction),
        "backdoor, labels kept": backdoor(1, fraction, clean_label=True),
        "feature_collision": feature_collision(Penultimate(net), target, 1, fraction, eps=0.1, steps=4),
        "gradient_matching": gradient_matching(net, target, 1, 0.1, fraction, steps=4, restarts=1),
    }


@law("27a", "a poison's budget, distance to its base, box and labels")
def constraints() -> list[Measured]:
    """Counted by hand over the tainted set, for fractions of the rows that do not divide them."""
    x, y = _rows(0)
    measured = []
    for name, poison in _poisons(0.0275).items():
        found = poison(x, y, seed=1)
        off = (found.x != x).flatten(1).any(1) | (found.y != y)
        far = float(poison.threat.distance(found.x, x).max()) if isinstance(poison.threat, Linf) else 0.0
        least, largest = float(found.x.min()), float(found.x.max())
        measured += [
            at_most(f"{name}: rows that differ, of ⌊0.0275 · 200⌋", 5.0, float(off.sum())),
            Measured(f"{name}: rows that differ and are not listed", 0.0, float((off & ~found.is_poison).sum()), 0.0),
            at_most(f"{name}: outside the box by", 0.0, max(-least, largest - 1)),
        ]  # fmt: skip
        if isinstance(poison.threat, Linf):
            measured.append(at_most(f"{name}: ‖p − b‖_∞", 0.1, far, 1e-6))
        if name in ("outliers", "backdoor, labels kept", "feature_collision", "gradient_matching"):
            measured.append(Measured(f"{name}: labels changed", 0.0, float((found.y != y).sum()), 0.0))
    return measured


@law("27b", "a poison without a budget changes no bit of the trained weights")
def nothing() -> list[Measured]:
    x, y = _rows(0)
    clean = _victim().train(x, y, 3)
    measured = []
    for name, poison in _poisons(0.004).items():  # ⌊0.8⌋ rows
        tainted = poison(x, y, seed=3)
        model = _victim().train(tainted.x, tainted.y, 3)
        pairs = zip(model.state_dict().values(), clean.state_dict().values(), strict=True)
        off = sum(int((a != b).sum()) for a, b in pairs)
        measured.append(Measured(f"{name}: weights that differ", 0.0, float(off), 0.0))
    return measured


@law(
    "27c",
    "a backdoor in a tenth of the rows is obeyed, and clean rows do not show it; both with intervals over trials",
)
def harm() -> list[Measured]:
    """Four trials with weights and tainted rows of their own. Without a poison, the corner changes no answer."""
    found = trials(backdoor(1, 0.1), _victim(), _rows(0), _rows(1), n=4, seed=1)
    return [
        at_most("share not taken for the target: end of the interval", 0.1, 1 - found.success.low),
        at_most("the same trigger on clean models: end of the interval", 0.1, found.control.high),
        at_most("clean accuracy lost: end of the interval", 0.02, -found.change.low),
        Measured("poisons in a trial", 20.0, float(found.lines[0].poisons), 0.0),
    ]
