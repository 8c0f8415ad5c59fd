"""Callbacks: functions asked after each row of the history; one that returns a sentence stops training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.parts import Batch, Clock
from psiphi.training._history import History, Row


@dataclass(frozen=True)
class Moment:
    """Where training stands: the model with the weights it would be returned with, the clock, the history."""

    model: nn.Module
    clock: Clock
    row: Row
    history: History


Callback = Callable[[Moment], str | None]
Monitor = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class early_stopping:
    """Stop when `column` has not improved by more than `least` for `patience` rows.

    higher: whether more is better, as of a monitor. It reads the history alone, so that a resumed run stops where the
    whole one does.
    """

    patience: int = 10
    column: str = "validation_loss"
    least: float = 0.0
    higher: bool = False

    def __call__(self, moment: Moment) -> str | None:
        if self.column not in moment.history.last:
            raise ArgumentError(
                f"early stopping waits for {self.column}, which this training does not measure (it has "
                f"{', '.join(moment.history.last)}): name another column, or leave it out."
            )
        values = [-v if self.higher else v for v in moment.history[self.column]]
        best = 0
        for i, value in enumerate(values):
            if value < values[best] - self.least:
                best = i
        waited = len(values) - 1 - best
        return f"no better {self.column} for {waited} rows" if waited >= self.patience else None
