"""Robust accuracy against the radius, each sample by bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.attacks import _files, _rows, _targets
from psiphi.attacks._board import within
from psiphi.attacks._result import Result
from psiphi.basis.errors import ArgumentError
from psiphi.basis.provenance import provenance
from psiphi.formulas.intervals import normal, wilson

if TYPE_CHECKING:
    from psiphi.access import Access
    from psiphi.attacks._attack import Attack

_FORMAT, _OPTIONAL = "psiphi attack curve 1", ["share", "clean_share"]
_DRAWS = (
    "a random classifier stands at a radius in a share of its draws: attack.curve(..., independent=True) of an attack "
    "with a radius, such as pgd, measures that share at each."
)


@dataclass(frozen=True, repr=False)
class Curve:
    """Which samples stand an attack at which radius.

    eps                   the radii, rising, (m,)
    robust                whether each sample is classified rightly and stands at each radius, (n, m)
    clean                 whether it is classified rightly before, (n,)
    forwards, backwards   rows sent through the model, and back, for each sample, (n,)
    row                   the number of each sample in the whole batch, (n,)
    share, clean_share    of fresh draws of a random classifier that err at each radius, (n, m), and before, (n,);
                          None of a deterministic one
    """

    eps: Tensor
    robust: Tensor
    clean: Tensor
    forwards: Tensor
    backwards: Tensor
    row: Tensor
    share: Tensor | None = None
    clean_share: Tensor | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> Tensor:
        """Robust accuracy at each radius, of a random classifier the mean share of right draws, (m,)."""
        return self._right.mean(0)

    @property
    def clean_accuracy(self) -> float:
        right = self.clean.double() if self.clean_share is None else 1 - self.clean_share
        return right.mean().item()

    @property
    def _right(self) -> Tensor:
        return self.robust.double() if self.share is None else 1 - self.share

    @property
    def intervals(self) -> Tensor:
        """Of the accuracies, 95 % by Wilson, of a random classifier's by the normal, (m, 2); NaN without rows."""
        if not len(self.robust):
            return torch.full((len(self.eps), 2), torch.nan)
        if self.share is not None:
            return torch.tensor([normal(right) for right in self._right.T])
        return torch.tensor([wilson(count, len(self.robust)) for count in self.robust.sum(0).tolist()])

    @property
    def broken_at(self) -> Tensor:
        """The least radius at which each sample is broken, (n,): 0 if misclassified before, infinite if at none."""
        first = (
            torch.where(self.robust, torch.inf, self.eps).amin(1) if len(self.eps) else self.clean.double()
        )
        return torch.where(self.clean, first, 0)

    @staticmethod
    def of(result: Result, eps: Sequence[float]) -> Curve:
        """Of a minimum-norm attack, which tells every radius at once: a sample stands at those below its distance.

        An attack that was bounded by a radius of its own tells those up to it. Raises `ArgumentError` for an attack
        of one radius.
        """
        radii = check_radii(eps)
        if result.share is not None:
            raise ArgumentError(_DRAWS)
        if result.kind != "minimum-norm":
            raise ArgumentError(
                f"a {result.kind} attack tells of one radius only; attack.curve tries several."
            )
        clean, stands = ~result.already_wrong.cpu(), result.robust.cpu()
        far = ~within(result.distance.cpu().double()[:, None], radii)
        spent = (result.forwards.cpu(), result.backwards.cpu(), result.row.cpu())
        robust = (stands[:, None] | far) & clean[:, None]
        return Curve(radii, robust, clean, *spent, provenance=result.provenance)

    @staticmethod
    def cat(parts: Sequence[Curve]) -> Curve:
        """Parts of one curve, in the order of their rows. Raises `ArgumentError` where they are not."""
        if not parts or any(not torch.equal(part.eps, parts[0].eps) for part in parts):
            raise ArgumentError("the parts of a curve need the same radii, and one part at least.")
        if len(parts) == 1:
            return parts[0]
        order = _rows.in_order([part.row for part in parts], "curve")
        names = ["robust", "clean", "forwards", "backwards", "row"]
        names += [] if parts[0].share is None else _OPTIONAL
        joined = {name: torch.cat([getattr(part, name) for part in parts])[order] for name in names}
        return replace(parts[0], **joined, provenance=parts[0].provenance | {"parts": len(parts)})

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, then `path`.json, which people can read too."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        told = {"eps": self.eps.tolist(), "accuracy": self.accuracy.tolist()}
        told |= {"intervals": self.intervals.tolist(), "clean_accuracy": self.clean_accuracy}
        _files.save(path, tensors, {"format": _FORMAT, **told, "provenance": self.provenance})

    @staticmethod
    def load(path: str | Path) -> Curve:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        names = [f.name for f in fields(Curve) if f.name not in ("provenance", *_OPTIONAL)]
        tensors, record = _files.load(path, "attack curve", _FORMAT, names, _OPTIONAL)
        return Curve(**tensors, provenance=record.get("provenance", {}))

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
    radii = check_radii(eps)
    x, y = _rows.gathered(x, y)
    n, m = len(x), len(radii)
    threat: Any = attack.threat
    how = dict(how)
    given, on_progress, target = (how.pop(name, None) for name in ("rows", "on_progress", "target"))
    row = torch.arange(n) if given is None else torch.as_tensor(given, dtype=torch.long).cpu()
    target = _targets.as_target(target)
    told = "given" if isinstance(target, Tensor) else None if target is None else str(target)
    where = provenance(
        attack=repr(attack), access=repr(access), target=told, independent=independent, rows=n, **how
    )
    if access.judging > 1 and (attack.kind == "minimum-norm" or not independent):
        raise ArgumentError(_DRAWS)
    if attack.kind == "minimum-norm":
        free = replace(attack, threat=replace(threat, eps=torch.inf))
        found = free(access, x, y, target=target, rows=row, on_progress=on_progress, **how)
        return replace(Curve.of(found, eps), provenance=where)
    rounds = m if independent else ceil(log2(m + 1))

    def at(rows: Tensor, places: Tensor, turn: int) -> Any:
        """The attack on some rows, each at a radius of its own."""
        sized = replace(attack, threat=replace(threat, eps=radii[places]))
        move = None if on_progress is None else _moved(on_progress, turn, rounds, n)
        labels = y if y is None or not y.ndim else y[rows]
        aim = target[rows] if isinstance(target, Tensor) and target.ndim else target
        return sized(access, x[rows], labels, target=aim, rows=row[rows], on_progress=move, **how)

    every, numbers = torch.arange(n), torch.arange(m)
    forwards, backwards, clean = torch.zeros(n).long(), torch.zeros(n).long(), torch.ones(n).bool()
    robust, results = torch.ones(n, m).bool(), []

    def enter(rows: Tensor, result: Any) -> Tensor:
        forwards[rows] += result.forwards.cpu()
        backwards[rows] += result.backwards.cpu()
        clean[rows] &= ~result.already_wrong.cpu()
        return result.robust.cpu()

    if independent:
        for place in range(m):
            results.append(at(every, numbers[place].expand(n), place))
            robust[:, place] = enter(every, results[-1])
    else:
        low, high = (
            torch.zeros(n).long(),
            torch.full((n,), m),
        )  # stands below `low`, and from `high` on no more
        turn = 0
        while len(rows := (low < high).nonzero().squeeze(1)):
            middle = (low[rows] + high[rows]) // 2
            stands = enter(rows, at(rows, middle, turn))
            low[rows] = torch.where(stands, middle + 1, low[rows])
            high[rows] = torch.where(stands, high[rows], middle)
            low[~clean] = high[~clean] = 0
            turn += 1
        robust = numbers < low[:, None]
    drawn = {}
    if access.judging > 1:
        drawn["share"] = torch.stack([result.share for result in results], 1).cpu()
        drawn["clean_share"] = torch.stack([result.clean_share for result in results]).mean(0).cpu()
    return Curve(radii, robust & clean[:, None], clean, forwards, backwards, row, **drawn, provenance=where)


def _moved(
    on_progress: Callable[[int, int], None], turn: int, rounds: int, n: int
) -> Callable[[int, int], None]:
    """Progress within one of the rounds as progress of all; rows that a round leaves out count as done in it."""
    return lambda done, of: on_progress(min((turn + 1) * n - of + done, rounds * n), rounds * n)


def check_radii(eps: Sequence[float]) -> Tensor:
    """Radii as a rising tensor (m,). Raises `ArgumentError`."""
    radii = torch.as_tensor(eps, dtype=torch.float64).flatten().cpu()
    if not len(radii) or not (radii.isfinite() & (radii >= 0)).all() or not (radii.diff() > 0).all():
        raise ArgumentError(f"a curve needs radii of at least 0 in rising order; got {eps!r}.")
    return radii
