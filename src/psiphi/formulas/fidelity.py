"""Two sets of rows by the balls around each other's rows; blocks of distances, never all of them at once.

A distance equal to a radius up to rounding is inside: distances come from products, so ties would fall either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from psiphi.formulas.kernels import PairSums, squared_distances

NUMBERS = 1 << 24
ROUNDING = 1e-12

Rows = Float[Tensor, "n d"]
Others = Float[Tensor, "m d"]
Squares = Float[Tensor, " n"]


def blocks(a: Rows, b: Others) -> Iterator[tuple[int, Float[Tensor, "rows m"]]]:
    """The first row of each block of a, and its squared distances to all of b."""
    rows = max(1, NUMBERS // len(b))
    for start in range(0, len(a), rows):
        yield start, squared_distances(a[start : start + rows], b)


def rounding(a: Rows, b: Others) -> float:
    """What two squared distances between rows of a and b that are equal may differ by."""
    centre = b.mean(0)
    return ROUNDING * max(float((each - centre).square().sum(1).amax()) for each in (a, b))


def neighbour_radii(x: Rows, k: int) -> Squares:
    """The squared distance of each row to its k-th nearest *other* row: 0 where k others are equal to it."""
    found = []
    for start, squares in blocks(x, x):
        squares[torch.arange(len(squares)), torch.arange(start, start + len(squares))] = float("inf")
        found.append(squares.topk(k, dim=1, largest=False).values[:, -1])
    radii = torch.cat(found)
    return torch.where(radii <= rounding(x, x), 0.0, radii)


def balls_around(
    samples: Rows, data: Others, radii: Float[Tensor, " m"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Of the data's balls B(x_i, r_i), r_i² = radii_i: how many hold each sample; how many samples each holds."""
    slack, holding = rounding(samples, data), []
    held = torch.zeros(len(data), dtype=torch.long, device=data.device)
    for _, squares in blocks(samples, data):
        inside = squares <= radii + slack
        holding.append(inside.sum(1))
        held += inside.sum(0)
    return torch.cat(holding), held


def nearest(x: Rows, seen: Others) -> tuple[Squares, Int[Tensor, " n"]]:
    """The squared distance of each row of x to the nearest row of `seen`, and which row that is."""
    found = [squares.min(1) for _, squares in blocks(x, seen)]
    squares, which = (torch.cat(parts) for parts in zip(*found))
    return torch.where(squares <= rounding(x, seen), 0.0, squares), which


def expected_coverage(samples: int, data: int, k: int) -> float:
    """E coverage = 1 − Π_{j<k} (N − 1 − j)/(N + M − 1 − j) for N data and M samples of one and the same density.

    A ball is empty when the k nearest of its centre's N − 1 + M neighbours are all data, C(N−1, k)/C(N+M−1, k).
    Source: Naeem, Oh, Uh, Choi, Yoo, "Reliable fidelity and diversity metrics for generative models", 2020.
    """
    return 1 - prod((data - 1 - j) / (data + samples - 1 - j) for j in range(k))


def cubic_sums(x: Rows, y: Others) -> PairSums:
    """Sums over pairs of k(x, y) = (⟨x, y⟩/d + 1)³, whose MMD² compares the first three moments.

    Source: Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", 2018, section 4.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / x.shape[1] + 1) ** 3

    def along(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([kernel(part, b).sum(1) for part in a.split(max(1, NUMBERS // len(b)))])

    def own(a: Tensor) -> Tensor:
        return along(a, a) - (a.square().sum(1) / x.shape[1] + 1) ** 3

    return PairSums(own(x), own(y), along(x, y), along(y, x))
