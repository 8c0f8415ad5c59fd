"""Poisoned digits: a backdoor, what a filter finds of it, clean-label attacks, and outliers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import mix
from psiphi.defenses import filter_poison
from psiphi.models import Penultimate
from psiphi.poisoning import (
    Poison,
    Trials,
    Victim,
    backdoor,
    feature_collision,
    gradient_matching,
    head,
    outliers,
    trials,
)
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row

OBEYED, LOST = "backdoor, 1 % of the rows: success", "backdoor: clean accuracy lost"
FOUND, CLEAN = (
    "reconstruction filter: backdoored rows removed",
    "reconstruction filter: of what it removed, backdoored",
)
AFTER, LESS = "backdoor after filter and retraining: success", "backdoor after filter: clean accuracy lost"
COLLIDED, MATCHED = (
    "feature collision, last layer learnt: success",
    "gradient matching, from scratch: success",
)
LOW, HIGH = ", lower end of the interval", ", upper end of the interval"
FITTED, HARMED = "outliers: training accuracy", "outliers: test accuracy lost"


@dataclass(frozen=True)
class Setting:
    """Victims, and how often each attack is tried; rows: of the training set, where not all of it is used."""

    epochs: int
    trials: int
    rows: int = 6000
    targets: int = 20
    repeats: int = 6
    hidden: tuple[int, ...] = (256,)
    lr: float = 2e-3
    fraction: float = 0.01
    target: int = 0
    outliers: float = 0.2
    eps: float = 0.3
    matched: float = 0.05
    steps: int = 60
    restarts: int = 1
    long: int = 30


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Every number in %, the mean over trials."""
    train, test = mnist(job)
    found = opened(setting, job, train, test)
    some = Rows(train.x[: setting.rows], train.y[: setting.rows])
    found |= aimed(setting, job, some, test)
    return found | scattered(setting, job, some, test)


def victim(setting: Setting, epochs: int) -> Victim:
    """A perceptron with fresh weights each time."""
    return Victim(
        lambda seed: zoo.classifier((1, 28, 28), 10, hidden=setting.hidden, seed=seed),
        {"epochs": epochs, "lr": setting.lr},
    )


def opened(setting: Setting, job: Job, train: Rows, test: Rows) -> dict[str, float]:
    """The backdoor, and the filter that looks for it."""
    poison = backdoor(setting.target, setting.fraction)
    found = run(
        setting, job, poison, victim(setting, setting.epochs), train, test, setting.trials,
        filter=partial(_filtered, setting, job.seed),
    )  # fmt: skip
    return {
        OBEYED: 100 * found.success.value, LOST: -100 * found.change.value, FOUND: 100 * found.recall.value,
        CLEAN: 100 * found.precision.value, AFTER: 100 * found.filtered_success.value,
        LESS: -100 * found.filtered_change.value,
    }  # fmt: skip


def _filtered(setting: Setting, seed: int, x: Tensor, y: Tensor, model: Any) -> Any:
    return filter_poison(x, y, "reconstruction", fraction=setting.fraction, seed=seed)


def aimed(setting: Setting, job: Job, train: Rows, test: Rows) -> dict[str, float]:
    """Clean-label attacks: each trial a test row of its own, to be taken for its second-likeliest class."""
    plan = victim(setting, setting.long)
    seed = mix(job.seed, "surrogate") >> 33
    surrogate = plan.train(train.x, train.y, seed)
    with torch.no_grad():
        logits = surrogate(test.x)
    able = (logits.argmax(1) == test.y).nonzero().squeeze(1)
    row = [int(able[mix(job.seed, "target", trial) % len(able)]) for trial in range(setting.targets)]
    second = logits.topk(2).indices[:, 1].tolist()
    body = Penultimate(surrogate)

    def collide(trial: int) -> Poison:
        at = row[trial]
        return feature_collision(
            body, test.x[at], second[at], setting.fraction, setting.eps, beta=0.0, steps=setting.steps
        )

    def match(trial: int) -> Poison:
        at = row[trial]
        return gradient_matching(
            surrogate, test.x[at], second[at], setting.eps, setting.matched, setting.steps, setting.restarts
        )

    matched = run(setting, job, match, plan, train, test, setting.targets)
    last = head(body, setting.hidden[-1], (1, 28, 28), 10, epochs=setting.epochs, lr=setting.lr)
    collided = run(setting, job, collide, last, train, test, setting.targets)
    found = {}
    for what, each in ((COLLIDED, collided), (MATCHED, matched)):
        mean = each.success
        found |= {what: 100 * mean.value, what + LOW: 100 * mean.low, what + HIGH: 100 * mean.high}
    return found


def scattered(setting: Setting, job: Job, train: Rows, test: Rows) -> dict[str, float]:
    """Outliers: what a model learns by heart."""
    plan = victim(setting, setting.long)
    found = run(setting, job, outliers(setting.outliers), plan, train, test, setting.repeats)
    lost = -100 * found.change.value
    ends = {HARMED + LOW: -100 * found.change.high, HARMED + HIGH: -100 * found.change.low}
    return {FITTED: 100 * found.fitted.value, HARMED: lost, **ends}


def run(
    setting: Setting, job: Job, poison: Any, plan: Victim, train: Rows, test: Rows, n: int, **more: Any
) -> Trials:
    found = trials(poison, plan, train, test, n, seed=job.seed, **more)
    job.log(found.summary())
    return found


RECIPE = Recipe(
    name="poison_mnist",
    reference='Gu, Dolan-Gavitt, Garg, "BadNets", 2017; Shafahi et al., "Poison frogs!", 2018; Geiping et al., '
    '"Witches\' brew", 2021.',
    what="A backdoor in 1 % of MNIST's rows and the filter that finds it; clean-label attacks; outliers.",
    rows=(
        Row(OBEYED, published=99.0, quick=95.0, full=95.0, unit="%", higher=True),
        Row(LOST, quick=1.0, full=1.0, unit="points"),
        Row(FOUND, quick=90.0, full=90.0, unit="%", higher=True),
        Row(CLEAN, unit="%"),
        Row(AFTER, unit="%"),
        Row(LESS, unit="points"),
        *(Row(what + end, unit="%") for what in (COLLIDED, MATCHED) for end in ("", LOW, HIGH)),
        Row(FITTED, quick=98.0, full=98.0, unit="%", higher=True),
        Row(HARMED, unit="points"),
        Row(HARMED + LOW, quick=2.0, full=2.0, unit="points", higher=True),
        Row(HARMED + HIGH, unit="points"),
    ),
    quick=Setting(epochs=4, trials=3),
    full=Setting(epochs=10, trials=10, targets=50, repeats=20, steps=250, restarts=8),
    measure=measure,
    needs="mnist",
    differs="a perceptron in place of convolutions and deep networks; poisons take the place of rows in place of being "
    "added; clean-label attacks on 6000 rows at a larger ε, since digits have few grey pixels, toward the "
    "second-likeliest class; the filter is psiphi's, by reconstruction.",
)
