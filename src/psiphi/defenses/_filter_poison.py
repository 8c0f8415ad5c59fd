"""Which training rows to leave out before training: scores of how little a row fits its label, and where to cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.provenance import provenance
from psiphi.basis.shapes import as_float, check_finite, show
from psiphi.defenses import filters
from psiphi.defenses.filters import Method, Seen

METHODS: Mapping[str, Method] = {
    "spectral": filters.spectral(),
    "clustering": filters.clustering(),
    "reconstruction": filters.reconstruction(),
    "neighbours": filters.neighbours(),
}


@dataclass(frozen=True, repr=False)
class Filtered:
    """What a filter kept of n training rows.

    keep   which rows are kept, (n,) bool
    score  how little each row fits its label, (n,): higher where less
    truth  which rows are poisons, (n,) bool; None where nobody knows
    """

    keep: Tensor
    score: Tensor
    truth: Tensor | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def removed(self) -> int:
        return int((~self.keep).sum())

    @property
    def precision(self) -> float:
        """Of the rows removed, the share of poisons; NaN where none was removed."""
        return self._hits() / self.removed if self.removed else nan

    @property
    def recall(self) -> float:
        """Of the poisons, the share removed; NaN where there are none."""
        hits = self._hits()
        poisons = int(self._known().sum())
        return hits / poisons if poisons else nan

    def _hits(self) -> int:
        return int((~self.keep & self._known()).sum())

    def _known(self) -> Tensor:
        if self.truth is None:
            raise ArgumentError(
                "precision and recall need the truth: filter_poison(…, truth=poisoned.is_poison)."
            )
        return self.truth

    def __repr__(self) -> str:
        told = "" if self.truth is None else f", precision {self.precision:.1%}, recall {self.recall:.1%}"
        return f"Filtered({self.provenance.get('method')}: {self.removed} of {len(self.keep)} rows removed{told})"


def filter_poison(
    x: Any,
    y: Any,
    method: str | Method = "spectral",
    *,
    model: nn.Module | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    fraction: float = 0.01,
    truth: Tensor | None = None,
    seed: int = 0,
) -> Filtered:
    """Rows of a training set that may be poisons, by how little they fit their label.

    method    `spectral`, `clustering`, `reconstruction`, `neighbours`, a value of `pp.defenses.filters`, or a function
              seen -> (score (n,), removed (n,) bool)
    model     a classifier trained on these very rows, whose penultimate layer gives the features; by default one is
              trained here. features: a function x -> (n, d) in its place. Reconstruction needs neither
    fraction  of all rows, how many poisons are expected: where the method cuts by a count
    truth     which rows are poisons, (n,) bool, for precision and recall

    Filters fail where poisons look like their label, and remove clean rows too: judge by retraining,
    `pp.poisoning.trials(…, filter=filter_poison)`. Errors: `ArgumentError`, `DataError`.
    """
    x, y = _rows(x, y)
    if isinstance(method, str) and method not in METHODS:
        raise ArgumentError(f"no filter is called {method!r}; use {', '.join(METHODS)}, or a function.")
    if not 0 <= fraction < 1:
        raise ArgumentError(f"fraction is the share of poisons expected, 0 up to 1; got {fraction!r}.")
    rule = METHODS[method] if isinstance(method, str) else method
    score, removed = rule(Seen(x, y, fraction, seed, model, features))
    if removed.shape != y.shape or score.shape != y.shape:
        raise DataError(
            f"a filter gives a score and a bool for each of {len(y)} rows; got {show(score.shape)} and "
            f"{show(removed.shape)}."
        )
    truth = None if truth is None else torch.as_tensor(truth).cpu()
    if truth is not None and (truth.shape != y.shape or truth.dtype != torch.bool):
        raise DataError(f"truth is a bool for each of {len(y)} rows; got {truth.dtype} {show(truth.shape)}.")
    told = provenance(method=repr(rule), fraction=fraction, seed=seed, rows=len(y))
    return Filtered(~removed.cpu(), score.cpu(), truth, told)


def _rows(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    try:
        x, y = (each if isinstance(each, Tensor) else torch.as_tensor(each) for each in (x, y))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"x and y are rows and their labels; they are no arrays ({error}).") from None
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or len(x) < 2 or y.is_floating_point():
        raise DataError(
            f"x has shape {show(x.shape)} and y {show(y.shape)} of {y.dtype}; two rows (n, …) at least and whole "
            f"labels (n,) are needed."
        )
    x = as_float(x)
    check_finite(x)
    return x, y
