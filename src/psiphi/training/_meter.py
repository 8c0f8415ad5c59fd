"""Means of the losses over an interval, with one synchronisation."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.training._turn import Losses
from psiphi.training._world import World


class Meter:
    """Losses kept on the device until a row is due: one synchronisation an interval."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.rows: dict[str, list[int]] = {}

    def add(self, losses: Losses, rows: int) -> None:
        for name, value in losses.items():
            self.values.setdefault(name, []).append(value)
            self.rows.setdefault(name, []).append(rows)

    def means(self, world: World) -> tuple[dict[str, float], list[str]]:
        """Means over rows of all processes, and the names that were first not finite."""
        if not self.values:
            raise DataError("there was no batch to measure.")
        sums = []
        table = {name: torch.stack(values) for name, values in self.values.items()}
        for name, values in table.items():
            weight = torch.tensor(self.rows[name], dtype=values.dtype, device=values.device)
            sums += [(values * weight).sum(), weight.sum()]
        totals = world.sum(torch.stack(sums).double()).tolist()
        means = {name: totals[2 * i] / totals[2 * i + 1] for i, name in enumerate(table)}
        bad = {
            name: (~values.isfinite()).nonzero()
            for name, values in table.items()
            if not isfinite(means[name])
        }
        steps = {name: int(where[0]) if len(where) else 0 for name, where in bad.items()}
        first = [name for name, step in steps.items() if step == min(steps.values()) and name != "loss"]
        self.values, self.rows = {}, {}
        return means, first or list(bad)
