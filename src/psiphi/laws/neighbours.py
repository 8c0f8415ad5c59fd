"""Laws 11c, 13f, 15c, 15d and 27d: what is read off distances between rows, against loops over pairs."""

from __future__ import annotations

from itertools import combinations
from math import comb, log
from unittest.mock import patch

import torch
from torch import Tensor

from psiphi.basis.noise import generator
from psiphi.formulas import fidelity
from psiphi.formulas.divergences import neighbour_kl
from psiphi.formulas.fidelity import (
    balls_around,
    cubic_sums,
    expected_coverage,
    nearest,
    neighbour_radii,
    rounding,
)
from psiphi.formulas.kernels import (
    PairSums,
    centred_gram,
    inverse_multiquadratic,
    jackknife_error,
    median_scale,
    mmd2,
    negative_distance,
    pair_sums,
    rbf,
    split_discrepancies,
    squared_discrepancy,
    squared_distances,
)
from psiphi.formulas.modes import bin_kl, ceiling, occupancy, reached, separation, target_mass
from psiphi.formulas.outlying import by_label, disagreement, neighbours, outvoted, over_median, spectral, top
from psiphi.laws._law import Measured, equal, law

SEED = 15
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


def _squares(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y[None]).square().sum(2)


def _others(squares: Tensor) -> Tensor:
    """Without a row's distance to itself, in rising order."""
    return squares.clone().fill_diagonal_(torch.inf).sort(1).values


@law("13f", "kernels over pairs: MMD², its error and its splits are those of loops over all pairs")
def kernels_over_pairs() -> list[Measured]:
    """Tiles of three rows against all pairs at once, errors against leaving each row out in turn: to 10⁻¹⁰."""
    x, y = _normal(7, 2) + 5, _normal(8, 2, name="other") + 5.5
    d2 = {"xx": _squares(x, x), "yy": _squares(y, y), "xy": _squares(x, y)}
    kernels = {
        "Gaussian": (rbf((0.7,)), lambda s: (-s / (2 * 0.49)).exp()),
        "three Gaussians": (rbf((0.5, 1.0, 2.0)),
                            lambda s: sum((-s / (2 * w * w)).exp() for w in (0.5, 1.0, 2.0)) / 3),
        "inverse multiquadratic": (inverse_multiquadratic((1.5,)), lambda s: 2.25 / (2.25 + s)),
        "two of them": (inverse_multiquadratic((1.5, 0.5)), lambda s: (2.25 / (2.25 + s) + 0.25 / (0.25 + s)) / 2),
        "distance": (negative_distance, lambda s: -s.sqrt()),
    }  # fmt: skip
    found = [
        equal("squared distances", d2["xy"], squared_distances(x, y)),
        equal("far from the origin", d2["xy"], squared_distances(x + 1e4, y + 1e4), 1e-7),
        equal("never below 0", 0.0, squared_distances(x + 1e4, x + 1e4).clamp_max(0).amin(), 0.0),
        equal("median of distances", torch.nn.functional.pdist(torch.cat([x, y])).median(), median_scale(x, y)),
        equal("of more than 500 rows", torch.pdist(torch.cat([_line(1500)[::3], (_line(7) + 0.37)])).median(),
              median_scale(_line(1500), (_line(7) + 0.37))),
        equal("of 500 rows", torch.pdist(torch.cat([_line(500), (_line(7) + 0.37)])).median(),
              median_scale(_line(500), (_line(7) + 0.37))),
    ]  # fmt: skip
    for name, (kernel, plain) in kernels.items():
        full = {key: plain(s) for key, s in d2.items()}
        alone = {key: full[key] - torch.diag(full[key].diagonal()) for key in ("xx", "yy")}
        unbiased = alone["xx"].sum() / 42 + alone["yy"].sum() / 56 - 2 * full["xy"].mean()
        biased = full["xx"].mean() + full["yy"].mean() - 2 * full["xy"].mean()
        sums = pair_sums(x, y, kernel, rows=3)
        gram = centred_gram(torch.cat([x, y]), kernel)
        chosen = torch.zeros(15, 2, dtype=F64)
        chosen[:7, 0] = 1
        chosen[[0, 2, 3, 8, 9, 11, 14], 1] = 1
        z = torch.cat([x, y])
        other = mmd2(z[chosen[:, 1] == 1], z[chosen[:, 1] == 0], kernel)
        found += [
            equal(f"{name}: sums over pairs", torch.cat([alone["xx"].sum(1), alone["yy"].sum(1), full["xy"].sum(1),
                  full["xy"].sum(0)]), torch.cat(sums)),
            equal(f"{name}: MMD²", unbiased, mmd2(x, y, kernel, rows=3)),
            equal(f"{name}: of all rows in one tile", unbiased, mmd2(x, y, kernel)),
            equal(f"{name}: biased", biased, mmd2(x, y, kernel, unbiased=False)),
            equal(f"{name}: standard error", _left_out(x, y, kernel), jackknife_error(sums)),
            equal(f"{name}: two splits", torch.stack([unbiased, other]), split_discrepancies(gram, chosen)),
            equal(f"{name}: rows sum to 0", torch.zeros(15), gram.sum(1)),
            equal(f"{name}: nothing on the diagonal", torch.zeros(15), gram.diagonal()),
        ]  # fmt: skip
    at = torch.zeros(1, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(negative_distance(at).sum(), at)
    cubes = (x @ y.T / 2 + 1) ** 3, (x @ x.T / 2 + 1) ** 3, (y @ y.T / 2 + 1) ** 3
    cubic = cubic_sums(x, y)
    expected = PairSums(cubes[1].sum(1) - cubes[1].diagonal(), cubes[2].sum(1) - cubes[2].diagonal(),
                        cubes[0].sum(1), cubes[0].sum(0))  # fmt: skip
    return [
        *found,
        equal("the distance has no slope at 0", 0.0, slope[0]),
        equal("sums of cubes, relative", torch.ones(30), torch.cat(cubic) / torch.cat(expected)),
        equal("MMD² of cubes", float(squared_discrepancy(expected)), squared_discrepancy(cubic), 1e-8),
    ]


def _line(n: int) -> Tensor:
    return (torch.arange(n, dtype=F64) ** 1.1)[:, None]


def _left_out(x: Tensor, y: Tensor, kernel) -> float:
    """The jackknife of two samples by its definition."""
    total = 0.0
    for own, statistic in ((x, lambda part: mmd2(part, y, kernel)), (y, lambda part: mmd2(x, part, kernel))):
        n = len(own)
        each = torch.stack([statistic(own[torch.arange(n) != i]) for i in range(n)])
        total += float((n - 1) / n * (each - each.mean()).square().sum())
    return total**0.5


@law("11c", "KL from nearest neighbours: its terms and its jackknife are those of sorting all distances")
def neighbours_and_kl() -> list[Measured]:
    """In two dimensions, by a tree, and in nine, by blocks; the standard error by leaving tenths out one by one."""
    found = []
    for d, k in ((2, 1), (2, 5), (9, 3)):
        x, y = _normal(64, d), 1.5 * _normal(57, d, name="other") + 0.3
        terms, error = neighbour_kl(x, y, k)
        found += [
            equal(f"terms, {d} dimensions, {k} neighbours", _kl_terms(x, y, k), terms),
            equal(f"standard error, {d} dimensions, {k} neighbours", _kl_error(x, y, k), error),
        ]
    few, error = neighbour_kl(_normal(6, 2), _normal(5, 2, name="few"), 5)
    enough = neighbour_kl(_normal(26, 2), _normal(26, 2, name="few"), 3)[1]
    scarce = neighbour_kl(_normal(26, 2), _normal(25, 2, name="few"), 3)[1]
    five = neighbour_kl(_normal(64, 2), _normal(57, 2), 5)[0]
    return [
        *found,
        equal("of a handful of rows", _kl_terms(_normal(6, 2), _normal(5, 2, name="few"), 5), few),
        equal(
            "which have no standard error", [1, 0, 1], [error != error, enough != enough, scarce != scarce]
        ),
        equal("five neighbours, unless told", five, neighbour_kl(_normal(64, 2), _normal(57, 2))[0]),
    ]


def _kl_terms(x: Tensor, y: Tensor, k: int) -> Tensor:
    rho = _others(_squares(x, x))[:, k - 1].sqrt()
    nu = _squares(x, y).sort(1).values[:, k - 1].sqrt()
    return x.shape[1] * (nu / rho).log() + log(len(y) / (len(x) - 1))


def _kl_error(x: Tensor, y: Tensor, k: int) -> float:
    each = [
        _kl_terms(x[torch.arange(len(x)) % 10 != g], y[torch.arange(len(y)) % 10 != g], k).mean()
        for g in range(10)
    ]
    return float(9 / 10 * (torch.stack(each) - torch.stack(each).mean()).square().sum()) ** 0.5


@law("15c", "balls around rows: radii, who lies in whose, and the coverage of a perfect sampler")
def balls_around_rows() -> list[Measured]:
    """By sorting all distances; rows on a lattice lie on the walls of balls, and count as inside."""
    x, y = _normal(9, 3), _normal(7, 3, name="other")
    lattice = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0)).to(F64) * 0.1 + 7
    twice = torch.cat([lattice[:3], lattice[:3]])
    radii = _others(_squares(x, x))[:, 2]
    inside = _squares(y, x) <= radii
    own = neighbour_radii(lattice, 2)
    n, m, k = 12, 9, 3
    empty = comb(n - 1, k) / comb(n + m - 1, k)
    far = torch.tensor([[10.0, 0.0]], dtype=F64)
    means = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 5.0]], dtype=F64)
    points = torch.tensor(
        [[0.1, 0.0], [0.0, 1.5], [4.2, 0.1], [2.0, 0.0], [0.0, -1.51], [4.0, 1.4]], dtype=F64
    )
    from scipy import stats

    share = stats.chi2.cdf(2.25, 3)
    return [
        equal("radii", radii, neighbour_radii(x, 3)),
        equal("of rows that come twice", torch.zeros(6), neighbour_radii(twice, 1), 0.0),
        equal("on a lattice", torch.full((12,), 0.01), own, 1e-9),
        equal("how many balls hold a sample", inside.sum(1), balls_around(y, x, radii)[0]),
        equal("how many samples a ball holds", inside.sum(0), balls_around(y, x, radii)[1]),
        equal("walls are inside", (_squares(lattice, lattice) <= 0.01 + 1e-9).sum(1),
              balls_around(lattice, lattice, torch.full((12,), 0.01, dtype=F64))[0]),
        equal("nearest", _squares(y, x).min(1).values, nearest(y, x)[0]),
        equal("which is nearest", _squares(y, x).argmin(1), nearest(y, x)[1]),
        equal("a copy is at distance 0", torch.zeros(12), nearest(lattice + 0.0, lattice.flip(0))[0], 0.0),
        equal("what rounding may make, relative", 1e-12 * 100, rounding(torch.cat([0 * far, far]),
              torch.zeros(1, 2, dtype=F64)), 1e-20),
        equal("the same of the other side", 1e-12 * 100,
              rounding(torch.zeros(1, 2, dtype=F64), torch.cat([far, -far])), 1e-20),
        equal("coverage of a perfect sampler", [1 - empty, m / (n + m - 1)],
              [expected_coverage(m, n, k), expected_coverage(m, n, 1)]),
        equal("its balls, drawn at every place", _coverage(4, 3, 2), expected_coverage(3, 4, 2)),
        equal("modes reached", [1, 1, 0], reached(points, means, 0.5)),
        equal("at another width", [1, 1, 0], reached(points[:3], means, 0.25, 1.0)),
        equal("points of each mode, and off all", [2, 2, 0, 2], occupancy(points, means, 0.5)),
        equal("least distance of means", 4.0, separation(means)),
        equal("of one mean", torch.inf, separation(means[:1])),
        equal("mass of modes", [share / 4] * 4 + [1 - share], target_mass(4, 3, 1.5)),
        equal("three widths, unless told", [ceiling(2, 3.0), *target_mass(2, 2, 3.0)], [ceiling(2),
              *target_mass(2, 2)]),
        equal("KL of bins", [0.5 * log(2) + 0.5 * log(2 / 3), torch.inf, log(2)],
              [bin_kl(torch.tensor([0.5, 0.5], dtype=F64), torch.tensor([0.25, 0.75], dtype=F64)),
               bin_kl(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])),
               bin_kl(torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([0.5, 0.5], dtype=F64))]),
    ]  # fmt: skip


def _coverage(n: int, m: int, k: int) -> float:
    """Of the n − 1 + m neighbours of a row, in every order: how often one of the k nearest is a sample."""
    total = list(combinations(range(n - 1 + m), k))
    return sum(any(each >= n - 1 for each in some) for some in total) / len(total)


@law("15d", "distances in blocks are distances: more pairs than a block holds")
def blocks_of_distances() -> list[Measured]:
    """4 100 points of a line, 16.8 million pairs: the second neighbour stands a step away, at the ends two."""
    n = 4100
    line = torch.arange(n, dtype=F64)[:, None] / 8
    expected, three = torch.ones(n), torch.full((n,), 3)
    expected[[0, -1]], three[[0, -1]] = 4, 2
    inside, held = balls_around(line, line, torch.full((n,), 1 / 64, dtype=F64))
    a = line[:, 0] / n
    x, y = _normal(9, 3), _normal(7, 3, name="other")

    def all_of_it() -> list[Tensor]:
        return [
            *cubic_sums(x, y),
            neighbour_radii(x, 2),
            *balls_around(y, x, neighbour_radii(x, 2)),
            nearest(y, x)[0],
        ]

    whole = all_of_it()
    with patch.object(fidelity, "NUMBERS", 5):
        narrow = all_of_it()
    whole, narrow = (torch.cat([each.to(F64) for each in some]) for some in (whole, narrow))
    moments = [a.pow(p).sum() for p in range(4)]
    sums = a**3 * moments[3] + 3 * a**2 * moments[2] + 3 * a * moments[1] + moments[0]
    return [
        equal("radii, in steps", expected, neighbour_radii(line, 2) * 64, 1e-6),
        equal("balls that hold a row", three, inside),
        equal("rows that a ball holds", three, held),
        equal("in blocks of one row", whole, narrow, 1e-9),
        equal("sums of cubes", sums - (a**2 + 1) ** 3, cubic_sums(line / n, line[:1]).xx, 1e-6),
    ]


@law("27f", "the same of neighbours")
def blocks_of_neighbours() -> list[Measured]:
    """4 100 points of a line: each stands between its two neighbours."""
    n = 4100
    around = neighbours(torch.arange(n, dtype=F64)[:, None] / 8, 2).sort(1).values[1:-1]
    places = torch.arange(1, n - 1)
    return [equal("neighbours", torch.stack([places - 1, places + 1], 1), around)]


@law(
    "27d",
    "what fits its label least: spectral scores, votes of neighbours and ranks, by sorting and by the SVD",
)
def what_fits_least() -> list[Measured]:
    """Rows of three labels and one unknown; against loops."""
    r = _normal(14, 3) * torch.tensor([1.0, 2.0, 0.5])
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, -1, -1, 0, 1])
    squares = _squares(r, r).fill_diagonal_(torch.inf)
    order = squares.argsort(1)[:, :4]
    centred = r - r.mean(0)
    direction = torch.linalg.svd(centred).Vh[0]
    labels = y.unique()
    votes = torch.stack([(y[order] == label).sum(1) for label in labels], 1)
    own = votes[torch.arange(14), torch.searchsorted(labels, y)]
    most = torch.stack([votes[i][labels != y[i]].max() for i in range(14)])
    each = torch.zeros(14, dtype=F64)
    for label in labels:
        part = r[y == label] - r[y == label].mean(0)
        each[y == label] = (part @ torch.linalg.svd(part).Vh[0]).square()
    score = torch.tensor([3.0, 0.0, 5.0, 1.0, 5.0], dtype=F64)
    dull = torch.tensor([0.0, 0.0, 0.0, 2.0], dtype=F64)
    return [
        equal("spectral signature", (centred @ direction).square(), spectral(r)),
        equal("within each label", each, by_label(spectral, r, y)),
        equal("neighbours", order, neighbours(r, 4)),
        equal("share of another label", (y[order] != y[:, None]).double().mean(1), disagreement(r, y, 4)),
        equal("outvoted", most > own, outvoted(r, y, 4)),
        equal("over the median", score / 3, over_median(score)),
        equal("over a median of 0", [0.0, 0.0, 0.0, torch.inf], over_median(dull)),
        equal("the highest", [0, 0, 1, 0, 1], top(score, 2)),
        equal("the first of equals", [0, 0, 1, 0, 0], top(score, 1)),
        equal("none, and fewer than none", [0, 0], [top(score, 0).sum(), top(score, -1).sum()]),
    ]
