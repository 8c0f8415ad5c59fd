"""Distances between distributions: of densities, of Gaussians, of samples. Densities are logarithms, in nats."""

from __future__ import annotations

from math import log, nan

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.formulas.kernels import squared_distances

LOG_2 = log(2)
_CHUNK = 1 << 20
_TREE_UP_TO, _GROUPS = 8, 10


# ------------------------------------------------------------------------------------- of densities
def js_terms(log_own: Float[Tensor, "*n"], log_other: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """ln p/m at draws of p, m = ½(p + q): ln 2 − ln(1 + q/p), at most ln 2 and exactly that where q = 0."""
    return LOG_2 - F.softplus(log_other - log_own)


def js(
    p_at_p: Float[Tensor, " n"], q_at_p: Float[Tensor, " n"],
    p_at_q: Float[Tensor, " m"], q_at_q: Float[Tensor, " m"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:  # fmt: skip
    """Contributions to JS = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½(p + q), of draws of p and of q; in nats.

    JS is the mean of the first plus the mean of the second, from the log densities of both at the draws of each.
    Source: Lin, "Divergence measures based on the Shannon entropy", 1991, eq. 4.1.
    """
    return js_terms(p_at_p, q_at_p) / 2, js_terms(q_at_q, p_at_q) / 2


def js_integrand(log_p: Float[Tensor, "*x"], log_q: Float[Tensor, "*x"]) -> Float[Tensor, "*x"]:
    """½ p ln(p/m) + ½ q ln(q/m) at a point, whose integral is JS; 0 where both vanish."""
    p, q = log_p.exp(), log_q.exp()
    at_p = torch.where(p > 0, p * js_terms(log_p, log_q), 0)  # NaN where both vanish, and not looked at there
    return 0.5 * (at_p + torch.where(q > 0, q * js_terms(log_q, log_p), 0))


# ------------------------------------------------------------------------------------- of Gaussians
def gaussian_frechet(
    mean1: Float[Tensor, " d"], cov1: Float[Tensor, "d d"],
    mean2: Float[Tensor, " d"], cov2: Float[Tensor, "d d"],
) -> Float[Tensor, ""]:  # fmt: skip
    """W₂² between N(μ₁, Σ₁) and N(μ₂, Σ₂): ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₂^½ Σ₁ Σ₂^½)^½), singular ones included.

    The last trace is the nuclear norm ‖L₁ᵀL₂‖_* for any factors Σ = L Lᵀ, which takes no root of a product.
    Source: Dowson, Landau, "The Fréchet distance between multivariate normal distributions", 1982, eq. 4.
    """
    overlap = torch.linalg.svdvals(_factor(cov1).T @ _factor(cov2)).sum()
    return ((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap).clamp_min(0)


def _factor(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def bures(
    mean1: Float[Tensor, " d"], cov1: Float[Tensor, "d d"],
    mean2: Float[Tensor, " d"], cov2: Float[Tensor, "d d"],
) -> Float[Tensor, ""]:  # fmt: skip
    """W₂ between Gaussians (Bures and Wasserstein), in units of the data."""
    return gaussian_frechet(mean1, cov1, mean2, cov2).sqrt()


# --------------------------------------------------------------------------------------- of samples
def transport_1d(
    x: Float[Tensor, "*l n"], y: Float[Tensor, "*l m"], order: float | int = 1
) -> Float[Tensor, "*l"]:
    """W_p^p on the line: ∫₀¹ |F⁻¹(u) − G⁻¹(u)|^p du, by sorting, over the last axis.

    Samples of one size are paired in order; of two, along the common refinement of i/n and j/m.
    Source: Peyré, Cuturi, "Computational optimal transport", 2019, eq. 2.36.
    """
    x, y = x.sort(-1).values, y.sort(-1).values
    n, m = x.shape[-1], y.shape[-1]
    if n == m:
        return (x - y).abs().pow(order).mean(-1)
    edges = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique().to(x.device)
    weight = torch.diff(edges, prepend=edges.new_zeros(1)).to(x.dtype) / (n * m)
    gap = x[..., (edges - 1) // m] - y[..., (edges - 1) // n]
    return (gap.abs().pow(order) * weight).sum(-1)


def directions(noise: Noise, dimension: int) -> Float[Tensor, "l d"]:
    """Uniform draws from the unit sphere, ξ/‖ξ‖, one for each row of the noise."""
    return F.normalize(noise.normal((dimension,)), dim=1)


def sliced_transport(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], along: Float[Tensor, "l d"], order: float | int = 1
) -> Float[Tensor, " l"]:
    """W_p^p between ⟨θ, x⟩ and ⟨θ, y⟩ for each direction θ; sliced W_p is the p-th root of their mean.

    A few directions at a time, so that memory is a few (n + m) whatever their number.
    Source: Bonneel, Rabin, Peyré, Pfister, "Sliced and Radon Wasserstein barycenters", 2015, section 2.
    """
    step = max(1, _CHUNK // (len(x) + len(y)))
    return torch.cat([transport_1d(part @ x.T, part @ y.T, order) for part in along.split(step)])


def neighbour_kl(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], neighbours: int = 5
) -> tuple[Float[Tensor, " n"], float]:
    """Terms whose mean estimates KL(p ‖ q) from x ~ p and y ~ q: d ln(ν_i/ρ_i) + ln(m/(n−1)); in nats.

    ρ_i, ν_i: distances from x_i to its k-th nearest in x (itself apart) and in y. The second value is the mean's
    standard error, a jackknife that leaves out every tenth row of both; NaN for too few rows. Raises `DataError`
    where a distance is 0, since a density has no ties. Source: Wang, Kulkarni, Verdú, "Divergence estimation for
    multidimensional densities via k-nearest-neighbor distances", 2009, eq. 5.
    """
    n, m = len(x), len(y)
    if not 1 <= neighbours < min(n, m + 1):
        raise ArgumentError(
            f"the {neighbours} nearest neighbours were asked for among {n} and {m} rows: "
            f"take neighbours from 1 to {max(1, min(n - 1, m))}, or more rows."
        )
    more = 3 * neighbours + _GROUPS  # so that enough are left when a tenth is left out
    (rho, i), (nu, j) = _nearest(x, x, min(n, more + 1)), _nearest(x, y, min(m, more))
    other = i != torch.arange(n, device=i.device)[:, None]

    def terms(group: int | None) -> Tensor:
        kept_i, kept_j = (index % _GROUPS != group if group is not None else index >= 0 for index in (i, j))
        rows = torch.arange(n, device=i.device)
        rows = rows if group is None else rows[rows % _GROUPS != group]
        left = m if group is None else m - len(range(group, m, _GROUPS))
        ratio = _kth(nu, kept_j, neighbours)[rows] / _kth(rho, kept_i & other, neighbours)[rows]
        return x.shape[1] * ratio.log() + log(left / (len(rows) - 1))

    whole = terms(None)
    ties = int((~whole.isfinite()).sum())
    if ties:
        raise DataError(
            f"{ties} of {n} rows have {neighbours} exact copies or more, so their density is infinite: "
            "drop repeated rows, or add noise as small as the data's rounding."
        )
    if min(n, m) < 2 * (neighbours + _GROUPS):
        return whole, nan
    without = torch.stack([terms(group).mean() for group in range(_GROUPS)])
    return whole, float((_GROUPS - 1) * without.var(correction=0)) ** 0.5


def _kth(distance: Tensor, keep: Tensor, k: int) -> Tensor:
    """Of distances in rising order, the k-th that is kept; the last where fewer are."""
    reached = keep & (keep.cumsum(1) == k)
    place = torch.where(reached.any(1), reached.int().argmax(1), distance.shape[1] - 1)
    return distance.gather(1, place[:, None])[:, 0]


def _nearest(x: Tensor, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances to the k nearest y, rising, and which: by a tree in few dimensions, in blocks of all in more."""
    if x.shape[1] <= _TREE_UP_TO:
        from scipy.spatial import KDTree

        at, among = (each.detach().cpu().double().numpy() for each in (x, y))
        found = KDTree(among).query(at, k)
        distance, index = (torch.as_tensor(each).reshape(len(x), k) for each in found)
        return distance.to(x), index.to(x.device)
    parts = [_nearest_of_block(part, y, k) for part in x.split(max(1, _CHUNK // len(y)))]
    return torch.cat([distance for distance, _ in parts]), torch.cat([index for _, index in parts])


def _nearest_of_block(part: Tensor, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The neighbours by the matrix product, their distances by the difference, so that ties are exactly 0."""
    index = squared_distances(part, y).topk(k, largest=False).indices
    distance, order = (part[:, None] - y[index]).norm(dim=2).sort(1)
    return distance, index.gather(1, order)
