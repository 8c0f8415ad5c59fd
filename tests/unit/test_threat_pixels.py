"""Pixels: projection against brute force, draws, distances, what the radius may be, gradient searches inside."""

from __future__ import annotations

from itertools import combinations
from math import inf

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.attacks import apgd, pgd
from psiphi.attacks.threats import Pixels
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.formulas import pixels
from psiphi.formulas.geometry import Box

BOX = Box(0.0, 1.0)
SHAPES = {"grey": (1, 2, 3), "colour": (3, 2, 3), "flat": (6,), "signal": (2, 6)}


def images(shape: tuple[int, ...], b: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    gen = torch.Generator().manual_seed(0)
    x = (1.4 * torch.rand(b, *shape, generator=gen, dtype=torch.float64) - 0.2).clamp(0, 1)
    return x, x + torch.randn(x.shape, generator=gen, dtype=torch.float64)


def linear() -> nn.Linear:
    """Two classes, whose boundary goes through the middle of the box."""
    torch.manual_seed(3)
    net = nn.Linear(6, 2).double()
    with torch.no_grad():
        net.bias.copy_(-net.weight.sum(1) / 2)
    return net


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("k", [0, 1, 2, 5, 6, inf])
def test_projection_is_the_nearest_of_every_choice_of_pixels(shape, k):
    x, v = images(shape)
    u = Pixels(k).project(v, x, BOX)
    assert (Pixels(k).distance(u, x) <= k).all()
    for row in range(len(x)):
        best = inf
        for places in combinations(range(6), min(k, 6) if k != inf else 6):
            other = pixels.flat(x[row : row + 1]).clone()
            other[..., list(places)] = pixels.flat(v[row : row + 1].clamp(0, 1))[..., list(places)]
            best = min(best, float((other.view_as(x[:1]) - v[row]).norm()))
        assert_close(float((u[row] - v[row]).norm()), best)


def test_points_of_the_set_stay_where_they_are():
    x, _ = images(SHAPES["colour"])
    v = Pixels(2).start(x, BOX, Noise.of(0, len(x), dtype=torch.float64))
    assert torch.equal(Pixels(2).project(v, x, BOX), v)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_row_has_its_number(shape):
    x, v = images(shape)
    k = torch.tensor([0.0, 1.0, 3.0, 6.0, inf])
    threat = Pixels(k).expand(x)
    assert threat.most == 6
    begun = threat.start(x, BOX, Noise.of(0, 5, dtype=torch.float64))
    reached = threat.project(v, x, BOX)
    expected = torch.tensor([0.0, 1.0, 3.0, 6.0, 6.0], dtype=torch.float64)
    assert_close(threat.distance(begun, x), expected)
    assert_close(threat.distance(reached, x), expected)
    for i, each in enumerate(k.tolist()):
        assert torch.equal(reached[i : i + 1], Pixels(each).project(v[i : i + 1], x[i : i + 1], BOX))
    with pytest.raises(ShapeError):
        Pixels(k).expand(x[:3])


def test_starts_are_uniform_over_positions_and_colours():
    """k of 6 positions: each is painted in a share k/6 of the rows; colours fill a box of each channel."""
    box = Box(torch.tensor([0.0, -1.0]).view(2, 1, 1), torch.tensor([1.0, 3.0]).view(2, 1, 1))
    n, k = 4000, 2
    x = torch.zeros(n, 2, 2, 3) + 0.5
    v = Pixels(k).start(x, box, Noise.of(1, n))
    painted = pixels.changed(v, x)
    assert torch.equal(painted.sum(1), torch.full((n,), k))
    share = painted.double().mean(0)
    assert (share - k / 6).abs().max() < 4 * (k / 6 * (1 - k / 6) / n) ** 0.5
    for channel, (low, high) in enumerate([(0, 1), (-1, 3)]):
        colours = pixels.flat(v)[:, channel][painted].double()
        assert low <= colours.min()
        assert colours.max() <= high
        error = 4 * (high - low) / (12 * len(colours)) ** 0.5
        assert abs(colours.mean() - (low + high) / 2) < error


def test_a_step_moves_coordinates_by_its_length_on_average():
    x, g = images(SHAPES["colour"])
    d = Pixels(1).steepest(g, x, BOX)
    assert_close(d.abs().mean((1, 2, 3)), torch.ones(5, dtype=torch.float64))
    assert_close(d / d.abs().amax((1, 2, 3), keepdim=True), g / g.abs().amax((1, 2, 3), keepdim=True))
    assert not Pixels(1).steepest(torch.zeros_like(g), x, BOX).any()


def test_painting_the_later_over_the_earlier_and_no_more_than_allowed():
    x = torch.zeros(3, 2, 2, 2)
    place, colour = torch.tensor([[1, 1, 2]] * 3), torch.arange(1.0, 7.0).view(3, 2).expand(3, 3, 2)
    threat = Pixels(torch.tensor([3.0, 2.0, 0.0])).expand(x)
    out = pixels.flat(threat.paint(x, place, colour))
    assert out[0].T.tolist() == [[0, 0], [3, 4], [5, 6], [0, 0]]
    assert out[1].T.tolist() == [[0, 0], [3, 4], [0, 0], [0, 0]]
    assert not out[2].any()
    assert not x.any()


@pytest.mark.parametrize("k", [0.5, -1, "one", torch.tensor([1.0, 1.5])])
def test_numbers_of_pixels_that_are_none(k):
    with pytest.raises(ArgumentError, match="Pixels needs"):
        Pixels(k)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("make", [lambda threat: pgd(threat, step=2.0), apgd])
def test_gradient_searches_come_near_the_optimum_of_a_linear_model(make, k):
    """At most the best k coordinates at their wall, those of the largest |w_i| times the way; 0.9 of it on average,
    since the set is not convex and a walk may rest at other coordinates."""
    net = linear()
    x, _ = images(SHAPES["flat"], 40)
    with torch.no_grad():
        w, y = net.weight[1] - net.weight[0], net(x).argmax(1)
    up = torch.where(y[:, None] == 0, w, -w)
    most = torch.where(up > 0, up * (1 - x), -up * x).topk(k, dim=1).values.sum(1)
    found = make(Pixels(k))(net, x, y, stop_early=False)
    gained = ((found.x - x) * up).sum(1)
    assert (found.distance <= k).all()
    assert (gained <= most + 1e-12).all()
    assert (gained / most).mean() >= 0.9


def test_a_curve_over_the_number_of_pixels():
    net = linear()
    x, _ = images(SHAPES["flat"], 20)
    with torch.no_grad():
        y = net(x).argmax(1)
    curve = apgd(Pixels(1), steps=10).curve(net, x, y, eps=[0, 1, 3, 6])
    assert curve.accuracy[0] == 1
    assert curve.accuracy[3] < curve.accuracy[1] < 1
