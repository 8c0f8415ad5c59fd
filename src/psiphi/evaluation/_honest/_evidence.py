"""What the verdicts are read from: a line of numbers for each row, so that parts of an evaluation can be joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from psiphi.attacks import Result, _rows

SIGMAS = 4  # standard errors by which two shares of draws differ for sure


@dataclass(frozen=True)
class Notes:
    """What one check writes down.

    columns  name -> a number for each probed row, (n,) or (n, m), NaN where it was not measured
    counts   name -> a number that adds up over parts
    facts    name -> sentences or names
    results  name -> points that a probe found, of some or all of the probed rows
    """

    columns: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    facts: dict[str, list[str]] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The notes of all checks on the probed rows, whose numbers in the whole batch are `row`, (n,)."""

    row: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    facts: dict[str, list[str]] = field(default_factory=dict)

    def with_notes(self, notes: Notes) -> Evidence:
        columns = {name: column.detach().cpu().double() for name, column in notes.columns.items()}
        return replace(
            self,
            columns=self.columns | columns,
            counts=_added([self.counts, notes.counts]),
            facts=_united([self.facts, notes.facts]),
        )

    def measured(self, name: str) -> Tensor | None:
        """The rows of a column that are not NaN; None where there is no column, or nothing in it."""
        column = self.columns.get(name)
        if column is None:
            return None
        column = column[~column.flatten(1).isnan().any(1)] if column.ndim > 1 else column[~column.isnan()]
        return column if len(column) else None

    def chance(self, n: int) -> float:
        """4 standard errors of the difference of two sums over n rows, of shares of draws; 0 where nothing is drawn."""
        draws = self.measured("draws")
        return 0.0 if draws is None else SIGMAS * (0.5 * n / float(draws.min())) ** 0.5

    def beyond_chance(self, hits: float, n: int) -> float:
        """Rows, or sums of shares over n rows, that draws do not explain; at least 0."""
        return max(hits - self.chance(n), 0.0)

    def said(self, name: str) -> str:
        """The sentences under a name."""
        return "; ".join(self.facts.get(name, []))

    def refused(self, check: str) -> str:
        """Why a check has no number."""
        told = self.said(f"refused: {check}").rstrip(".")
        return f"{told or ('there is nothing to measure' if len(self.row) else 'no row was probed')}."

    @staticmethod
    def cat(parts: Sequence[Evidence]) -> Evidence:
        """Parts as one, in the order of their rows. Raises `ArgumentError` for a row in two parts."""
        order = _rows.in_order([part.row for part in parts], "evaluation")
        columns: dict[str, Tensor] = {}
        for name in dict.fromkeys(name for part in parts for name in part.columns):
            like = next(part.columns[name] for part in parts if name in part.columns)
            blocks = [
                part.columns.get(name, like.new_full((len(part.row), *like.shape[1:]), torch.nan))
                for part in parts
            ]
            columns[name] = torch.cat(blocks)[order]
        counts = _added(part.counts for part in parts)
        return Evidence(
            torch.cat([part.row for part in parts])[order],
            columns,
            counts,
            _united(part.facts for part in parts),
        )


def _added(each: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for counts in each:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _united(each: Iterable[dict[str, list[str]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for facts in each:
        for name, told in facts.items():
            found[name] = list(dict.fromkeys([*found.get(name, []), *told]))
    return found
