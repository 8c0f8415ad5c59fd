"""Robust accuracy against the radius, each sample by bisection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.attacks import _rows
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.intervals import wilson

if TYPE_CHECKING:
    from psiphi.access import Access
    from psiphi.attacks._attack import Attack


@dataclass(frozen=True, repr=False)
class Curve:
    """Which samples stand an attack at which radius.

    eps                   the radii, rising, (m,)
    robust                whether each sample is classified rightly and stands at each radius, (n, m)
    clean                 whether it is classified rightly before, (n,)
    forwards, backwards   rows sent through the model, and back, for each sample, (n,)
    """

    eps: Tensor
    robust: Tensor
    clean: Tensor
    forwards: Tensor
    backwards: Tensor
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> Tensor:
        """Robust accuracy at each radius, (m,); NaN without rows."""
        return self.robust.double().mean(0)

    @property
    def clean_accuracy(self) -> float:
        return self.clean.double().mean().item()

    @property
    def intervals(self) -> Tensor:
        """Of the accuracies, 95 % by Wilson, (m, 2)."""
        return torch.tensor([wilson(count, len(self.robust)) for count in self.robust.sum(0).tolist()])

    @property
    def broken_at(self) -> Tensor:
        """The least radius at which each sample is broken, (n,): 0 if misclassified before, infinite if at none."""
        first = (
            torch.where(self.robust, torch.inf, self.eps).amin(1) if len(self.eps) else self.clean.double()
        )
        return torch.where(self.clean, first, 0)

    def __repr__(self) -> str:
        pairs = ", ".join(f"{e:g}: {a:.1%}" for e, a in zip(self.eps.tolist(), self.accuracy.tolist()))
        return f"Curve({len(self.robust)} rows, clean {self.clean_accuracy:.1%}, {pairs})"


def curve(
    attack: Attack,
    access: Access,
    x: Any,
    y: Any,
    eps: Sequence[float],
    independent: bool,
    how: dict[str, Any],
) -> Curve:
    """See `Attack.curve`."""
    radii = _radii(eps)
    x, y = _rows.gathered(x, y)
    n, m = len(x), len(radii)
    threat: Any = attack.threat

    def at(rows: Tensor, places: Tensor) -> Any:
        """The attack on some rows, each at a radius of its own."""
        sized = replace(attack, threat=replace(threat, eps=radii[places]))
        return sized(access, x[rows], None if y is None else y[rows], rows=rows, **how)

    every, numbers = torch.arange(n), torch.arange(m)
    forwards, backwards, clean = torch.zeros(n).long(), torch.zeros(n).long(), torch.ones(n).bool()
    robust = torch.ones(n, m).bool()

    def enter(rows: Tensor, result: Any) -> Tensor:
        forwards[rows] += result.forwards.cpu()
        backwards[rows] += result.backwards.cpu()
        clean[rows] &= ~result.already_wrong.cpu()
        return result.robust.cpu()

    if attack.kind == "minimum-norm":
        result = replace(attack, threat=replace(threat, eps=torch.inf))(access, x, y, **how)
        stands = enter(every, result)
        robust = (
            stands[:, None] | (result.distance.cpu().double()[:, None] > radii * (1 + 1e-6)) & clean[:, None]
        )
    elif independent:
        for place in numbers:
            robust[:, place] = enter(every, at(every, place.expand(n)))
    else:
        low, high = (
            torch.zeros(n).long(),
            torch.full((n,), m),
        )  # stands below `low`, and from `high` on no more
        while len(rows := (low < high).nonzero().squeeze(1)):
            middle = (low[rows] + high[rows]) // 2
            stands = enter(rows, at(rows, middle))
            low[rows], high[rows] = (
                torch.where(stands, middle + 1, low[rows]),
                torch.where(stands, high[rows], middle),
            )
            low[~clean] = high[~clean] = 0
        robust = numbers < low[:, None]
    return Curve(radii, robust & clean[:, None], clean, forwards, backwards, {"attack": repr(attack), **how})


def _radii(eps: Sequence[float]) -> Tensor:
    radii = torch.as_tensor(eps, dtype=torch.float64).flatten()
    if not len(radii) or not (radii.isfinite() & (radii >= 0)).all() or not (radii.diff() > 0).all():
        raise ArgumentError(f"a curve needs radii of at least 0 in rising order; got {eps!r}.")
    return radii
