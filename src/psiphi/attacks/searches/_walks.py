"""What walks of a fixed number of steps share: a walk of n steps has n + 1 points, and each row takes several."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from psiphi.attacks._protocols import take


def each(v: Tensor) -> tuple[Tensor, Tensor]:
    """One point a row."""
    return v, torch.arange(len(v), device=v.device)


def over(told: Tensor, steps: int, restarts: int) -> Tensor:
    """Rows whose last point is all that is left, (b,): it wants a verdict, and no gradient."""
    return told >= restarts * (steps + 1) - 1


def ended(told: Tensor, steps: int, restarts: int) -> Tensor:
    """The numbers of the rows that have told every point of a walk and have another one to go."""
    if restarts == 1:
        return told[:0]
    return ((told % (steps + 1) == 0) & ~over(told, steps, restarts)).nonzero().squeeze(1)


def drawn(s: Any, rows: Tensor, walk: Tensor) -> Tensor:
    """Random starts of walk number `walk` (r,) of the rows (r,)."""
    fresh = s.x[rows].clone()
    for number in walk.unique().tolist():
        mine = walk == number
        part = take(s, rows[mine])
        fresh[mine] = part.threat.start(part.x, part.box, part.noise.at(number))
    return fresh
