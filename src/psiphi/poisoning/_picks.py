"""Which rows become poisons."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.poisoning._poison import Setting


def drawn(
    of: Callable[[Tensor], Tensor], what: str = "with a known label"
) -> Callable[[Setting, int], Tensor]:
    """Rows at random among those whose label `of` allows, (n,) -> (n,) bool; all of them where they are fewer."""

    def pick(setting: Setting, budget: int) -> Tensor:
        able = ((setting.y >= 0) & of(setting.y)).nonzero().squeeze(1)
        if not len(able):
            raise DataError(
                f"no row is {what}, and poisons are made of such: choose another class, or other data."
            )
        order = setting.noise.split("rows").uniform()[able].argsort()
        return able[order[:budget]]

    return pick


def nearest(score: Callable[[Tensor], Tensor], label: int) -> Callable[[Setting, int], Tensor]:
    """The rows of a class with the lowest score, (n, *x) -> (n,)."""

    def pick(setting: Setting, budget: int) -> Tensor:
        able = (setting.y == label).nonzero().squeeze(1)
        if not len(able):
            raise DataError(
                f"no row is of class {label}, and poisons are made of such: choose another class."
            )
        with torch.no_grad():
            return able[score(setting.x[able]).argsort(stable=True)[:budget]]

    return pick
