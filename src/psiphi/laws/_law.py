"""What a law is: a measurement on data whose answer is known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from psiphi.basis.threads import one_thread


@dataclass(frozen=True)
class Measured:
    """One number a law predicts, beside what was measured; `bound`: the theory is an upper bound."""

    what: str
    theory: float
    measured: float
    tolerance: float
    bound: bool = False

    @property
    def holds(self) -> bool:
        off = self.measured - self.theory
        return off <= self.tolerance if self.bound else abs(off) <= self.tolerance

    @property
    def relation(self) -> str:
        return "≤" if self.bound else "="


def at_most(what: str, bound: float, measured: float, slack: float = 0.0) -> Measured:
    """`measured ≤ bound + slack`."""
    return Measured(what, bound, measured, slack, bound=True)


def equal(what: str, theory: Any, measured: Any, tolerance: float = 1e-10) -> Measured:
    """Two numbers or arrays of one shape: the largest gap between their entries is 0; like infinities have none."""
    a, b = (torch.as_tensor(each, dtype=torch.float64).detach() for each in (theory, measured))
    if a.shape != b.shape:
        return Measured(f"{what}: shape {tuple(b.shape)} for {tuple(a.shape)}", 0.0, torch.inf, tolerance)
    gap = torch.where(a == b, 0, (a - b).abs())
    return Measured(what, 0.0, float(gap.amax()) if gap.numel() else 0.0, tolerance)


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
    """Register a function that measures, on one thread; `slow` ones run in `psiphi verify --full` only."""

    def register(run: Callable[[], list[Measured]]) -> Law:
        @functools.wraps(run)
        def alone() -> list[Measured]:
            with one_thread():
                return run()

        LAWS.append(Law(number, title, alone, slow))
        return LAWS[-1]

    return register
