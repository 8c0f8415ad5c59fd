"""Threats: radii that are numbers, one a row, zero, or not given; what they refuse; their names."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch
from torch.testing import assert_close

from psiphi.attacks.threats import L1, L2, Linf, parse
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.formulas.geometry import Box

BALLS = [Linf, L2, L1]
ORDER = {Linf: inf, L2: 2, L1: 1}
BOX = Box(0.0, 1.0)


def images(b: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    gen = torch.Generator().manual_seed(0)
    x = torch.rand(b, 3, 2, 2, generator=gen)
    return x, x + torch.randn(x.shape, generator=gen)


@pytest.mark.parametrize("ball", BALLS)
def test_without_a_radius_the_box_alone_limits(ball):
    x, v = images()
    assert repr(ball()) == f"{ball.__name__}()"
    assert torch.equal(ball().project(v, x, BOX), v.clamp(0, 1))
    assert torch.equal(ball().expand(x).project(v, x, BOX), v.clamp(0, 1))
    with pytest.raises(ArgumentError, match=r"no radius.*random_start=False"):
        ball().start(x, BOX, Noise.of(0, len(x)))


@pytest.mark.parametrize("ball", BALLS)
def test_zero_radius_moves_nothing(ball):
    x, v = images()
    assert torch.equal(ball(0).project(v, x, BOX), x)
    assert torch.equal(ball(0).start(x, BOX, Noise.of(0, len(x))), x)


@pytest.mark.parametrize("ball", BALLS)
def test_each_row_has_its_radius(ball):
    x, v = images()
    radii = torch.tensor([0.0, 0.05, 0.2, 0.8, inf])
    u = ball(radii).project(v, x, BOX)
    for i, eps in enumerate(radii.tolist()):
        assert_close(u[i : i + 1], ball(eps).project(v[i : i + 1], x[i : i + 1], BOX), atol=0, rtol=0)
    begun = ball(radii[:4]).start(x[:4], BOX, Noise.of(0, 4))
    assert (ball().distance(begun, x[:4]) <= radii[:4] + 1e-6).all()
    with pytest.raises(ShapeError):
        ball(radii).expand(x[:3])


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("b", [0, 1])
def test_batches_of_none_and_one(ball, b):
    x, v = images(b)
    threat = ball(0.3).expand(x)
    for made in (
        threat.start(x, BOX, Noise.of(0, b)),
        threat.project(v, x, BOX),
        threat.steepest(v - x, x, BOX),
    ):
        assert made.shape == x.shape
    assert threat.steepest(v - x, x, BOX, threat.eps).shape == x.shape
    delta, reached = threat.reach(v - x, torch.ones(b), x, BOX)
    assert delta.shape == x.shape
    for each in (reached, threat.distance(v, x), threat.dual(v)):
        assert each.shape == (b,)


@pytest.mark.parametrize("ball", BALLS)
def test_distance_and_dual_are_a_pair(ball):
    """⟨g, d⟩ ≤ dual(g) · size(d), with equality along the steepest direction."""
    x, v = images()
    g, middle = v - x, torch.full_like(x, 0.5)
    d = ball().steepest(g, middle, BOX)
    assert_close((g * d).flatten(1).sum(1), ball().dual(g))
    assert_close(ball().distance(x + d, x), torch.ones(5))
    assert_close(ball().distance(v, x), (v - x).flatten(1).norm(p=ORDER[ball], dim=1))


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("eps", [-1, nan, -inf, "far", torch.tensor([0.1, -0.1]), torch.tensor([nan])])
def test_radii_that_are_none(ball, eps):
    with pytest.raises(ArgumentError, match="radius"):
        ball(eps)


def test_text():
    assert parse("l1:12") == L1(12)
    assert parse("l2") == L2()
    assert parse(" Linf ") == Linf()
    assert parse("L2:inf") == L2()
    for text in ("l1:", "l1:nan", "l1:-2", "l0", ""):
        with pytest.raises(ArgumentError, match="or the name alone"):
            parse(text)
