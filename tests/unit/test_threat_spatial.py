"""Rotations, translations and scales: closed forms on planes and by slicing, ranges, searches, refusals."""

from __future__ import annotations

from math import cos, pi, sin

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box, white_box
from psiphi.attacks import Attack, Linf, apgd, pgd, spatial
from psiphi.attacks.searches import Grid, RandomPoints
from psiphi.attacks.threats import Spatial
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box
from psiphi.formulas.warps import BORDERS, turned


def images(
    b: int = 4, c: int = 2, h: int = 9, w: int = 9, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    return torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(0), dtype=dtype)


def network(x: torch.Tensor, classes: int = 3) -> nn.Sequential:
    net, draw = (
        nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), classes)),
        torch.Generator().manual_seed(1),
    )
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=draw))
    return net.to(x.dtype)


def changed(threat: Spatial, u: list[float], x: torch.Tensor) -> torch.Tensor:
    return threat.expand(x).decode(torch.tensor(u).to(x).expand(len(x), -1), x, Box())


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 5), (28, 28), (33, 32)])
def test_no_change_is_the_identity_to_the_bit(border, dtype, size):
    x = images(3, 2, *size, dtype=dtype)
    threat = Spatial(scale=0.3, border=border).expand(x)
    assert torch.equal(threat.decode(threat.origin(x), x, Box()), x)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -35.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.25, -0.5)])
@pytest.mark.parametrize("scale", [1.0, 1.3, 0.9])
def test_a_plane_is_turned_in_closed_form(degrees, shift, scale):
    """Bilinear interpolation is exact of a plane, so v(p) is the plane at c + R(−θ)(p − c − s)/k, row and column."""
    h, w = 31, 24
    rows, columns = torch.arange(h).double()[:, None], torch.arange(w).double()
    x = (0.2 * rows - 0.7 * columns)[None, None]
    angle = degrees * pi / 180
    theta, k, s = (torch.tensor([each], dtype=torch.float64) for each in (angle, scale, shift))
    v = turned(x, theta, s, k)
    r, c = (rows - 15 - shift[0]) / scale, (columns - 11.5 - shift[1]) / scale
    at_row, at_column = 15 + r * cos(angle) + c * sin(angle), 11.5 + c * cos(angle) - r * sin(angle)
    inside = (at_row >= 0) & (at_row <= h - 1) & (at_column >= 0) & (at_column <= w - 1)
    assert inside.float().mean() > 0.5
    assert_close(v[0, 0][inside], (0.2 * at_row - 0.7 * at_column)[inside], atol=1e-12, rtol=0)


def test_turns_are_anticlockwise_and_shifts_go_down_and_right():
    x = images(h=8, w=8)
    assert_close(changed(Spatial(degrees=90), [1, 0, 0], x), x.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    assert_close(changed(Spatial(degrees=90), [-1, 0, 0], x), x.rot90(-1, (2, 3)), atol=1e-5, rtol=0)
    moved = changed(Spatial(pixels=(2, 4)), [0, 1, 0.25], x)
    assert torch.equal(moved[:, :, 2:, 1:], x[:, :, :-2, :-1])
    assert (moved[:, :, :2] == 0).all()
    assert (moved[..., :1] == 0).all()


def test_what_comes_in_from_beyond_the_edge():
    x = images(1, 1, 4, 4)
    u = [0.0, 1.0, 0.0]
    nearest = changed(Spatial(pixels=2, border="border"), u, x)
    mirrored = changed(Spatial(pixels=2, border="reflection"), u, x)
    assert torch.equal(nearest[0, 0, :2], x[0, 0, :1].expand(2, 4))
    assert torch.equal(mirrored[0, 0, :2], x[0, 0, :2].flip(0))
    assert torch.equal(
        Spatial(pixels=2).expand(x).decode(torch.tensor([u]), x, Box(0.25, 1))[0, 0, 0],
        x.new_full((4,), 0.25),
    )


def test_scale_enlarges_and_its_inverse_shrinks():
    x = images(1, 1, 5, 5)
    larger = changed(Spatial(scale=1.0), [0, 0, 0, 1], x)
    assert torch.equal(larger[0, 0, ::2, ::2], x[0, 0, 1:4, 1:4])
    smaller = changed(Spatial(scale=1.0), [0, 0, 0, -1], x)
    assert torch.equal(smaller[0, 0, 1:4, 1:4], x[0, 0, ::2, ::2])


def test_its_gradient_is_that_of_differences():
    x = images(2, 1, 6, 7, dtype=torch.float64)
    threat = Spatial(scale=0.2).expand(x)
    u = torch.tensor([[0.31, -0.2, 0.43, 0.3], [-0.7, 0.55, 0.17, -0.6]]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: threat.decode(u, x, Box()), u)


def test_the_ball_of_shares():
    x = images(3)
    threat = Spatial(degrees=10, pixels=(0, 2), eps=torch.tensor([0.0, 0.5, 1.0])).expand(x)
    origin, walls = threat.origin(x), threat.walls(Box(), x)
    far = threat.project(torch.full_like(origin, 9.0), origin, walls)
    assert torch.equal(far, torch.tensor([[0.0, 0, 0], [0.5, 0, 0.5], [1, 0, 1]]))
    assert torch.equal(threat.distance(far, origin), torch.tensor([0.0, 0.5, 1.0]))
    up = threat.steepest(torch.tensor([[1.0, 2, -3]] * 3), far, walls)
    assert torch.equal(up, torch.tensor([[1.0, 0, -1], [1, 0, -1], [0, 0, -1]]))
    drawn = (
        Spatial(pixels=(0, 2), eps=0.5)
        .expand(images(512))
        .start(
            images(512).new_zeros(512, 3),
            Box(-torch.tensor([1.0, 0, 1]), torch.tensor([1.0, 0, 1])),
            Noise.of(3, 512),
        )
    )
    assert (drawn[:, 1] == 0).all()
    assert (drawn.abs() <= 0.5).all()
    assert (drawn[:, [0, 2]].square().mean(0) - 1 / 12).abs().max() < 4 * (1 / 180 / 512) ** 0.5


@pytest.mark.parametrize("search", ["grid", "random", "gradient"])
def test_a_range_of_nothing_stays_and_the_rest_stays_within(search):
    x = images(6)
    attack = spatial(Spatial(degrees=0, pixels=(0, 2), eps=0.5), search, counts=5, steps=10, step=0.2)
    result = attack(network(x), x, stop_early=False)
    assert (result.change[:, :2] == 0).all()
    assert (result.change.abs() <= 0.5).all()
    assert (result.change != 0).any()
    assert torch.equal(result.distance, result.change.abs().amax(1))
    assert_close(result.x, attack.threat.expand(x).decode(result.change, x, Box()), atol=0, rtol=0)


def test_the_grid_is_that_of_the_paper():
    points = Spatial().grid((31, 5, 5))
    assert points.shape == (775, 3)
    assert len(points.unique(dim=0)) == 775
    assert (points == 0).all(1).sum() == 1
    assert_close(points[:, 0].unique() * 30, torch.arange(-30.0, 31, 2).double())
    assert_close(points[:, 1].unique() * 3, torch.tensor([-3, -1.5, 0, 1.5, 3]).double())
    assert Spatial(degrees=0).grid((31, 5, 5)).shape == (25, 3)
    assert (points.abs().sum(1).diff() <= 0).all()


@pytest.mark.parametrize("search", ["grid", "random", "gradient"])
def test_the_batch_changes_nothing(search):
    x = images(7)
    attack = spatial(Spatial(degrees=8, pixels=1), search, counts=3, draws=4, steps=4, step=0.3, restarts=2)
    whole = attack(network(x), x)
    for size in (1, 3):
        parts = attack(network(x), x, batch_size=size)
        assert torch.equal(parts.success, whole.success)
        assert torch.equal(parts.forwards, whole.forwards)
        assert_close(parts.change, whole.change, atol=0, rtol=0)


@pytest.mark.parametrize("reveal", ["scores", "labels"])
@pytest.mark.parametrize("search", [Grid(3), RandomPoints(27)])
def test_black_boxes_and_their_budgets(reveal, search):
    x = images(8)
    net = network(x)
    y = net(x).argmax(1)
    attack = Attack(Spatial(degrees=20, pixels=2), goals.margin, search)
    full = attack(black_box(net, reveal), x, y)
    assert full.success.sum() > 0
    assert full.forwards.max() <= 29
    assert torch.equal(full.robust, attack(white_box(net), x, y).robust)
    assert (net(full.x).argmax(1) != y)[full.success].all()
    small = Attack(Spatial(degrees=1, pixels=0.01), goals.margin, search)(black_box(net, reveal), x, y)
    assert small.robust.any()
    assert (small.forwards[small.robust] == 28).all()
    short = attack(black_box(net, reveal, budget=4), x, y)
    assert (short.forwards <= 4).all()
    assert short.success.sum() <= full.success.sum()


def test_random_points_are_drawn_anew_each_time():
    x, seen = images(3), []
    net = network(x)

    def recorded(v: torch.Tensor) -> torch.Tensor:
        seen.append(v)
        return net(v)

    Attack(Spatial(), goals.margin, RandomPoints(6))(black_box(recorded, "scores"), x, stop_early=False)
    assert len(torch.cat(seen).unique(dim=0)) == 3 * (1 + 6)


def test_a_curve_is_over_shares_of_the_ranges():
    x = images(12)
    net = network(x)
    curve = spatial(Spatial(degrees=40, pixels=2), counts=3).curve(net, x, eps=[0.1, 0.5, 1.0])
    assert (curve.accuracy.diff() <= 0).all()
    assert curve.accuracy[0] > curve.accuracy[-1]
    for place, share in enumerate((0.1, 0.5, 1.0)):
        alone = spatial(Spatial(degrees=40 * share, pixels=2 * share), counts=3)(net, x)
        assert (curve.robust[:, place] <= alone.robust).all()


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_ascent_moves_in_its_coordinates(attack):
    x = images(8)
    net = network(x)
    climbed = attack(Spatial(degrees=10, pixels=1), steps=20)(net, x, stop_early=False)
    start = spatial(Spatial(degrees=10, pixels=1), "random", draws=1)(net, x, stop_early=False)
    assert climbed.score.mean() > start.score.mean()
    assert climbed.change.shape == (8, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Spatial(degrees=-1), "ranges of at least 0.*degrees=-1"),
        (lambda: Spatial(pixels=(1, 2, 3)), r"pixels=\(1, 2, 3\)"),
        (lambda: Spatial(scale=float("inf")), "scale=inf"),
        (lambda: Spatial(border="wrap"), "border is one of 'zeros', 'border', 'reflection'; got 'wrap'"),
        (lambda: spatial(search="best"), "search is one of 'grid', 'random', 'gradient'; got 'best'"),
        (lambda: spatial(Spatial(scale=0.1)), "needs 4 counts .angle, rows, columns, scale., or one for all"),
        (lambda: Grid((3, 0, 3)), "count is a whole number of at least 1; got 0"),
        (lambda: RandomPoints(0), "draws is a whole number of at least 1; got 0"),
        (
            lambda: Attack(Linf(0.1), goals.margin, Grid(3)),
            "Grid needs a grid of points, which Linf.0.1. does not",
        ),
        (lambda: spatial()(network(images().half()), images()), "needs float32 or float64.*float16"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(ArgumentError, match=said):
        make()


def test_only_images_can_be_turned():
    with pytest.raises(ShapeError, match=r"turns images \(B, C, H, W\); got \(4, 162\)"):
        spatial()(nn.Linear(162, 3), images().flatten(1))
    assert repr(Spatial(pixels=(3, 3), eps=0.5)) == "Spatial(degrees=30, pixels=3, border='zeros', eps=0.5)"
