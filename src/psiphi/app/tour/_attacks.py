"""The tour's attacks: each run on the same test digits, told by the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from psiphi import poisoning, zoo
from psiphi.access import black_box, white_box
from psiphi.app import _console as console
from psiphi.app._judge import accuracy, labels_of
from psiphi.app.tour._plans import FULL, QUICK, Plan, Settings, plans
from psiphi.attacks import Curve, Linf, fgsm, pgd, universal
from psiphi.attacks.threats import Pixels
from psiphi.evaluation import Share

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.attacks import Result
    from psiphi.data import Data
    from psiphi.poisoning import Trials

__all__ = ["FULL", "QUICK", "Attacks", "Radii", "Settings", "Tried", "measure", "numbers"]

Step = Callable[..., Any]


@dataclass(frozen=True)
class Tried:
    """What one attack did to the test digits.

    x       the points, (n, *x); judge: the classifier that reads them
    right   digits that it still reads rightly, (n,); broken: those whose goal was reached, (n,)
    far     how far each was moved, in the plan's unit, (n,)
    forwards, backwards   rows sent through the classifier, and back, in all
    reached of an attack with a target class, the digits that were read as it
    notes   a few words for a digit, by its row
    """

    plan: Plan
    attack: str
    judge: Any
    x: Tensor = field(repr=False)
    right: Tensor = field(repr=False)
    broken: Tensor = field(repr=False)
    far: Tensor = field(repr=False)
    forwards: int
    backwards: int
    reached: Share | None = None
    result: Result | None = field(default=None, repr=False)
    notes: Mapping[int, str] = field(default_factory=dict, repr=False)

    @property
    def left(self) -> Share:
        return Share(int(self.right.sum()), len(self.right))

    @property
    def distance(self) -> float:
        """Mean over the digits that were broken; NaN without any."""
        return float(self.far[self.broken].double().mean())

    def as_dict(self) -> dict[str, Any]:
        return {
            "attack": self.attack,
            "threat": self.plan.threat,
            "sees": self.plan.sees,
            "left": self.left.as_dict(),
            "distance": self.distance,
            "unit": self.plan.unit,
            "broken": int(self.broken.sum()),
            "reached": None if self.reached is None else self.reached.as_dict(),
            "forwards": self.forwards,
            "backwards": self.backwards,
        }


@dataclass(frozen=True)
class Radii:
    """Accuracy against the radius: one step and many in L∞, each radius by itself; and the least L2 change of all."""

    one: Curve
    many: Curve
    nearest: Curve


@dataclass(frozen=True)
class Attacks:
    """The chapter: every attack on the same digits, the radii, and the backdoor over trials."""

    settings: Settings
    seed: int
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    clean: Share
    tried: tuple[Tried, ...]
    radii: Radii
    trials: Trials

    def __getitem__(self, key: str) -> Tried:
        return next(each for each in self.tried if each.plan.key == key)


def measure(
    classifier: Any, data: Data, x: Tensor, y: Tensor, settings: Settings, seed: int, step: Step
) -> Attacks:
    """Attack `classifier` on test digits x (n, *x) of classes y (n,); `step(what, why)` is entered for each part."""
    with step(
        "Attacking the classifier ten ways",
        "With its gradient, with its scores or labels alone, by one pixel, by turning; then through its training set.",
    ):
        listed = plans(settings, len(x), seed)
        tried = [_searched(plan, classifier, x, y, seed) for plan in listed if plan.made is not None]
        by_key = {each.plan.key: each for each in tried}
        by_key["universal"] = _universal(settings, _plan(listed, "universal"), classifier, data, x, y, seed)
        by_key["backdoor"], trials = _backdoor(settings, _plan(listed, "backdoor"), data, x, y, seed)
    with step(
        f"Attacking at {len(settings.radii)} radii",
        "Each radius by itself: a larger ball must never be harder to break.",
    ):
        radii = _radii(settings, by_key["carlini_wagner"], classifier, x, y, seed)
    ordered = tuple(by_key[plan.key] for plan in listed)
    return Attacks(settings, seed, x, y, accuracy(classifier, x, y), ordered, radii, trials)


def _plan(listed: Any, key: str) -> Plan:
    return next(each for each in listed if each.key == key)


def _searched(plan: Plan, classifier: Any, x: Tensor, y: Tensor, seed: int) -> Tried:
    """An attack that looks for a change of each digit."""
    assert plan.made is not None
    attack = plan.made()
    reveal: Any = plan.reveal
    access = white_box(classifier) if reveal is None else black_box(classifier, reveal, plan.budget)
    result = attack(access, x, y, seed=seed)
    right, reached = result.robust, None
    if result.targeted:
        right = ~result.already_wrong & (labels_of(classifier, result.x)[0] == y)
        reached = Share(int(result.success.sum()), len(x))
    far, notes = result.distance, {}
    if plan.unit == "°":
        assert result.change is not None
        angle = result.change[:, 0] * float(getattr(attack.threat, "degrees"))  # noqa: B009
        far = angle.abs()
        notes = {i: f"{each:+.0f}°".replace("-", "−") for i, each in enumerate(angle.tolist())}
    spent = (int(result.forwards.sum()), int(result.backwards.sum()))
    return Tried(
        plan,
        repr(attack),
        classifier,
        result.x,
        right,
        result.broken,
        far,
        *spent,
        reached,
        result,
        notes,
    )


def _universal(
    s: Settings, plan: Plan, classifier: Any, data: Data, x: Tensor, y: Tensor, seed: int
) -> Tried:
    """One change for all, learnt on training digits: rows sent are those of the learning."""
    search = universal(Linf(s.universal_eps))
    learnt = torch.as_tensor(data.train.x[: s.learnt])
    change = search.fit(classifier, learnt, seed=seed)
    moved = change(x, seed=seed)
    right = labels_of(classifier, moved)[0] == y
    fooled = (labels_of(classifier, x)[0] == y) & ~right
    asked = int(change.provenance["forwards"])  # of which those about its labels go forward alone
    far = search.threat.distance(moved, x)
    return Tried(plan, repr(search), classifier, moved, right, fooled, far, asked, asked - len(learnt))


def _backdoor(s: Settings, plan: Plan, data: Data, x: Tensor, y: Tensor, seed: int) -> tuple[Tried, Trials]:
    """Clean and poisoned models over trials; the pictures are of the first trial's poisoned model, trained again."""
    poison = poisoning.backdoor(s.target, s.fraction)
    recipe = {"epochs": s.epochs, "lr": 3e-3, "batch_size": 64}
    victim = poisoning.Victim(
        lambda own: zoo.classifier(data.shape, len(data.classes), hidden=(s.hidden,), seed=own), recipe
    )
    trials = poisoning.trials(poison, victim, data.train, (x, y), s.trials, seed=seed)
    tainted = poison(data.train, None, seed=trials.lines[0].seed)
    model = victim.train(tainted.x, tainted.y, trials.lines[0].seed)
    aim: Any = poison.aim
    marked = aim.trigger(x)
    label = labels_of(model, marked)[0]
    right, taken = label == y, (label == s.target) & (y != s.target)
    others = y != s.target
    far = Pixels(1).distance(marked, x)
    reached = Share(int(taken.sum()), int(others.sum()))
    return Tried(plan, repr(poison), model, marked, right, taken, far, 0, 0, reached), trials


def _radii(s: Settings, nearest: Tried, classifier: Any, x: Tensor, y: Tensor, seed: int) -> Radii:
    assert nearest.result is not None
    largest = Linf(s.radii[-1])
    one, many = (
        attack.curve(classifier, x, y, eps=s.radii, independent=True, seed=seed)
        for attack in (fgsm(largest), pgd(largest, steps=s.steps))
    )
    top = float(nearest.far[nearest.broken].max()) if bool(nearest.broken.any()) else 1.0
    fine = [1.05 * top * k / 120 for k in range(121)]
    return Radii(one, many, Curve.of(nearest.result, fine))


def numbers(found: Attacks) -> dict[str, Any]:
    """What the chapter says, for machines."""
    curves = {"fgsm": found.radii.one, "pgd": found.radii.many}
    return console.plain(
        {
            "rows": len(found.x),
            "clean": found.clean.as_dict(),
            "attacks": {each.plan.key: each.as_dict() for each in found.tried},
            "backdoor": {what: mean.as_dict() for what, mean in found.trials.table()},
            "radii": {
                name: {"eps": c.eps.tolist(), "accuracy": c.accuracy.tolist(), "intervals": c.intervals.tolist()}
                for name, c in curves.items()
            },
        }
    )  # fmt: skip
