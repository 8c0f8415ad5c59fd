"""A training set of which some rows are poisons, with what they were made from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks import _files, threats
from psiphi.basis.errors import DataError, FileError
from psiphi.basis.shapes import as_float
from psiphi.formulas.geometry import Box

_FORMAT = "psiphi poisoned data 1"
_REST = ("fraction", "norm", "eps", "box", "labels_kept", "provenance")
# A difference of two numbers within the box is off by at most one rounding of the larger.
ROUNDING = 4 * torch.finfo(torch.float32).eps


@dataclass(frozen=True, repr=False)
class Poisoned:
    """The whole training set, its poisons in the places of the rows that they were made from.

    x, y           all rows, (n, *x) and (n,); without a poison, the very tensors that were given
    rows           places of the poisons, rising, (m,); m ≤ ⌊fraction · n⌋
    base_x, base_y what stood there before
    distance       of each poison from its base, in `norm`, (m,); at most eps
    box            the walls that every poison is within
    labels_kept    whether every poison has its base's label (a clean-label poison)
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    base_x: Tensor
    base_y: Tensor
    distance: Tensor
    fraction: float
    norm: str = "L2"
    eps: float = inf
    box: tuple[float, float] = (0.0, 1.0)
    labels_kept: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many poisons there are."""
        return len(self.rows)

    @property
    def budget(self) -> int:
        return most(self.fraction, len(self.x))

    @property
    def is_poison(self) -> Tensor:
        """Which rows are poisons, (n,)."""
        return torch.zeros(len(self.x), dtype=torch.bool).index_fill_(0, self.rows.cpu(), True)

    def check(self, x: Tensor | None = None, y: Tensor | None = None) -> Poisoned:
        """This record, if every constraint holds; given the clean set, that nothing else was touched either.

        Raises `DataError`, which names the constraint, how many rows break it and by how much.
        """
        rows, v, label = self.rows, self.x[self.rows], self.y[self.rows]
        if len(rows) > self.budget or (rows.diff() <= 0).any():
            raise DataError(
                f"there are {len(rows)} poisons in places {_some(rows)}; at most {self.budget}, which is "
                f"{self.fraction:g} of {len(self.x)} rows, each in a place of its own, are allowed: choose fewer rows."
            )
        if not len(rows):
            return self._untouched(x, y)
        lo, hi = self.box
        if (outside := (v < lo) | (v > hi)).any():
            raise DataError(
                f"{int(outside.flatten(1).any(1).sum())} poisons leave the box [{lo:g}, {hi:g}] and reach "
                f"[{float(v.min()):g}, {float(v.max()):g}]: bring the trigger or the change into it, or say bounds=."
            )
        far = getattr(threats, self.norm)(self.eps).distance(v, self.base_x)
        slack = ROUNDING * max(abs(lo), abs(hi), 1.0) * v[0].numel()
        if (far > self.eps + slack).any():
            raise DataError(
                f"a poison is {float(far.max()):g} from its base in {self.norm}; at most {self.eps:g} is allowed."
            )
        if self.labels_kept and not torch.equal(label, self.base_y):
            changed = int((label != self.base_y).sum())
            raise DataError(
                f"{changed} poisons have another label than their base, and all labels are to be kept."
            )
        return self._untouched(x, y)

    def _untouched(self, x: Tensor | None, y: Tensor | None) -> Poisoned:
        rest = ~self.is_poison
        for mine, base, clean in ((self.x, self.base_x, x), (self.y, self.base_y, y)):
            if clean is None:
                continue
            clean = as_float(clean) if mine.is_floating_point() else clean
            if not torch.equal(mine[rest], clean[rest]) or not torch.equal(base, clean[self.rows].to(base)):
                raise DataError("rows that are no poisons differ from the clean set, or the bases do.")
        return self

    def __repr__(self) -> str:
        limit = "" if self.eps == inf else f" within {self.norm}({self.eps:g})"
        kept = (
            "labels kept"
            if self.labels_kept
            else f"{int((self.y[self.rows] != self.base_y).sum())} relabelled"
        )
        return f"Poisoned({len(self.rows)} of {len(self.x)} rows{limit}, {kept}; {self.provenance.get('poison', '')})"

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, whose x and y `pp.data.load` reads as data, then `path`.json, which names its SHA-256."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        record = {name: values[name] for name in _REST}
        _files.save(
            path, tensors, {"format": _FORMAT, **record, "eps": None if self.eps == inf else self.eps}
        )

    @staticmethod
    def load(path: str | Path) -> Poisoned:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        names = [f.name for f in fields(Poisoned) if f.name not in _REST]
        tensors, record = _files.load(path, "poisoned data", _FORMAT, names)
        try:
            rest = {name: record[name] for name in _REST}
        except KeyError as error:
            raise FileError(f"{path} is no poisoned data: it lacks {error}.") from None
        found = Poisoned(**tensors, **{**rest, "box": tuple(rest["box"])})
        return replace(found, eps=inf) if found.eps is None else found


def most(fraction: float, n: int) -> int:
    """⌊fraction · n⌋, with a hair for fractions that binary numbers cannot hold."""
    return int(fraction * n + 1e-9 * n)


def walls(box: Box) -> tuple[float, float]:
    return float(box.lo), float(box.hi)


def _some(rows: Tensor) -> str:
    return ", ".join(str(i) for i in rows[:5].tolist()) + (", …" if len(rows) > 5 else "")
