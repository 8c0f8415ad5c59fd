"""The tour's defences: each under attackers who do not know it, and who do; the lowest number counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psiphi import evaluation
from psiphi.app import _console as console
from psiphi.app._judge import accuracy, labels_of
from psiphi.app.tour._defended import (
    FULL,
    QUICK,
    Detecting,
    Purification,
    Settings,
    Smoothing,
    detected,
    hardened,
    purified,
    smoothed,
)
from psiphi.evaluation import Share

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.data import Data
    from psiphi.evaluation import Robustness

__all__ = ["FULL", "QUICK", "Defences", "Line", "Lowest", "Settings", "measure", "numbers"]

Step = Callable[..., Any]


@dataclass(frozen=True)
class Lowest:
    """The lowest accuracy that was found: value, 95 % interval, digits, and who found it."""

    value: float
    interval: tuple[float, float]
    n: int
    by: str

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval), "n": self.n, "by": self.by}


@dataclass(frozen=True)
class Line:
    """A defence: accuracy on untouched digits, on those made without knowledge of it, and the lowest of all."""

    key: str
    title: str
    clean: Any
    gray: Any
    lowest: Lowest

    def as_dict(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in ("clean", "gray", "lowest")}
        return {name: None if each is None else each.as_dict() for name, each in told.items()}


@dataclass(frozen=True)
class Defences:
    """The chapter. judged: run -> robustness with its verdicts; models: trained here, by the names of their runs."""

    settings: Settings
    seed: int
    y: Tensor = field(repr=False)
    lines: tuple[Line, ...]
    purified: tuple[Purification, ...]
    judged: Mapping[str, Robustness]
    smoothing: Smoothing
    detecting: Detecting | None
    models: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, key: str) -> Line:
        return next(each for each in self.lines if each.key == key)

    @property
    def bare(self) -> Line:
        return self["nothing"]

    @property
    def best(self) -> Line:
        """The defence whose lowest number is the highest, of those that answer every digit."""
        return max((each for each in self.lines if each.gray is not None), key=lambda each: each.lowest.value)


def measure(
    classifier: Any, models: Mapping[str, Any], data: Data, x: Tensor, y: Tensor, settings: Settings, seed: int,
    step: Step,
) -> Defences:  # fmt: skip
    """Defend `classifier` on test digits x (n, *x) of classes y (n,), with `models` by the names of their runs.

    `step(what, why)` is entered for each part. A purifier whose model is missing is left out, and so is the detector.
    """
    s = settings
    with step(
        "Training a classifier on attacks",
        "At every step the worst that an attack finds near each digit: the surest defence that is known.",
    ):
        hard = hardened(s, data, seed)
    with step(
        "Putting models in front of the classifier",
        "Five attackers each, from one who does not know the model to one who knows all but its next draw.",
    ):
        there = [each for each in s.purifiers if each.run in models]
        tables = tuple(purified(each, s, classifier, models[each.run], data, x, y, seed) for each in there)
    with step(
        "Asking whether the numbers can be trusted",
        "A battery with and without gradients, and nineteen questions about each number.",
    ):
        judged = {"hard": evaluation.robustness(hard, x, y, s.battery, seed=seed)}
        if still := [each for each in tables if not each.purifier.fresh]:
            best = max(still, key=lambda each: each.table.worst[1])
            judged[best.purifier.run] = evaluation.robustness(best.safe, x, y, s.battery, seed=seed)
    with step(
        "Certifying votes under noise, and flagging strange digits",
        "A defence that proves its number, and one that may refuse to answer.",
    ):
        noisy, smoothing = smoothed(s, data, x, y, seed)
        judge = models.get(s.detector)
        detecting = None if judge is None else detected(s, classifier, judge, data, x, y, seed)
    lines = _lines(s, classifier, hard, tables, judged, x, y, seed)
    trained = {"hard": hard, "noisy": noisy}
    return Defences(s, seed, y, lines, tables, judged, smoothing, detecting, trained)


def _lines(
    s: Settings, classifier: Any, hard: Any, tables: tuple[Purification, ...], judged: Mapping[str, Robustness],
    x: Tensor, y: Tensor, seed: int,
) -> tuple[Line, ...]:  # fmt: skip
    bare = s.attack(classifier, x, y, seed=seed, stop_early=False)
    left = bare.robust & s.battery(classifier, x, y, seed=seed).robust
    stands = Share(int(left.sum()), len(x))
    least = Lowest(stands.value, stands.interval, len(x), "PGD and auto")
    nothing = Line("nothing", "Nothing", accuracy(classifier, x, y), None, least)
    kept = (labels_of(hard, x)[0] == y) & (labels_of(hard, bare.x)[0] == y)
    trained = Line(
        "hard",
        "Trained on attacks",
        accuracy(hard, x, y),
        Share(int(kept.sum()), len(x)),
        _lowest(None, judged["hard"]),
    )
    return (nothing, trained, *(_line(each, judged.get(each.purifier.run)) for each in tables))


def _line(found: Purification, robust: Robustness | None) -> Line:
    table = found.table
    shares = (table.clean.share, table.levels["gray-box"].share)
    return Line(found.purifier.run, found.purifier.title, *shares, _lowest(found, robust))


def _lowest(found: Purification | None, robust: Robustness | None) -> Lowest:
    """The least of the honest table and of the battery with its probes, where there are both."""
    least = []
    if found is not None:
        table, name = found.table, found.table.worst[0]
        level = table.final or {each.name: each for each in table.lines}[name]
        least.append(Lowest(level.value, level.interval, found.rows, name))
    if robust is not None:
        head = robust.headline
        by = "auto, its checks" if head.rows == len(robust) else head.by
        least.append(Lowest(head.value, head.interval, head.rows, by))
    return min(least, key=lambda each: each.value)


def numbers(found: Defences) -> dict[str, Any]:
    """What the chapter says, for machines."""
    d, c = found.detecting, found.smoothing.certificate
    return console.plain(
        {
            "rows": len(found.y),
            "defences": {each.key: each.as_dict() for each in found.lines},
            "purifiers": {
                each.purifier.run: {**each.table.as_dict(), "tuned": each.chosen.as_dict()}
                for each in found.purified
            },
            "honesty": {name: each.as_dict()["honesty"] for name, each in found.judged.items()},
            "smoothing": {
                "sigma": c.sigma, "votes": c.n, "alpha": c.alpha, "abstained": int(c.abstained.sum()),
                "certified": {f"{r:g}": c.accuracy(found.y, r).as_dict() for r, _ in found.smoothing.attacked},
                "attacked": {f"{r:g}": each.as_dict() for r, each in found.smoothing.attacked},
            },
            "detection": None if d is None else {
                "detector": d.detector, "alarms": d.alarms.as_dict(), "allowed": list(d.allowed),
                "passed": d.passed.as_dict(),
                **{name: getattr(d, name).as_dict() for name in ("clean", "unaware", "aware")},
                "seen": {name: None if each is None else each.as_dict() for name, each in d.seen.items()},
            },
        }
    )  # fmt: skip
