"""How well a score ranks odd rows above normal ones. Scores are higher where a row is stranger."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Levels(NamedTuple):
    """How many normal and how many odd rows have each distinct score, the strangest first: (*r, ranks)."""

    normal: Tensor
    odd: Tensor


def levels(
    normal: Float[Tensor, " n"], odd: Float[Tensor, " m"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """The rank of each row among the distinct scores, 0 the strangest: ties share a rank."""
    both = torch.cat([normal, odd])
    rank = both.unique(return_inverse=True)[1]
    rank = rank.max() - rank
    return rank[: len(normal)], rank[len(normal) :]


def count(normal: Int[Tensor, "*r n"], odd: Int[Tensor, "*r m"], ranks: int) -> Levels:
    """Rows at each rank, each (*r, ranks)."""

    def rows(at: Tensor) -> Tensor:
        zero = torch.zeros(*at.shape[:-1], ranks, dtype=torch.double)
        return zero.scatter_add_(-1, at, torch.ones_like(at, dtype=torch.double))

    return Levels(rows(normal), rows(odd))


def auroc(at: Levels) -> Tensor:
    """P(odd > normal) + ½ P(odd = normal), (*r): the area under the receiver operating characteristic."""
    below = at.normal.sum(-1, keepdim=True) - at.normal.cumsum(-1)
    return (at.odd * (below + 0.5 * at.normal)).sum(-1) / (at.odd.sum(-1) * at.normal.sum(-1))


def average_precision(at: Levels) -> Tensor:
    """Σ_k (R_k − R_{k−1}) P_k over thresholds from the strangest down, (*r): the area under precision and recall."""
    hits, flagged = at.odd.cumsum(-1), (at.odd + at.normal).cumsum(-1)
    return (at.odd * hits / flagged.clamp(min=1)).sum(-1) / at.odd.sum(-1)


def hanley_mcneil(area: float, normal: int, odd: int) -> float:
    """Var A = [A(1 − A) + (m − 1)(A/(2 − A) − A²) + (n − 1)(2A²/(1 + A) − A²)]/(mn), n normal and m odd rows.

    Source: Hanley, McNeil, "The meaning and use of the area under a ROC curve", 1982, eq. 2.
    """
    one, two = area / (2 - area), 2 * area * area / (1 + area)
    total = area * (1 - area) + (odd - 1) * (one - area**2) + (normal - 1) * (two - area**2)
    return max(total, 0.0) / (odd * normal)


def auroc_interval(area: float, normal: int, odd: int, level: float = 0.95) -> tuple[float, float]:
    """The areas A with |Â − A| ≤ z √Var A, Hanley and McNeil's variance at A itself: not empty at Â = 1.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", 2006.
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))

    def edge(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            close = abs(area - middle) <= z * hanley_mcneil(middle, normal, odd) ** 0.5
            inside, outside = (middle, outside) if close else (inside, middle)
        return inside

    return edge(area, 0.0), edge(area, 1.0)


def roc(at: Levels) -> tuple[Tensor, Tensor]:
    """Shares of normal and of odd rows above each threshold, from none to all, (*r, ranks + 1) each."""

    def share(rows: Tensor) -> Tensor:
        above = torch.nn.functional.pad(rows.cumsum(-1), (1, 0))
        return above / above[..., -1:]

    return share(at.normal), share(at.odd)


def whitening(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """W with W Wᵀ = Σ⁻¹; directions with less than 10⁻⁶ of the largest variance count as having that much."""
    values, vectors = torch.linalg.eigh(covariance)
    floor = (1e-6 * values[-1]).clamp(min=torch.finfo(covariance.dtype).tiny)
    return vectors / values.clamp(min=float(floor)).sqrt()


def mahalanobis(
    z: Float[Tensor, "b d"], mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]
) -> Float[Tensor, " b"]:
    """√((z − m)ᵀ Σ⁻¹ (z − m)), Σ⁻¹ by `whitening`."""
    return torch.linalg.vector_norm((z - mean) @ whitening(covariance), dim=1)
