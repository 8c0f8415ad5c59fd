"""Whether samples are copies of training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from psiphi.evaluation._features import Features, compared
from psiphi.evaluation._share import Share
from psiphi.formulas.fidelity import nearest

QUANTILE = 0.01


@dataclass(frozen=True)
class Memory:
    """Distances of samples to the nearest training row, beside those of held-out rows.

    median, held_out_median: of each; ratio: the first over the second, about 1 for draws of the data's own density
    and well below 1 for copies; copies: the share of samples nearer than 99 % of the held-out rows are, about 1 % for
    draws of the data's own density. distance (n,), row (n,): of each sample and its nearest training row.
    """

    median: float
    held_out_median: float
    ratio: float
    copies: Share
    n: int
    m: int
    held_out: int
    features: str
    distance: Tensor
    row: Tensor

    def as_dict(self) -> dict[str, Any]:
        names = ("median", "held_out_median", "ratio", "n", "m", "held_out", "features")
        return {name: getattr(self, name) for name in names} | {"copies": self.copies.as_dict()}

    def __str__(self) -> str:
        return (
            f"nearest training row at {self.median:.4g}, of held-out rows at {self.held_out_median:.4g} (medians, "
            f"ratio {self.ratio:.3f}); nearer than 99% of held-out rows {self.copies}, where 1% is expected; "
            f"{self.n} samples, {self.m} training and {self.held_out} held-out rows, {self.features}"
        )


def nearest_training(samples: Any, train: Any, held_out: Any, features: Features = None) -> Memory:
    """Distance of each sample to its nearest training row, beside the same of rows that were held out.

    A sign of memory, not a proof: a model of means only (blurred samples) is near to everything too. Rows held out must
    come from where the training rows do, without copies of them. Errors: `DataError`.
    """
    y, x, name = compared(samples, train, features)
    z, _, _ = compared(held_out, train, features)
    (squares, row), (others, _) = nearest(y, x), nearest(z, x)
    distance, usual = squares.sqrt(), others.sqrt()
    median, expected = float(distance.median()), float(usual.median())
    return Memory(
        median=median,
        held_out_median=expected,
        ratio=median / expected if expected else float("nan"),
        copies=Share(int((distance < usual.quantile(QUANTILE)).sum()), len(y)),
        n=len(y),
        m=len(x),
        held_out=len(z),
        features=name,
        distance=distance,
        row=row,
    )
