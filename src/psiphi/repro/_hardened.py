"""A small convolutional network trained on attacks, judged by the standard battery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from psiphi import zoo
from psiphi.attacks import Attack, Battery, Linf, Result, auto, pgd
from psiphi.basis.noise import forked
from psiphi.defenses import robust_accuracy
from psiphi.models import Classifier
from psiphi.parts import adam
from psiphi.repro._mnist import mnist
from psiphi.repro._recipe import Job, Row
from psiphi.training import fit
from psiphi.training.schedules import linear

CLEAN, ROBUST, WEAK = "accuracy, clean", "accuracy under auto, ε = 0.3", "accuracy under PGD-100, ε = 0.3"
EPS = 0.3


@dataclass(frozen=True)
class Setting:
    """The attack of training, how long it takes, the network, and how many test images are attacked.

    steps of `step` (2.5 ε/steps unless given); warm_up: epochs over which ε rises; channels, hidden: of two strided
    convolutions and a dense layer; beta: of TRADES; held: training images that choose
    the weights.
    """

    epochs: int
    steps: int
    step: float | None
    warm_up: float
    channels: tuple[int, int]
    hidden: int
    test: int
    batch_size: int = 128
    lr: float = 2e-3
    beta: float = 1.0
    held: int = 1000


def lines(clean: float, weak: float, strong: float, full: float) -> tuple[Row, ...]:
    """The published accuracies, and what passes; full: the limit of the clean one in the full setting."""
    return (
        Row(CLEAN, published=clean, quick=97.0, full=full, unit="%", higher=True),
        Row(WEAK, published=weak, unit="%", higher=True),
        Row(ROBUST, published=strong, quick=85.0, full=92.0, unit="%", higher=True),
    )


Harden = Callable[[Classifier, Setting], Classifier]


def network(setting: Setting, side: int, seed: int) -> nn.Sequential:
    """Two convolutions of 4 × 4 with stride 2, 28 → 14 → 7, and two dense layers."""
    (a, b), wide = setting.channels, setting.hidden
    with forked(seed, "network"):
        return nn.Sequential(
            nn.Conv2d(1, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(b * (side // 4) ** 2, wide), nn.ReLU(), nn.Linear(wide, 10),
        )  # fmt: skip


def measure(harden: Harden, setting: Setting, job: Job) -> dict[str, float]:
    """Train, keep the weights of the best validation accuracy under PGD-20, and attack test images."""
    train, test = mnist(job)
    shape = tuple(train.x.shape[1:])
    net = zoo.classifier(shape, 10, network=network(setting, shape[-1], job.seed))
    keep = len(train.x) - setting.held
    history = fit(
        harden(net, setting), train.x[:keep], train.y[:keep], validation=(train.x[keep:], train.y[keep:]),
        epochs=setting.epochs, batch_size=setting.batch_size, optimizer=adam(setting.lr, schedule=linear()),
        monitor=robust_accuracy(pgd(Linf(EPS), steps=20)), seed=job.seed, quiet=job.quiet,
    )  # fmt: skip
    best = history.best or {}
    job.log(f"Trained: validation under PGD-20 {best.get('validation_robust_accuracy', float('nan')):.1%}.")
    x, y = test.x[: setting.test], test.y[: setting.test]
    weak, strong = (
        _attacked(attack, net, x, y, job) for attack in (pgd(Linf(EPS), 100, 0.01), auto(Linf(EPS)))
    )
    clean = float((net.predict(test.x) == test.y).double().mean())
    return {CLEAN: 100 * clean, WEAK: 100 * weak.accuracy, ROBUST: 100 * strong.accuracy}


def _attacked(attack: Attack | Battery, net: Classifier, x: Tensor, y: Tensor, job: Job) -> Result:
    result = attack(net, x, y, seed=job.seed)
    job.log(result.summary())
    return result
