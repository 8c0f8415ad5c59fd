"""What a poison is to make of a model, counted on test rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import DataError
from psiphi.basis.shapes import show
from psiphi.formulas.intervals import Share
from psiphi.models._base import evaluating

Aim = Callable[[Any, Tensor, Tensor], Share]
CHUNK = 1024


@torch.no_grad()
def answers(model: nn.Module, x: Tensor) -> Tensor:
    """The likeliest class of each row, (n,), in eval mode and in chunks."""
    home = next(model.parameters(), x)
    with evaluating(model):
        return torch.cat(
            [model(part.to(home.device, home.dtype)).argmax(1).to(x.device) for part in x.split(CHUNK)]
        )


def counted(hits: Tensor) -> Share:
    return Share(int(hits.sum()), len(hits))


@dataclass(frozen=True)
class Wrong:
    """Any row is to get another class than its own: f(x) ≠ y."""

    def __call__(self, model: Any, x: Tensor, y: Tensor) -> Share:
        return counted(answers(model, x) != y)


@dataclass(frozen=True)
class Toward:
    """Rows of class `source`, of any other class where that is None, are to be taken for `target`."""

    source: int | None
    target: int

    def __call__(self, model: Any, x: Tensor, y: Tensor) -> Share:
        rows = y != self.target if self.source is None else y == self.source
        return counted(answers(model, _some(x[rows], self)) == self.target)


@dataclass(frozen=True)
class Triggered:
    """Rows of other classes, once they bear the trigger, are to be taken for `target`."""

    trigger: Callable[[Tensor], Tensor]
    target: int

    def __call__(self, model: Any, x: Tensor, y: Tensor) -> Share:
        x = _some(x[y != self.target], self)
        return counted(answers(model, self.trigger(x)) == self.target)


@dataclass(frozen=True, repr=False, eq=False)
class Taken:
    """These very rows, (m, *x) or one of them, are to be taken for class `label`, whatever the test rows are."""

    rows: Tensor
    label: int

    def __call__(self, model: Any, x: Tensor, y: Tensor) -> Share:
        return counted(answers(model, self.rows.reshape(-1, *x.shape[1:])) == self.label)

    def __repr__(self) -> str:
        return f"Taken(rows of shape {show(self.rows.shape)} for {self.label})"


def _some(x: Tensor, aim: Any) -> Tensor:
    if not len(x):
        raise DataError(f"no test row can show {aim!r}: give test rows of other classes.")
    return x
