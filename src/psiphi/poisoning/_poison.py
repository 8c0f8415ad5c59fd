"""What a poison is: who is tainted × how the image changes × which label it gets × to what end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks.threats import L1, L2, Linf
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.basis.provenance import provenance
from psiphi.basis.shapes import as_float, check_finite, show
from psiphi.data import fingerprint
from psiphi.formulas.geometry import Box
from psiphi.poisoning._aims import Aim
from psiphi.poisoning._poisoned import Poisoned, most

Ball = Linf | L2 | L1


@dataclass(frozen=True)
class Setting:
    """What a poison works with: all rows x (n, *x) and labels y (n,), the number of classes, the box, noise a row."""

    x: Tensor
    y: Tensor
    classes: int
    box: Box
    noise: Noise


Pick = Callable[[Setting, int], Tensor]
Change = Callable[[Setting, Tensor], Tensor]
Relabel = Callable[[Setting, Tensor], Tensor]


@dataclass(frozen=True, repr=False)
class Poison:
    """A way to taint a training set: a value, made by `label_flip`, `backdoor` and the others, or of your own parts.

    fraction  of the training rows that may be tainted, at most ⌊fraction · n⌋
    pick      (setting, budget) -> rows (m,), at most the budget
    change    (setting, rows) -> images (m, *x) in their place; None: they stay as they are
    label     (setting, rows) -> labels (m,); None: labels are kept
    aim       what a model that learns of it is to do: (model, x, y) -> the share of test rows on which it does
    threat    every poison stays within this ball of the row that it replaces; `L2()` is no limit but the box
    said      the repr

    `poison(x, y, seed=0)` gives a `Poisoned`, whose constraints were checked.
    """

    fraction: float
    pick: Pick
    change: Change | None
    label: Relabel | None
    aim: Aim
    threat: Ball = L2()  # noqa: RUF009
    said: str = "poison"

    def __post_init__(self) -> None:
        if not isinstance(self.fraction, float | int) or not 0 <= self.fraction <= 1:
            raise ArgumentError(f"fraction is a share of the rows, 0 to 1; got {self.fraction!r}.")
        if not isinstance(self.threat, Linf | L2 | L1) or isinstance(self.threat.eps, Tensor):
            raise ArgumentError(
                f"a poison's distance to its base is bounded by Linf, L2 or L1 with one radius; got {self.threat!r}."
            )

    def __call__(
        self, x: Any, y: Any, *, seed: int = 0, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> Poisoned:
        """The training set with its poisons; x, y: rows and labels, −1 = unknown, which no poison is made of.

        Without a budget, the very tensors that were given. Row i of the noise depends on (seed, i) alone.
        Errors: `ArgumentError`, `DataError`.
        """
        given, labels = _rows(x, y)
        budget = most(self.fraction, len(labels))
        box = Box(*(float(wall) for wall in bounds))
        told = self._told(given, labels, seed)
        rows = torch.zeros(0, dtype=torch.long)
        rest: dict[str, Any] = {
            "fraction": float(self.fraction), "norm": self.threat.norm, "eps": float(self.threat.eps),
            "box": (float(box.lo), float(box.hi)), "labels_kept": self.label is None, "provenance": told,
        }  # fmt: skip
        if not budget:
            base = as_float(given[:0])
            return Poisoned(given, labels, rows, base, labels[:0], base.new_zeros(0), **rest).check()
        x = _inside(as_float(given), box)
        setting = Setting(x, labels, int(labels.max()) + 1, box, Noise.of(seed, len(x), x.device, x.dtype))
        rows = self.pick(setting, budget).sort().values.to(labels.device)
        base, base_y = x[rows], labels[rows]
        made = base if self.change is None else self.change(setting, rows).detach()
        if made.shape != base.shape:
            raise DataError(
                f"the change gives rows of shape {show(made.shape)}; {show(base.shape)} is needed."
            )
        label = base_y if self.label is None else self.label(setting, rows)
        tainted, y = x.index_put((rows,), made.to(x)), labels.index_put((rows,), label.to(labels))
        far = self.threat.distance(tainted[rows], base)
        return Poisoned(tainted, y, rows, base, base_y, far, **rest).check()

    def _told(self, x: Tensor, y: Tensor, seed: int) -> dict[str, Any]:
        return provenance(poison=repr(self), seed=seed, rows=len(y), data_sha256=fingerprint(x, y))

    def __repr__(self) -> str:
        return self.said


def said(name: str, **arguments: Any) -> str:
    """`name(a=1, b=2)`, of arguments that are not None."""
    words = (f"{key}={_word(value)}" for key, value in arguments.items() if value is not None)
    return f"{name}({', '.join(words)})"


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return type(value).__name__ if isinstance(value, torch.nn.Module) else repr(value)


def ball(eps: float | None, kind: type[Ball] = Linf) -> Ball:
    """The ball of this radius, or no limit but the box."""
    return L2() if eps is None or eps == inf else kind(eps)


def _rows(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    if hasattr(x, "x") and y is None:
        x, y = x.x, x.y
    try:
        x, y = (each if isinstance(each, Tensor) else torch.as_tensor(each) for each in (x, y))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"x and y are rows and their labels; they are no arrays ({error}).") from None
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or y.is_floating_point():
        raise DataError(
            f"x has shape {show(x.shape)} and y {show(y.shape)} of {y.dtype}; rows (n, …) and whole labels (n,) are "
            f"needed."
        )
    if not len(x) or int(y.max()) < 1:
        raise DataError("a poison needs rows of two classes at least: give x and y of a training set.")
    return x, y


def _inside(x: Tensor, box: Box) -> Tensor:
    check_finite(x)
    if (x < box.lo).any() or (x > box.hi).any():
        least, largest = float(x.min()), float(x.max())
        raise DataError(
            f"x lies in [{least:g}, {largest:g}], outside the bounds [{box.lo:g}, {box.hi:g}]: scale x, or say "
            f"bounds=({least:g}, {largest:g})."
        )
    return x
