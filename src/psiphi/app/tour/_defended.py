"""The tour's defences one by one: how each is made, and what is measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from psiphi import attacks, defenses, evaluation, zoo
from psiphi.access import expectation, white_box
from psiphi.app._judge import labels_of
from psiphi.evaluation import Share
from psiphi.training import fit

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.attacks import Attack
    from psiphi.data import Data
    from psiphi.defenses import Certificate, Detection, Outcome, Tuned
    from psiphi.evaluation import Adaptive

JUDGES = 1000  # votes on fresh noise that judge the points of an attack
CHOICE = 100  # draws that choose the class
CHOOSING = 256  # validation digits, at most, that choose an option
SCORE = "reconstruction"


@dataclass(frozen=True)
class Purifier:
    """A model that stands in front: its run's name, a title, options of its projection, and whether noise is fresh."""

    run: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False


PURIFIERS = (
    Purifier("vae", "VAE in front"),
    Purifier("denoising", "Denoising autoencoder in front"),
    Purifier("diffusion", "Diffusion in front, fresh noise", {"steps": 5}, True),
)


@dataclass(frozen=True)
class Settings:
    """How long the defences train, and how hard they are tried.

    eps, steps: of PGD in the L∞ ball; search_steps, queries: of the battery that judges what stands best.
    hidden, epochs, attack_steps, warm_up: of training on attacks. fresh_rows, draws, verify: where noise is fresh.
    sigma, noisy_epochs, votes, alpha: of smoothing, attacked at L2 `lengths`. alarm, detector: of detection.
    """

    eps: float = 0.15
    steps: int = 20
    search_steps: int = 20
    queries: int = 200
    purifiers: tuple[Purifier, ...] = PURIFIERS
    hidden: int = 256
    epochs: int = 15
    attack_steps: int = 5
    warm_up: int = 3
    fresh_rows: int = 100
    draws: int = 4
    verify: int = 20
    sigma: float = 0.25
    noisy_epochs: int = 30
    votes: int = 2000
    alpha: float = 0.001
    lengths: tuple[float, ...] = (0.125, 0.25, 0.5)
    alarm: float = 0.05
    detector: str = "vae"

    @property
    def attack(self) -> Attack:
        return attacks.pgd(attacks.Linf(self.eps), steps=self.steps)

    @property
    def battery(self) -> Any:
        return attacks.auto(attacks.Linf(self.eps), steps=self.search_steps, queries=self.queries)


FULL = Settings()
QUICK = Settings(
    steps=5, search_steps=5, queries=40, epochs=3, attack_steps=2, warm_up=1, fresh_rows=12, draws=2, verify=4,
    noisy_epochs=3, votes=200, lengths=(0.25,),
)  # fmt: skip


@dataclass(frozen=True)
class Purification:
    """One purifier: how its option was chosen, and its honest table on so many digits."""

    purifier: Purifier
    chosen: Tuned
    table: Adaptive
    safe: Any = field(repr=False)
    rows: int


@dataclass(frozen=True)
class Smoothing:
    """A certificate, and what becomes of the points that an attack finds within some radii: (radius, outcome)."""

    safe: str
    certificate: Certificate
    attacked: tuple[tuple[float, Outcome], ...]


@dataclass(frozen=True)
class Detecting:
    """A detector before the classifier: false alarms, and the answers on untouched digits and after two attackers.

    seen: how the points that fool the classifier look to the detector; None where there are none. passed: digits that
    are wrong and unflagged after one attacker or the other.
    """

    detector: str
    alarms: Share
    allowed: tuple[float, float]
    clean: Outcome
    unaware: Outcome
    aware: Outcome
    seen: Mapping[str, Detection | None]
    passed: Share


def hardened(s: Settings, data: Data, seed: int) -> Any:
    """A classifier trained on attacks."""
    net = zoo.classifier(data.shape, len(data.classes), hidden=(s.hidden,), seed=seed)
    attack = attacks.pgd(attacks.Linf(s.eps), steps=s.attack_steps)
    hard = defenses.adversarial_training(net, attack, warmup=s.warm_up)
    monitor = defenses.robust_accuracy(attack)
    fit(hard, data.train, validation=data.validation, epochs=s.epochs, seed=seed, quiet=True, monitor=monitor)
    return hard


def purified(
    purifier: Purifier, s: Settings, classifier: Any, model: Any, data: Data, x: Tensor, y: Tensor, seed: int
) -> Purification:
    """The purifier with the options that do best on attacked validation digits, under five attackers."""
    rows = min(len(x), s.fresh_rows) if purifier.fresh else len(x)
    noise = None if purifier.fresh else seed
    safe = defenses.purify(classifier, model, seed=noise, **purifier.options)
    held, kinds = (torch.as_tensor(each[: min(rows, CHOOSING)]) for each in data.validation)
    chosen = defenses.tuned(safe, held, kinds, s.attack, seed=seed)
    table = evaluation.adaptive(
        chosen.safe, x[:rows], y[:rows], s.attack, draws=s.draws, verify=s.verify, seed=seed
    )
    return Purification(purifier, chosen, table, chosen.safe, rows)


def smoothed(s: Settings, data: Data, x: Tensor, y: Tensor, seed: int) -> tuple[Any, Smoothing]:
    """A classifier trained on noise, the certificate of its votes, and PGD on their soft form within some radii."""
    noisy = zoo.classifier(data.shape, len(data.classes), hidden=(s.hidden,), seed=seed)
    taught = defenses.noisy_training(noisy, s.sigma)
    fit(taught, data, epochs=s.noisy_epochs, seed=seed, quiet=True)
    safe = defenses.smooth(noisy, s.sigma)
    certificate = safe.certify(x, CHOICE, s.votes, s.alpha, seed=seed)
    access = expectation(safe, draws=1, verify=2)
    points = {0.0: x}
    for radius in s.lengths:
        points[radius] = attacks.pgd(attacks.L2(radius), steps=s.steps)(access, x, y, seed=seed).x
    votes = min(JUDGES, s.votes)
    attacked = [(r, safe.outcome(each, y, votes, s.alpha, seed=seed)) for r, each in points.items()]
    return taught, Smoothing(repr(safe), certificate, tuple(attacked))


def detected(
    s: Settings, classifier: Any, model: Any, data: Data, x: Tensor, y: Tensor, seed: int
) -> Detecting:
    """A threshold on a model's score, and an attacker who does not know of it beside one who passes both."""
    detector = defenses.detect(model, data.validation, SCORE, alarm=s.alarm)
    guarded = detector.guard(classifier)
    before = labels_of(classifier, x)[0] == y
    outcomes: dict[str, Outcome] = {}
    seen: dict[str, Detection | None] = {}
    passed = torch.zeros(len(y)).bool()
    for name, target in (("unaware", classifier), ("aware", guarded)):
        points = s.attack(white_box(target), x, y, seed=seed).x
        answer = guarded.predict(points)
        outcomes[name] = guarded.outcome(points, y)
        passed |= (answer != y) & (answer != -1)
        fooled = before & (labels_of(classifier, points)[0] != y)
        seen[name] = detector.evaluate(x, points[fooled]) if bool(fooled.any()) else None
    flagged = detector.flags(x)
    return Detecting(
        repr(detector),
        Share(int(flagged.sum()), len(flagged)),
        detector.rate.interval(),
        guarded.outcome(x, y),
        outcomes["unaware"],
        outcomes["aware"],
        seen,
        Share(int(passed.sum()), len(passed)),
    )
