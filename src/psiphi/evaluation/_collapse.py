"""A watcher of codes that stop meaning anything while a model trains."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from psiphi.evaluation._rows import codes_of, rows_of
from psiphi.evaluation._units import units
from psiphi.training import Moment

COLUMN = "active_units"
WATCHED_ROWS = 2000


class CollapseWarning(UserWarning):
    """Units of a code do not vary with the data."""


@dataclass(frozen=True)
class watch_collapse:
    """A callback for `fit` that counts active units after each row of the history, and says when too few are left.

    x: rows to encode, best held out (the first 2000 are used); patience: rows in a row with fewer than `least`
    active units (all of them unless given) before it speaks; stop: end training with that sentence, instead of
    a `CollapseWarning`. The count is the history's column `active_units`, and all that it remembers, so that a
    resumed run stops where the whole one does. Active: Var_x E[z_j|x] > 0.01, see `evaluation.latents`.
    """

    x: Any
    patience: int = 5
    least: int | None = None
    stop: bool = False

    def __call__(self, moment: Moment) -> str | None:
        model: Any = moment.model
        found = units(model, codes_of(model, rows_of(self.x, model.shape, WATCHED_ROWS).x))
        moment.history.rows[-1][COLUMN] = found.n_active
        least = len(found.active) if self.least is None else self.least
        waited = 0
        for value in reversed(moment.history[COLUMN]):
            if not value < least:
                break
            waited += 1
        if waited < self.patience:
            return None
        said = (
            f"{found.n_active} of {len(found.active)} units active for {waited} rows (dead: "
            f"{', '.join(str(j) for j in found.dead)})"
        )
        if self.stop:
            return said
        if waited == self.patience:
            warnings.warn(
                f"{said}: lower the weight of the KL, warm it up, or give free bits.",
                CollapseWarning,
                stacklevel=2,
            )
        return None
