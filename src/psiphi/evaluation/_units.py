"""What each number of a code does: how much it moves, how often, what the decoder makes of it, what excites it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.evaluation._rows import codes_of

ACTIVE = 0.01


@dataclass(frozen=True)
class Units:
    """Every field has an entry a unit.

    activity: Var_x E[z_j|x]; active: whether that exceeds `threshold`; usage: share of rows where the unit is not
    exactly 0 (what a sparse code spares); top_inputs: the rows that excite it most, (d, k), the first the most.
    """

    activity: Tensor
    active: Tensor
    usage: Tensor
    top_inputs: Tensor
    threshold: float

    @property
    def n_active(self) -> int:
        return int(self.active.sum())

    @property
    def dead(self) -> list[int]:
        """The units that do not vary with x."""
        return (~self.active).nonzero().squeeze(1).tolist()


def units(model: Any, z: Tensor, top: int = 8) -> Units:
    """Activity, usage and top-activating rows of codes z, (n, d).

    A unit is active where Var_x E[z_j|x] > 0.01 in units of the prior's variance of 1; without a posterior the
    scale of a code is arbitrary, and the threshold is 0.01 of the mean variance of its units.
    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, section 5.1.
    """
    activity = z.var(0, correction=0)
    threshold = ACTIVE if hasattr(model, "posterior") else ACTIVE * float(activity.mean())
    top_inputs = z.topk(min(top, len(z)), dim=0).indices.T
    return Units(activity, activity > threshold, (z != 0).double().mean(0), top_inputs, threshold)


@torch.no_grad()
def atoms(model: Any, x: Any) -> Tensor:
    """What the decoder makes of each unit, (d, *shape): (ψ(z̄ + s_j e_j) − ψ(z̄))/s_j.

    z̄ is the mean code of the rows x and s_j the unit's standard deviation over them (1 where it has none): the
    slope across an ordinary step. For an affine decoder these are the columns of its weight.
    """
    z = codes_of(model, x)
    return atoms_at(model, z.mean(0), z.std(0, correction=0))


@torch.no_grad()
def atoms_at(model: Any, centre: Tensor, step: Tensor) -> Tensor:
    step = torch.where(step > 0, step, 1.0)
    moved = torch.cat([centre[None], centre + torch.diag(step)]).to(model.dtype)
    decoded = model.decode(moved)
    return (decoded[1:] - decoded[:1]) / step.to(decoded).view(-1, *[1] * (decoded.ndim - 1))
