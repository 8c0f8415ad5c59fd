"""A plan: a sampler as a table of rows, which one loop runs.

    x <- base·b + Σ_k d[k]·D_k + up·ξ

D_0 = D(x, σ), D_1, D_2, … the evaluations before it; b is x at the last row that committed; ξ ~ N(0, I), new in each
row. Rows that keep a constant (base + Σ d = 1) leave x alone where D(x, σ) = x, as every step of a sampler must.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import inf
from typing import Any

from psiphi.basis.errors import ArgumentError, FileError

SLACK = 1e-12


@dataclass(frozen=True)
class Row:
    """x <- base·b + Σ_k d[k]·D_k + up·ξ at noise level σ; d = (): no evaluation; commit False: a trial stage."""

    sigma: float
    base: float
    d: tuple[float, ...] = ()
    up: float = 0.0
    commit: bool = True

    def __post_init__(self) -> None:
        off = abs(self.base + sum(self.d) - 1)
        if not off <= SLACK * (1 + sum(abs(each) for each in self.d)):
            raise ArgumentError(
                f"the weights of a row add up to 1; {self.base:g} + {sum(self.d):g} is off by {off:.2g} at σ = "
                f"{self.sigma:g}."
            )
        if not (0 < self.sigma < inf and 0 <= self.up < inf):
            raise ArgumentError(f"a row needs a finite σ > 0 and up ≥ 0; got {self.sigma:g} and {self.up:g}.")


@dataclass(frozen=True)
class Plan:
    """Rows to run one after another; `name` says which sampler they are.

    drawn: the denoiser is asked for draws from p(x₀|x) instead of their mean.
    """

    name: str
    rows: tuple[Row, ...]
    drawn: bool = False

    def __post_init__(self) -> None:
        if not self.rows:
            raise ArgumentError("a plan needs at least one row.")
        asked = 0
        for i, row in enumerate(self.rows):
            asked += bool(row.d)
            if len(row.d) > asked:
                raise ArgumentError(
                    f"row {i} of {self.name} uses {len(row.d)} evaluations; there were {asked}."
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def evaluations(self) -> int:
        """How often the denoiser is asked."""
        return sum(bool(row.d) for row in self.rows)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise level of each row."""
        return tuple(row.sigma for row in self.rows)

    @property
    def sigma_max(self) -> float:
        """The noise that the start has."""
        return self.rows[0].sigma

    @property
    def memory(self) -> int:
        """How many evaluations a row looks back at, itself included."""
        return max(len(row.d) for row in self.rows)

    def scaled(self, factor: float) -> Plan:
        """The same plan in other units: every σ and every noise times `factor`."""
        rows = tuple(replace(row, sigma=row.sigma * factor, up=row.up * factor) for row in self.rows)
        return replace(self, rows=rows)

    def __add__(self, other: Plan) -> Plan:
        """One after the other."""
        if self.drawn != other.drawn:
            raise ArgumentError("a plan that asks for draws cannot be joined to one that asks for means.")
        return Plan(f"{self.name} + {other.name}", self.rows + other.rows, self.drawn)

    def as_dict(self) -> dict[str, Any]:
        rows = [[row.sigma, row.base, list(row.d), row.up, row.commit] for row in self.rows]
        return {"plan": self.name, "drawn": self.drawn, "rows": rows}

    def to_json(self) -> str:
        """Text that `from_json` reads back to the same plan, bit for bit."""
        return json.dumps(self.as_dict())

    @staticmethod
    def from_json(text: str) -> Plan:
        """Raises `FileError` for text that is no plan, `ArgumentError` for rows that no plan can have."""
        try:
            record = json.loads(text)
            rows = tuple(
                Row(float(sigma), float(base), tuple(float(each) for each in d), float(up), bool(commit))
                for sigma, base, d, up, commit in record["rows"]
            )
            return Plan(str(record["plan"]), rows, bool(record["drawn"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise FileError(f"this is no plan ({error}): write one with plan.to_json().") from None

    def __repr__(self) -> str:
        return (
            f"{self.name}: {len(self)} rows, {self.evaluations} evaluations, σ from {self.sigma_max:.4g} to "
            f"{self.rows[-1].sigma:.4g}"
        )

    def table(self) -> str:
        """The rows in words, equal ones counted once."""
        lines = []
        for line, same in groupby(_words(row) for row in self.rows):
            count = len(list(same))
            lines.append(f"{count:>4} × {line}" if count > 1 else f"       {line}")
        return "\n".join([repr(self), *lines])


def _words(row: Row) -> str:
    terms = [f"{row.base:.6g} b"] if row.base else []
    terms += [f"{each:.6g} D{k}" for k, each in enumerate(row.d) if each]
    terms += [f"{row.up:.6g} ξ"] if row.up else []
    return f"σ = {row.sigma:<10.4g} x <- {' + '.join(terms)}{'' if row.commit else '   (trial)'}"


def join(name: str, rows: Sequence[Row], drawn: bool = False) -> Plan:
    return Plan(name, tuple(rows), drawn)
