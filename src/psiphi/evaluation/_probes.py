"""How much of a label a code holds: probes fitted by scikit-learn, and information counted in tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.evaluation._share import Share
from psiphi.formulas.information import information_gap, miller_madow, mutual_information

CELL_ROWS, MOST_BINS = 5, 20


@dataclass(frozen=True)
class Information:
    """What each unit knows of each factor, in nats.

    nats: (d, factors); entropies: of the factors; gap: MIG, the mean over factors of (I₁ − I₂)/H, None where no
    factor varies; bins: values that a unit is told apart into.
    """

    nats: Tensor
    entropies: Tensor
    gap: float | None
    bins: int


def linear_probe(seen: Tensor, labels: Tensor) -> Any:
    """Logistic regression on standardised codes, fitted; it has `predict`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        seen.numpy(), labels.numpy()
    )


def right(probe: Any, z: Tensor, y: Tensor) -> Share:
    """Rows that a fitted probe labels rightly."""
    return Share(int((torch.as_tensor(probe.predict(z.numpy())) == y).sum()), len(y))


def nearest(seen: Tensor, labels: Tensor, z: Tensor, y: Tensor, k: int = 1) -> Share:
    """Rows that most of the k seen rows with the nearest codes agree with."""
    from sklearn.neighbors import KNeighborsClassifier

    return right(KNeighborsClassifier(min(k, len(seen))).fit(seen.numpy(), labels.numpy()), z, y)


def trustworthiness(x: Tensor, z: Tensor, neighbours: int = 5) -> float:
    """How far neighbours among codes are neighbours among the data, 1 the best, by scikit-learn.

    Source: Venna, Kaski, "Neighborhood preservation in nonlinear projection methods", 2001.
    """
    from sklearn.manifold import trustworthiness as found

    return float(found(x.flatten(1).double().numpy(), z.numpy(), n_neighbors=neighbours))


def information(z: Tensor, factors: Tensor, bins: int | None = None) -> Information:
    """I(z_j; factor) of every unit and factor, from tables of equally filled bins, corrected for their bias.

    z: (n, d); factors: (n,) or (n, factors), each a label or a number (which is binned too). bins: by default as
    many as leave five rows a cell, 2 to 20; a unit with no more values than that keeps them.
    """
    columns = factors.unsqueeze(1) if factors.ndim == 1 else factors
    kinds = max(len(column.unique()) for column in columns.T)
    bins = bins or max(2, min(MOST_BINS, len(z) // (CELL_ROWS * min(kinds, MOST_BINS))))
    units = [_binned(each, bins) for each in z.T]
    known = [each if not each.is_floating_point() else _binned(each, bins) for each in columns.T]
    known = [each.unique(return_inverse=True)[1] for each in known]
    nats = torch.tensor(
        [[mutual_information(_table(u, f)) for f in known] for u in units], dtype=torch.double
    )
    entropies = torch.tensor([miller_madow(torch.bincount(f)) for f in known], dtype=torch.double)
    vary = entropies > 0
    gap = float(information_gap(nats[:, vary], entropies[vary]).mean()) if bool(vary.any()) else None
    return Information(nats, entropies, gap, bins)


def _binned(values: Tensor, bins: int) -> Tensor:
    """The bin of each value: as it is where there are few values, equally filled otherwise."""
    values = values.double().contiguous()
    distinct, inverse = values.unique(return_inverse=True)
    if len(distinct) <= bins:
        return inverse
    at = torch.arange(1, bins, dtype=torch.double) / bins
    return torch.searchsorted(values.quantile(at).unique(), values, right=True)


def _table(a: Tensor, b: Tensor) -> Tensor:
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    return torch.bincount(a * columns + b, minlength=rows * columns).view(rows, columns)
