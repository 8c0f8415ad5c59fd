"""Kernels of distances, and the sums over pairs of samples that MMD and the energy distance are made of.

A kernel here is a function of squared distances, k(d²), applied to whole blocks of them. Pairs are visited in
square tiles, so that neither an n × m × D nor, without gradients, an n × m tensor is ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError

Kernel = Callable[[Tensor], Tensor]
_TILE = 512  # rows and columns of one tile of distances: a megabyte
_MEDIAN_ROWS = 500


def rbf(scales: Sequence[float]) -> Kernel:
    """k(d²) = (1/S) Σ_s exp(−d²/2s²): Gaussian kernels of standard deviations s, in units of the data."""
    scales = _checked(scales)

    def rbf(squares: Tensor) -> Tensor:
        total = (squares * (-0.5 / scales[0] ** 2)).exp_()
        for s in scales[1:]:
            total = total + (squares * (-0.5 / s**2)).exp_()
        return total / len(scales) if len(scales) > 1 else total

    return rbf


def inverse_multiquadratic(scales: Sequence[float]) -> Kernel:
    """k(d²) = (1/S) Σ_s s²/(s² + d²), in units of the data; heavier tails than the Gaussian kernel's.

    C/(C + d²) is the same with s = √C; C = 2d for codes of d numbers against N(0, I).
    Source: Tolstikhin, Bousquet, Gelly, Schölkopf, "Wasserstein auto-encoders", 2018, section 4.
    """
    scales = _checked(scales)

    def inverse_multiquadratic(squares: Tensor) -> Tensor:
        total = (squares / scales[0] ** 2).add_(1).reciprocal_()
        for s in scales[1:]:
            total = total + (squares / s**2).add_(1).reciprocal_()
        return total / len(scales) if len(scales) > 1 else total

    return inverse_multiquadratic


def negative_distance(squares: Tensor) -> Tensor:
    """k(d²) = −d, with which MMD² is the energy distance; its slope at d = 0 is 0, not infinite.

    Source: Székely, Rizzo, "Energy statistics", 2013, eq. 5 (biased).
    """
    return -squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()


def _checked(scales: Sequence[float]) -> tuple[float, ...]:
    given = tuple(float(s) for s in scales)
    if not given or not all(0 < s < float("inf") for s in given):
        raise ArgumentError(f"the scales of a kernel are positive numbers; got {given}: give e.g. (1.0,).")
    return given


def squared_distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """‖x_i − y_j‖² = ‖x_i‖² + ‖y_j‖² − 2⟨x_i, y_j⟩, at least 0, both taken from the mean of y first.

    One matrix product, no n × m × d tensor; exact to a few ulp of the largest ‖x_i‖² + ‖y_j‖².
    """
    centre = y.detach().mean(0)
    return _squares(_left(x - centre), _right(y - centre))


def _left(x: Tensor) -> Tensor:
    """(−2 x, ‖x‖², 1), whose product with (y, 1, ‖y‖²) is ‖x − y‖²."""
    return torch.cat([-2 * x, x.square().sum(1, keepdim=True), x.new_ones(len(x), 1)], 1)


def _right(y: Tensor) -> Tensor:
    return torch.cat([y, y.new_ones(len(y), 1), y.square().sum(1, keepdim=True)], 1)


def _squares(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right.T).relu_()


def median_scale(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """The median of the non-zero distances between rows of x and y together: a bandwidth by a fixed rule.

    Of more than 500 rows of either, 500 evenly spaced ones in the order given. Raises `DataError` where all rows
    are equal.
    """
    both = torch.cat([_spaced(x.detach()), _spaced(y.detach())])
    distances = torch.nn.functional.pdist(both)
    distances = distances[distances > 0]
    if not len(distances):
        raise DataError("all rows are equal, so no bandwidth can be read off them; give scales=(…,).")
    return float(distances.median())


def _spaced(x: Tensor) -> Tensor:
    n = len(x)
    return x if n <= _MEDIAN_ROWS else x[torch.arange(_MEDIAN_ROWS, device=x.device) * n // _MEDIAN_ROWS]


class PairSums(NamedTuple):
    """Sums of a kernel over pairs, a row each: xx_i = Σ_{j≠i} k(x_i, x_j), xy_i = Σ_j k(x_i, y_j), yx_j = Σ_i …"""

    xx: Tensor
    yy: Tensor
    xy: Tensor
    yx: Tensor


def pair_sums(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel, rows: int = _TILE
) -> PairSums:
    """The kernel's sums over all pairs, in tiles of `rows` × `rows` of them; float64."""
    centre = y.detach().mean(0)
    x, y = x - centre, y - centre
    return PairSums(_within(x, kernel, rows), _within(y, kernel, rows), *_across(x, y, kernel, rows))


def _within(x: Tensor, kernel: Kernel, rows: int) -> Tensor:
    """Σ_{j≠i} k(x_i, x_j); a tile and its mirror image are computed once."""
    left, right = _left(x).split(rows), _right(x).split(rows)
    sums = [x.new_zeros(len(part), dtype=torch.float64) for part in left]
    for i, some in enumerate(left):
        for j in range(i, len(right)):
            tile = kernel(_squares(some, right[j]))
            along = tile.sum(1)
            sums[i] = sums[i] + (along - tile.diagonal() if i == j else along)
            if i != j:
                sums[j] = sums[j] + tile.sum(0)
    return torch.cat(sums)


def _across(x: Tensor, y: Tensor, kernel: Kernel, rows: int) -> tuple[Tensor, Tensor]:
    left, right = _left(x).split(rows), _right(y).split(rows)
    along, down = ([x.new_zeros(len(part), dtype=torch.float64) for part in side] for side in (left, right))
    for i, some in enumerate(left):
        for j, others in enumerate(right):
            tile = kernel(_squares(some, others))
            along[i], down[j] = along[i] + tile.sum(1), down[j] + tile.sum(0)
    return torch.cat(along), torch.cat(down)


def squared_discrepancy(sums: PairSums, biased: Kernel | None = None) -> Tensor:
    """MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y), unbiased, or biased (x' = x counts) if given k, for its k(0).

    Unbiased, it can be negative; biased, it is the squared distance of the two empirical means, at least 0.
    Source: Gretton, Borgwardt, Rasch, Schölkopf, Smola, "A kernel two-sample test", 2012, eqs. 3 and 5.
    """
    n, m = len(sums.xx), len(sums.yy)
    cross = 2 * sums.xy.sum() / (n * m)
    if biased is None:
        return sums.xx.sum() / (n * (n - 1)) + sums.yy.sum() / (m * (m - 1)) - cross
    at_zero = float(biased(sums.xx.new_zeros(1)))
    return sums.xx.sum() / n**2 + at_zero / n + sums.yy.sum() / m**2 + at_zero / m - cross


def mmd2(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    kernel: Kernel,
    unbiased: bool = True,
    rows: int = _TILE,
) -> Float[Tensor, ""]:
    """MMD² between samples, differentiable in both; `rows`: of x against as many of y are held at a time."""
    return squared_discrepancy(pair_sums(x, y, kernel, rows), None if unbiased else kernel).to(x.dtype)


def jackknife_error(sums: PairSums) -> float:
    """Standard error of the unbiased MMD²: each row of x, then of y, left out in turn.

    SE² = (n−1)/n Σ_i (θ_(i) − θ̄)² + the same over y, θ_(i) from the row sums alone. Never too small on average
    (Efron, Stein, "The jackknife estimate of variance", 1981); needs three rows of each.
    """
    variance = 0.0
    for own, cross, others in ((sums.xx, sums.xy, len(sums.yy)), (sums.yy, sums.yx, len(sums.xx))):
        n = len(own)
        within = (own.sum() - 2 * own) / ((n - 1) * (n - 2))
        left_out = within - 2 * (cross.sum() - cross) / ((n - 1) * others)
        variance += float((n - 1) * left_out.var(correction=0))
    return variance**0.5


def centred_gram(z: Float[Tensor, "n d"], kernel: Kernel) -> Float[Tensor, "n n"]:
    """k(z_i, z_j) − a_i − a_j off the diagonal, 0 on it, with a chosen so that every row sums to 0.

    Unbiased MMD² between any two parts of z is the same as with k itself, but its sums do not cancel.
    """
    n = len(z)
    z = z - z.mean(0)
    left, right = _left(z), _right(z)
    gram = torch.cat([kernel(_squares(part, right)) for part in left.split(_TILE)])
    gram.fill_diagonal_(0)
    sums = gram.sum(1, dtype=torch.float64)
    # a solves (n − 2) a_i + Σ a = row sum i, since row i has n − 1 entries off the diagonal.
    offset = ((sums - sums.sum() / (2 * (n - 1))) / (n - 2)).to(z.dtype)
    return gram.sub_(offset).sub_(offset[:, None]).fill_diagonal_(0)


def split_discrepancies(gram: Float[Tensor, "n n"], chosen: Float[Tensor, "n b"]) -> Float[Tensor, " b"]:
    """Unbiased MMD² between the rows chosen (1) and not (0) by each column, from a centred gram matrix.

    With q = aᵀKa, r = K1 = 0: the sums are q within the chosen, q within the others, −q between them.
    """
    n = chosen[:, 0].sum()
    m = len(gram) - n
    q = (chosen * (gram @ chosen)).sum(0)
    return q / (n * (n - 1)) + q / (m * (m - 1)) + 2 * q / (n * m)
