"""The record of an evaluation's honesty: evidence, and the verdicts that are read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks import Result
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.evaluation import _records
from psiphi.evaluation._honest import GRAVITY, VERDICTS, Evidence, Verdict, gravest, right
from psiphi.evaluation._honest._claims import levels, lowest
from psiphi.evaluation._honest._model import GAINS, STAND

_FORMAT = "psiphi honesty 1"
_STANDS = tuple(name for name in STAND if name not in ("stands", "radii", "full width"))


@dataclass(frozen=True, repr=False)
class Honesty:
    """What was asked of an evaluation, and what came out.

    evidence  a line of numbers for each probed row; the verdicts are read from it, so parts can be joined
    """

    evidence: Evidence

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(verdict(self.evidence) for verdict in VERDICTS)

    @property
    def worst(self) -> str:
        """The gravest status: FAIL, WARN, SKIP or OK."""
        return gravest(tuple(each for each in self.verdicts if each.status != "SKIP"))

    @property
    def failed(self) -> tuple[Verdict, ...]:
        return tuple(each for each in self.verdicts if each.status == "FAIL")

    @property
    def rows(self) -> int:
        """How many rows were probed."""
        return len(self.evidence.row)

    @property
    def lowest(self) -> float:
        """The lowest accuracy of the probed rows that attacks and probes leave: of the worst of all for each row; of a
        random classifier, and of a purifier's levels, of each by itself, of the former where it is lower by more than 4
        standard errors of the draws. NaN where none could run."""
        e = self.evidence
        base = e.columns.get("stands")
        if base is None or not len(base):
            return float("nan")
        found = [e.columns[name] for name in _STANDS if name in e.columns]
        found += list(e.columns["radii"][:, :3].T) if "radii" in e.columns else []
        gains = [e.columns[name] > 0 for name in GAINS if name in e.columns]
        if "draws" in e.columns:
            return self._lowest_of_draws(base, found, gains)
        found += [torch.where(gain, 0.0, base) for gain in gains]
        table = torch.stack([base, *(column.nan_to_num(nan=torch.inf).minimum(base) for column in found)])
        least = lowest(e)
        return min([float(table.amin(0).mean())] + ([] if least is None else [float(least.mean())]))

    def _lowest_of_draws(self, base: Tensor, found: list[Tensor], gains: list[Tensor]) -> float:
        """That of the attacks, but where another is lower by more than chance; a row that a probe gains is wrong in
        half of its draws at least."""
        e, n = self.evidence, len(base)
        found = found + [torch.where(gain, base.clamp_max(0.5), base) for gain in gains]
        found += [] if (least := lowest(e)) is None else [least]
        sums = [float(torch.where(column.isnan(), base, column).sum()) for column in found]
        own = float(base.sum())
        return min([own, *(each for each in sums if e.beyond_chance(own - each, n))]) / n

    @property
    def forwards(self) -> int:
        """Rows sent to the classifier by the probes, beside those of the attacks."""
        return int(self.evidence.counts.get("forwards", 0))

    @property
    def backwards(self) -> int:
        return int(self.evidence.counts.get("backwards", 0))

    def of(self, result: Result) -> Honesty:
        """The same verdicts, with rows, those that stand and those undecided counted in the whole of a result."""
        return replace(self, evidence=replace(self.evidence, counts=self.evidence.counts | counted(result)))

    def __getitem__(self, name: str) -> Verdict:
        """The verdict of this name."""
        for each in self.verdicts:
            if each.name == name:
                return each
        raise KeyError(name)

    def summary(self) -> str:
        """One sentence: whether the number can be trusted, and what to do next."""
        if self.failed:
            told = "; ".join(f"{each.name}: {each.sentence.rstrip('.')}" for each in self.failed)
            return f"Not to be trusted: {told}. What to do next: {self.failed[0].advice}"
        doubts = [each.name for each in self.verdicts if each.status == "WARN"]
        asked = sum(each.status != "SKIP" for each in self.verdicts)
        if not asked:
            return "Nothing could be asked: the number is as good as its attacks."
        return f"None of {asked} checks failed{'; look at ' if doubts else ''}{', '.join(doubts)}."

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "worst": self.worst,
            "lowest": None if isnan(self.lowest) else self.lowest,
            "levels": {name: float(each.mean()) for name, each in levels(self.evidence).items()},
            "forwards": self.forwards,
            "backwards": self.backwards,
            "verdicts": [each.as_dict() for each in self.verdicts],
        }

    def __str__(self) -> str:
        """A line a verdict, the gravest first."""
        order = sorted(self.verdicts, key=lambda each: -GRAVITY.index(each.status))
        return "\n".join(map(str, order))

    def __repr__(self) -> str:
        counts = [
            (status, sum(each.status == status for each in self.verdicts)) for status in reversed(GRAVITY)
        ]
        return f"Honesty({self.rows} rows, {', '.join(f'{count} {status}' for status, count in counts if count)})"

    @staticmethod
    def cat(parts: Sequence[Honesty]) -> Honesty:
        """Parts of one evaluation as one. Raises `ArgumentError` for a row in two parts."""
        if not parts:
            raise ArgumentError("there are no parts to join: one at least is needed.")
        return Honesty(Evidence.cat([part.evidence for part in parts]))

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, then `path`.json."""
        tensors, record = self.packed()
        _records.save(path, _FORMAT, tensors, record)

    @staticmethod
    def load(path: str | Path) -> Honesty:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        return Honesty.unpacked(*_records.load(path, "honesty record", _FORMAT))

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and the rest, for JSON."""
        e = self.evidence
        verdicts = [each.as_dict() for each in self.verdicts]
        return {"row": e.row, **e.columns}, {"counts": e.counts, "facts": e.facts, "verdicts": verdicts}

    @staticmethod
    def unpacked(tensors: dict[str, Tensor], record: dict[str, Any]) -> Honesty:
        try:
            columns = dict(tensors)
            return Honesty(Evidence(columns.pop("row"), columns, record["counts"], record["facts"]))
        except KeyError as error:
            raise FileError(f"this is no record of honesty: it lacks {error}.") from None


def counted(result: Result) -> dict[str, float]:
    ties = result.undecided & ~result.already_wrong
    return {"rows": float(len(result)), "stood": float(right(result).sum()), "undecided": float(ties.sum())}
