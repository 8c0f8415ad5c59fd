"""Windows: their mask, nearest points, starts, searches in them, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box
from psiphi.attacks import Attack, apgd, pgd
from psiphi.attacks.searches import RandomPoints
from psiphi.attacks.threats import Patch
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box


def images(b: int = 6, h: int = 6, w: int = 7) -> torch.Tensor:
    return torch.rand(b, 2, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def linear(x: torch.Tensor) -> nn.Sequential:
    net, draw = (
        nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)).double(),
        torch.Generator().manual_seed(2),
    )
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(net[1].weight.shape, generator=draw))
        net[1].bias.zero_()
    return net


@pytest.mark.parametrize(
    ("patch", "rows", "columns"),
    [
        (Patch(2), slice(2, 4), slice(2, 4)),
        (Patch((3, 2)), slice(1, 4), slice(2, 4)),
        (Patch((2, 3), (4, 0)), slice(4, 6), slice(0, 3)),
        (Patch((6, 7)), slice(0, 6), slice(0, 7)),
    ],
)
def test_the_window(patch, rows, columns):
    inside = torch.zeros(6, 7, dtype=torch.bool)
    inside[rows, columns] = True
    assert torch.equal(patch.window((2, 6, 7)), inside)
    assert torch.equal(patch.window((6, 7)), inside)


@pytest.mark.parametrize("eps", [0.0, 0.3, float("inf")])
def test_nearest_points_and_starts(eps):
    x, patch = images(), Patch((2, 3), (1, 2), eps=eps)
    inside = patch.window(x.shape[1:])
    v = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    near = patch.project(v, x, Box())
    assert torch.equal(near[..., ~inside], x[..., ~inside])
    assert torch.equal(
        near[..., inside], v[..., inside].clamp(0, 1).clamp(x[..., inside] - eps, x[..., inside] + eps)
    )
    start = patch.start(x, Box(), Noise.of(0, len(x), dtype=torch.float64))
    assert torch.equal(start[..., ~inside], x[..., ~inside])
    assert (patch.distance(start, x) <= eps + 1e-12).all()
    assert start.min() >= 0
    assert start.max() <= 1
    assert (patch.distance(start, x) > 0).all() == (eps > 0)


def test_without_a_radius_starts_are_uniform_over_the_box():
    x = images(400)
    start = Patch(4).start(x, Box(-1.0, 3.0), Noise.of(5, 400, dtype=torch.float64))
    drawn = start[..., Patch(4).window(x.shape[1:])].flatten()
    assert abs(drawn.mean() - 1) < 4 * (16 / 12 / len(drawn)) ** 0.5
    assert (drawn.square() - 2 * drawn + 1).mean().sub(16 / 12).abs() < 4 * (256 / 180 / len(drawn)) ** 0.5


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_ascent_reaches_the_corner_of_the_window(attack):
    """The optimum of a linear score: every value of the window at the wall that its weight points to."""
    x, patch = images(), Patch(3, eps=1.0)
    net = linear(x)
    y = net(x).argmax(1)
    result = attack(patch, steps=12, goal="margin")(net, x, y, stop_early=False)
    away = (net[1].weight[1] - net[1].weight[0]).view(1, *x.shape[1:]) * (1 - 2 * y.view(-1, 1, 1, 1))
    corner = torch.where(patch.window(x.shape[1:]), (away > 0).double(), x)
    assert_close(result.x, corner, atol=1e-12, rtol=0)


def test_random_points_of_a_black_box():
    x = images(20)
    net = linear(x)
    result = Attack(Patch(5), goals.margin, RandomPoints(20))(black_box(net, "labels"), x)
    assert result.success.sum() > 0
    outside = ~Patch(5).window(x.shape[1:])
    assert torch.equal(result.x[..., outside], x[..., outside])


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: Patch(0), ArgumentError, "size is a whole number of pixels.*got 0"),
        (lambda: Patch((2, 2, 2)), ArgumentError, "or height and width"),
        (lambda: Patch(2, "left"), ArgumentError, "place is .center., or row and column.*got 'left'"),
        (lambda: Patch(2, (-1, 0)), ArgumentError, r"from 0 on; got \(-1, 0\)"),
        (
            lambda: Patch(7).expand(images()),
            ShapeError,
            "window of 7 × 7 pixels.*does not fit into an image of 6 × 7",
        ),
        (lambda: Patch(2, (5, 0)).expand(images()), ShapeError, "at row 5, column 0 does not fit"),
        (lambda: Patch(2).expand(images().flatten(1)), ShapeError, "needs images"),
        (
            lambda: Patch(2).start(images(), Box(0, torch.inf), Noise.of(0, 6)),
            ArgumentError,
            "the data's box no end",
        ),
        (
            lambda: pgd(Patch(2))(linear(images()), images()),
            ArgumentError,
            "no radius to take a step's length from",
        ),
        (
            lambda: apgd(Patch(2))(linear(images()), images()),
            ArgumentError,
            "no radius to take a step's length from",
        ),
    ],
)
def test_what_is_refused(make, kind, said):
    with pytest.raises(kind, match=said):
        make()


def test_its_name():
    assert repr(Patch(3, (0, 1), eps=0.5)) == "Patch(size=(3, 3), place=(0, 1), eps=0.5)"
    assert repr(Patch((2, 3))) == "Patch(size=(2, 3), place='center')"
