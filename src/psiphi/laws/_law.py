"""What a law is: a measurement on data whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One number a law predicts, beside what was measured."""

    what: str
    theory: float
    measured: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return abs(self.theory - self.measured) <= self.tolerance


def at_most(what: str, bound: float, measured: float, slack: float = 0.0) -> Measured:
    """`measured ≤ bound + slack` as a measurement: what lies under the bound counts as equal to it."""
    return Measured(what, bound, measured if measured > bound else bound, slack)


@dataclass(frozen=True)
class Law:
    """A numbered law of docs/laws.md; `run` measures it."""

    number: str
    title: str
    run: Callable[[], list[Measured]]
    slow: bool = False

    @property
    def name(self) -> str:
        return self.run.__name__


LAWS: list[Law] = []


def law(number: str, title: str, *, slow: bool = False) -> Callable[[Callable[[], list[Measured]]], Law]:
    """Register a function that measures; `slow` ones run in `psiphi verify --full` only."""

    def register(run: Callable[[], list[Measured]]) -> Law:
        LAWS.append(Law(number, title, run, slow))
        return LAWS[-1]

    return register
