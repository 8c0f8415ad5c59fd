"""How much of a set of samples looks like the data, and how much of the data is among the samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from psiphi.basis.errors import ArgumentError
from psiphi.evaluation._features import Features, compared
from psiphi.evaluation._share import Share
from psiphi.formulas.fidelity import balls_around, expected_coverage, neighbour_radii


@dataclass(frozen=True)
class Fidelity:
    """Balls reach to the k-th nearest row of the same set.

    precision: share of samples in a ball of the data; recall: share of the data in a ball of the samples; density:
    balls of the data that hold a sample, over k, whose mean is 1 where both have one density, and which may exceed 1;
    coverage: share of the data's balls that hold a sample, beside its mean where both have one density.
    n samples, m rows of data; features: what distances are taken in. still, still_samples: rows whose ball has radius
    0, for k others are equal to them: it holds their equals alone.
    """

    precision: Share
    recall: Share
    density: float
    coverage: float
    expected_coverage: float
    k: int
    n: int
    m: int
    features: str
    split: str
    still: int
    still_samples: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {name: getattr(self, name).as_dict() for name in ("precision", "recall")}

    def __str__(self) -> str:
        text = (
            f"precision {self.precision}, recall {self.recall}, density {self.density:.3f}, coverage "
            f"{self.coverage:.1%} (of equals {self.expected_coverage:.1%}); {self.n} samples against {self.m} rows of "
            f"{self.split}, k = {self.k}, {self.features}"
        )
        equal = [(self.still, "rows of data"), (self.still_samples, "samples")]
        said = [f"{count} {what}" for count, what in equal if count]
        return f"{text}; {' and '.join(said)} have {self.k} equals, so balls of radius 0" if said else text


def fidelity(samples: Any, data: Any, k: int = 5, features: Features = None, split: str = "data") -> Fidelity:
    """Precision, recall, density and coverage of samples against data, by balls to the k-th nearest row.

    features: None for the numbers as they are, a classifier for its penultimate layer, or a function; split: the name
    of the data in the label. A distance equal to a radius, up to rounding, is inside. Errors: `ArgumentError`,
    `DataError`.
    Sources: Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved precision and recall metric for assessing
    generative models", 2019, eq. 1 and 2; Naeem, Oh, Uh, Choi, Yoo, "Reliable fidelity and diversity metrics for
    generative models", 2020.
    """
    y, x, name = compared(samples, data, features)
    if not 1 <= k < min(len(x), len(y)):
        raise ArgumentError(
            f"the {k}-th nearest other row needs more than {max(k, 1)} rows; there are {len(y)} samples and {len(x)} "
            f"rows of data: give more, or a k from 1 to {min(len(x), len(y)) - 1}."
        )
    around, own = neighbour_radii(x, k), neighbour_radii(y, k)
    holding, held = balls_around(y, x, around)
    remembered, _ = balls_around(x, y, own)
    return Fidelity(
        precision=Share(int((holding > 0).sum()), len(y)),
        recall=Share(int((remembered > 0).sum()), len(x)),
        density=int(holding.sum()) / (k * len(y)),
        coverage=int((held > 0).sum()) / len(x),
        expected_coverage=expected_coverage(len(y), len(x), k),
        k=k,
        n=len(y),
        m=len(x),
        features=name,
        split=split,
        still=int((around == 0).sum()),
        still_samples=int((own == 0).sum()),
    )
