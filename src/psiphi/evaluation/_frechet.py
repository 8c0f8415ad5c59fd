"""Distances of samples to data through features: Fréchet's, of two moments, and the cubic kernel's, of three."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.basis.noise import generator
from psiphi.evaluation._features import Features, compared
from psiphi.formulas.divergences import gaussian_frechet
from psiphi.formulas.fidelity import cubic_sums
from psiphi.formulas.kernels import jackknife_error, squared_discrepancy

ROWS_A_FEATURE = 10


class SmallSampleWarning(UserWarning):
    """Too few rows for a number that is biased by their number."""


@dataclass(frozen=True)
class FeatureDistance:
    """A number that compares n samples with m rows of the data's `split` in `dimension` features, named."""

    value: float
    n: int
    m: int
    dimension: int
    features: str
    split: str

    def __float__(self) -> float:
        return self.value

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def label(self) -> str:
        """What the number depends on, in words."""
        return f"{self.n} samples against {self.m} rows of {self.split}, {self.features}"


@dataclass(frozen=True)
class Frechet(FeatureDistance):
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₂^½ Σ₁ Σ₂^½)^½) of features, in their units squared.

    halves: the same between two disjoint random halves of the data, which would be 0 without the bias of small
    samples; it stands for half as many rows.
    """

    halves: float

    def __str__(self) -> str:
        return (
            f"Fréchet distance {self.value:.4g} ({self.label}; biased upwards: two halves of the data are "
            f"{self.halves:.4g} apart)"
        )


def frechet(
    samples: Any, data: Any, features: Features = None, split: str = "data", seed: int = 0
) -> Frechet:
    """Fréchet distance between normals fitted to features of samples and of data, in double precision.

    features: a classifier for its penultimate layer, a function, or None for the numbers as they are; split: the name
    of the data in the label. Numbers of other features, splits or sample sizes may not be compared. Warns with
    `SmallSampleWarning` below ten rows a feature. Raises `DataError` for fewer than 4 rows of data or 2 samples.
    Source: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs trained by a two time-scale update rule converge
    to a local Nash equilibrium", 2017, eq. 6.
    """
    y, x, name = compared(samples, data, features)
    if len(y) < 2 or len(x) < 4:
        raise DataError(
            f"covariances need at least 2 samples and 4 rows of data; there are {len(y)} and {len(x)}."
        )
    few, d = min(len(x), len(y)), x.shape[1]
    if few < ROWS_A_FEATURE * d:
        warnings.warn(
            f"a Fréchet distance of {d} features from {few} rows is biased upwards: use at least {ROWS_A_FEATURE * d} "
            f"rows, or kernel_distance, which is unbiased.",
            SmallSampleWarning,
            stacklevel=2,
        )
    one, two = x[torch.randperm(len(x), generator=generator(seed, "halves"))].chunk(2)
    return Frechet(_between(y, x), len(y), len(x), d, name, split, halves=_between(one, two))


def _between(x: Tensor, y: Tensor) -> float:
    (mean1, cov1), (mean2, cov2) = (
        (each.mean(0), each.T.cov().reshape(each.shape[1], each.shape[1])) for each in (x, y)
    )
    return float(gaussian_frechet(mean1, cov1, mean2, cov2))


@dataclass(frozen=True)
class KernelDistance(FeatureDistance):
    """Unbiased MMD² of the kernel (⟨x, y⟩/d + 1)³, about 0 and of either sign where both have one density.

    standard_error: jackknife over rows of both sets, not too small on average.
    """

    standard_error: float

    def __str__(self) -> str:
        return f"kernel distance {self.value:.4g} ± {self.standard_error:.2g} ({self.label}; unbiased, ± jackknife)"


def kernel_distance(
    samples: Any, data: Any, features: Features = None, split: str = "data"
) -> KernelDistance:
    """Squared maximum mean discrepancy of features by a cubic kernel: unbiased at any number of rows, with its error.

    features, split: as in `frechet`. The kernel depends on the features' origin and scale. Raises `DataError` for fewer
    than 3 rows of either. Source: Bińkowski et al., "Demystifying MMD GANs", 2018, section 4.
    """
    y, x, name = compared(samples, data, features)
    if min(len(x), len(y)) < 3:
        raise DataError(
            f"an error needs at least 3 rows of each; there are {len(y)} samples and {len(x)} rows."
        )
    sums = cubic_sums(y, x)
    value, error = float(squared_discrepancy(sums)), jackknife_error(sums)
    return KernelDistance(value, len(y), len(x), x.shape[1], name, split, standard_error=error)
