"""Distortions of each coordinate, by hand, and the constant that each is best answered with."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from psiphi.formulas.distortions import absolute, huber, squared

X = torch.tensor([[-2.0, 0.0, 0.5], [1.0, 3.0, -0.5]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("distortion", "wanted"),
    [
        (squared, [[9.0, 0.0, 0.25], [0.0, 1.0, 2.25]]),
        (absolute, [[3.0, 0.0, 0.5], [0.0, 1.0, 1.5]]),
        (huber, [[2.5, 0.0, 0.125], [0.0, 0.5, 1.0]]),
        (lambda x, y: huber(x, y, 2.0), [[4.0, 0.0, 0.125], [0.0, 0.5, 1.125]]),
    ],
    ids=["squared", "absolute", "huber", "huber of 2"],
)
def test_each_coordinate_by_hand(distortion, wanted):
    found = distortion(X, Y)
    assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    assert_close(distortion(Y, X), found)
    assert_close(distortion(X, Y.expand(3, 2, 3)), found.expand(3, 2, 3))
    assert_close(distortion(X, X), torch.zeros_like(X))


@pytest.mark.parametrize(
    ("distortion", "best"),
    [(squared, 2.3), (absolute, 1.0), (lambda x, y: huber(x, y, 1.0), 7 / 6)],
    ids=["the mean", "the median", "Huber's"],
)
def test_the_best_constant(distortion, best):
    """Of (0, ½, 1, 2, 8): mean 2.3, median 1; Huber's: −1 + (½ − c) + (1 − c) + (2 − c) + 1 = 0, c = 7/6."""
    points = torch.tensor([0.0, 0.5, 1.0, 2.0, 8.0], dtype=torch.float64)
    grid = torch.linspace(-1, 9, 10_001, dtype=torch.float64)
    costs = distortion(points.expand(len(grid), 5), grid[:, None].expand(-1, 5)).sum(1)
    assert_close(grid[costs.argmin()], torch.tensor(best, dtype=torch.float64), rtol=0, atol=1e-3)


def test_huber_is_smooth_where_its_pieces_meet():
    x = torch.tensor([0.999999, 1.0, 1.000001], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(huber(x, torch.zeros(3, dtype=torch.float64)).sum(), x)
    assert_close(slope, torch.ones(3, dtype=torch.float64), rtol=0, atol=2e-6)
