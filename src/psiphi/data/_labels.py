"""Labels of which only some are told."""

from __future__ import annotations

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise


def known(y: Tensor, labels: int, seed: int = 0) -> Tensor:
    """The numbers of `labels` rows whose label is told, (labels,): drawn at random, as many of every class."""
    order = Noise.of(seed, len(y)).uniform().argsort()
    classes = int(y.max()) + 1
    return torch.cat([order[y[order] == k][: labels // classes] for k in range(classes)])


def some_labels(y: Tensor, labels: int, seed: int = 0) -> Tensor:
    """y with `labels` of its labels, as many of every class, and −1, unknown, for the others: (n,)."""
    classes = int(y.max()) + 1
    if labels < 0 or labels % classes:
        raise ArgumentError(
            f"{labels} labels are not as many of each of the {classes} classes: give a multiple of {classes}, or 0."
        )
    told = known(y, labels, seed)
    return torch.full_like(y, -1).index_put((told,), y[told])
