"""The record of an evaluation of robustness: per attack, per sample, against the radius, with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks import Curve, Result
from psiphi.basis.errors import ArgumentError
from psiphi.evaluation._honest._claims import levels, lowest
from psiphi.evaluation._honest._evidence import SIGMAS
from psiphi.evaluation._honest._record import Honesty
from psiphi.evaluation._robust import _files, _told

TOGETHER = "the worst of all for each row"
PROBED = "the worst of all for each probed row"
LEVEL = "a level of the purifier"


@dataclass(frozen=True)
class Headline:
    """The lowest robust accuracy of a record: value, its 95 % interval, the threat, rows it is of, who found it."""

    value: float
    interval: tuple[float, float]
    threat: str
    rows: int
    by: str

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "interval": list(self.interval)}

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.value:.1%} [{low:.1%}, {high:.1%}] under {self.threat}, by {self.by}, on {self.rows} rows"
        )


@dataclass(frozen=True, repr=False)
class Robustness:
    """What attacks leave of a classifier's accuracy.

    attacks  by name, each on every row that is classified rightly; a battery is one entry, and within it each attack
             sees what those before it left
    threats  name of an attack -> its threat; the worst case is of one threat
    worst    threat -> of each row the worst point that any attack or probe found; `broken_by` counts through
             `provenance["attacks"]`
    curves   threat -> accuracy at several radii, where these were asked for
    judged   threat -> verdicts on what was found
    """

    attacks: dict[str, Result]
    threats: dict[str, str]
    worst: dict[str, Result]
    curves: dict[str, Curve] = field(default_factory=dict)
    judged: dict[str, Honesty] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.attacks.values())))

    @property
    def honesty(self) -> Honesty | None:
        """The verdicts; of several threats those with the most failures. None where they were not asked for."""
        return max(self.judged.values(), key=lambda each: len(each.failed), default=None)

    @property
    def clean_accuracy(self) -> float:
        return next(iter(self.attacks.values())).clean_accuracy

    @property
    def clean_interval(self) -> tuple[float, float]:
        """95 %, by Wilson, of a random classifier by the normal."""
        first = next(iter(self.attacks.values()))
        wrong = first.clean_share
        return _told.of_rows(~first.already_wrong) if wrong is None else _told.of_draws(1 - wrong)

    def stands(self, threat: str) -> Tensor:
        """Whether each row stands all that was tried within the threat: attacks, probes, the curve's radii up to its
        own, a purifier's levels, (n,). Of a random classifier, whether half of its draws stand the attacks."""
        worst, curve = self.worst[threat], self.curves.get(threat)
        rows = worst.robust.cpu()
        if worst.share is not None:
            return rows
        if curve is not None and len(radii := self._within(threat)):
            rows = rows & curve.robust[:, radii].all(1)
        if threat in self.judged:
            evidence = self.judged[threat].evidence
            for right in levels(evidence).values():
                rows = rows & ~torch.isin(worst.row.cpu(), evidence.row[right < 1])
        return rows

    def broken_by(self, threat: str) -> list[str]:
        """The name of the attack or probe that broke each row; empty where it stands, or was wrong before."""
        worst = self.worst[threat]
        names, by = worst.provenance["attacks"], worst.broken_by
        assert by is not None
        open_ = self.stands(threat) | worst.already_wrong.cpu() | worst.undecided.cpu()
        return [
            names[place] if place >= 0 else "" if stands else f"curve or {LEVEL}"
            for place, stands in zip(by.tolist(), open_.tolist())
        ]

    @cached_property
    def headline(self) -> Headline:
        """The lowest number that anything in the record found."""
        return min(self.worst_case.values(), key=lambda each: each.value)

    @property
    def worst_case(self) -> dict[str, Headline]:
        """Of each threat the lowest number found."""
        return {threat: min(self._found(threat), key=lambda each: each.value) for threat in self.worst}

    def _found(self, threat: str) -> list[Headline]:
        """The numbers of one threat; of a random classifier, beside that of the worst points, judged by draws that did
        not pick them, those that are lower by more than chance. Where probes broke rows that the attacks left, that of
        the probed rows too, since nobody looked so closely at the others."""
        worst, curve = self.worst[threat], self.curves.get(threat)
        right = self.stands(threat).double() if worst.share is None else 1 - worst.share.cpu()
        drawn = worst.share is not None
        found = [_headline(right, drawn, threat, TOGETHER)]
        if curve is not None and curve.share is not None:
            for place in self._within(threat).tolist():
                stand, at = 1 - curve.share[:, place].cpu(), f"the curve at {curve.eps[place]:g}"
                if self._lower(stand, right, drawn):
                    found.append(_headline(stand, drawn, threat, at))
        if threat not in self.judged or "stands" not in (evidence := self.judged[threat].evidence).columns:
            return found
        here = right[torch.isin(worst.row.cpu(), evidence.row)]
        if self._lower(here, evidence.columns["stands"], drawn):
            found.append(_headline(here, drawn, threat, PROBED))
        least = lowest(evidence) if drawn else None
        if least is not None and self._lower(least, here, drawn):
            found.append(_headline(least, drawn, threat, LEVEL))
        return found

    def _lower(self, share: Tensor, other: Tensor, drawn: bool) -> bool:
        """Whether the mean of n shares is below that of others of the same rows, of draws by more than 4 standard
        errors: the least of several would else be the unluckiest."""
        if not (n := len(other)):
            return False
        chance = SIGMAS * (0.5 / (n * self.provenance.get("judging", 100))) ** 0.5 if drawn else 0.0
        return _mean(other) - _mean(share) > chance

    def _within(self, threat: str) -> Tensor:
        """The places of the curve's radii that are no larger than the threat's."""
        eps, radii = self.provenance.get("radii", {}).get(threat, -1.0), self.curves[threat].eps
        return (radii <= eps).nonzero().squeeze(1)

    @property
    def forwards(self) -> int:
        """Rows sent to the classifier, by attacks, curves and probes."""
        return self._spent("forwards")

    @property
    def backwards(self) -> int:
        return self._spent("backwards")

    def _spent(self, name: str) -> int:
        parts = [*self.attacks.values(), *self.curves.values()]
        return sum(int(getattr(part, name).sum()) for part in parts) + sum(
            getattr(h, name) for h in self.judged.values()
        )

    def summary(self) -> str:
        """What to say of the classifier, in a few sentences: the lowest number, and whether it can be trusted."""
        told = [f"Clean accuracy {self.clean_accuracy:.1%}; robust accuracy {self.headline}."]
        for threat, each in self.judged.items():
            told.append(each.summary() if len(self.judged) == 1 else f"{threat}: {each.summary()}")
        told += [] if self.judged else ["Nobody asked whether it can be trusted: honesty=True does."]
        return " ".join(told)

    def as_dict(self) -> dict[str, Any]:
        """Every number, for JSON."""
        return _told.numbers(self)

    def __str__(self) -> str:
        return _told.table(self)

    def __repr__(self) -> str:
        asked = f", {self.honesty!r}" if self.honesty is not None else ""
        return f"Robustness({len(self)} rows, clean {self.clean_accuracy:.1%}, robust {self.headline}{asked})"

    @staticmethod
    def cat(parts: Sequence[Robustness]) -> Robustness:
        """Parts of one evaluation, each of some rows, as the whole. Raises `ArgumentError` where they are not."""
        if not parts:
            raise ArgumentError("there are no parts to join: one at least is needed.")
        first = parts[0]
        for name in ("threats", "worst", "curves", "judged"):
            if any(list(getattr(part, name)) != list(getattr(first, name)) for part in parts):
                raise ArgumentError(
                    f"the parts differ in `{name}`: these are not the parts of one evaluation."
                )
        joined: dict[str, Any] = {
            name: {
                key: kind.cat([getattr(part, name)[key] for part in parts]) for key in getattr(first, name)
            }
            for name, kind in {"attacks": Result, "worst": Result, "curves": Curve, "judged": Honesty}.items()
        }
        seconds = round(sum(part.provenance.get("seconds", 0.0) for part in parts), 3)
        told = {**first.provenance, "parts": len(parts), "seconds": seconds}
        told["rows"] = sum(len(part) for part in parts)
        return replace(first, **joined, provenance=told)

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, points and numbers, then `path`.json, which people can read too."""
        _files.save(self, path)

    @staticmethod
    def load(path: str | Path) -> Robustness:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        return Robustness(**_files.load(path))


def _headline(right: Tensor, drawn: bool, threat: str, by: str) -> Headline:
    interval = _told.of_draws(right) if drawn else _told.of_rows(right)
    return Headline(_mean(right), interval, threat, len(right), by)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
