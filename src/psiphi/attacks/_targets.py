"""Classes to reach: given, or chosen from what the classifier says of the clean rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise


@dataclass(frozen=True)
class Rivals:
    """The `count` likeliest classes but the label: the likeliest alone, then the others side by side, or one by one
    where a budget counts. A row ends at any misclassification."""

    count: int = 9

    def __post_init__(self) -> None:
        check_whole("count", self.count)


Targets = str | Callable[[Tensor, Tensor], Tensor] | Rivals | None
NAMES = ("least-likely", "random", "all")


def check_targets(targets: Any) -> None:
    if targets is None or callable(targets) or isinstance(targets, Rivals):
        return
    if isinstance(targets, str) and targets in NAMES:
        return
    raise ArgumentError(
        f"targets are {', '.join(map(repr, NAMES))}, Rivals(count), a function (logits, y) -> classes, or None for any "
        f"class but y; got {targets!r}. Labels to reach go with the call: attack(classifier, x, y, target=labels)."
    )


def as_target(target: Any) -> Any:
    """Labels of any kind as a tensor; a name or a function as it is."""
    if target is None or isinstance(target, (str, Rivals)) or callable(target):
        return target
    return torch.as_tensor(target)


def resolve(chosen: Any, said: Tensor, y: Tensor, noise: Noise, classes: int | None) -> Tensor | None:
    """The class (n,) that each row is to reach; None for any but `y`.

    said: of the clean rows, logits (m, n, K), or labels (m, n), which serve given classes only.
    """
    if chosen is None:
        return None
    if said.ndim == 2:
        return _given(chosen, y, classes)
    logits = said.mean(0)
    if isinstance(chosen, str):
        if chosen not in NAMES:
            raise ArgumentError(f"targets are labels, or {', '.join(map(repr, NAMES))}; got {chosen!r}.")
        if chosen == "random":
            return _but(y, noise.split("target").integers(logits.shape[1] - 1))
        return logits.scatter(1, y.unsqueeze(1), torch.inf).argmin(1)
    return _given(chosen(logits, y) if callable(chosen) else chosen, y, classes)


def check_other(target: Tensor | None, y: Tensor) -> None:
    if target is not None and (same := y == target).any():
        raise ArgumentError(
            f"target is the label itself in {int(same.sum())} of {len(y)} rows: a targeted attack needs "
            "another class there."
        )


def _given(chosen: Any, y: Tensor, classes: int | None) -> Tensor:
    if isinstance(chosen, str) or callable(chosen):
        raise ArgumentError(
            "targets are chosen by their scores, which this access does not show: give target=labels."
        )
    target = checks.as_labels(chosen, len(y), "target").to(y.device)
    checks.check_classes(target, classes, "target")
    return target


def others(logits: Tensor, y: Tensor) -> Tensor:
    """The classes other than `y`, the likeliest first, (n, K − 1)."""
    return logits.scatter(1, y.unsqueeze(1), -torch.inf).argsort(stable=True, dim=1, descending=True)[:, :-1]


def _but(y: Tensor, other: Tensor) -> Tensor:
    """Numbers 0..K−2 as classes 0..K−1 without `y`."""
    return other + (other >= y).long()
