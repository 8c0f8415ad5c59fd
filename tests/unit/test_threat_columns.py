"""Tables: what stays, what counts, what has bounds; the nearest point; searches; refusals."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box, white_box
from psiphi.attacks import L1, L2, Attack, Linf, apgd, deepfool, pgd
from psiphi.attacks.searches import RandomPoints
from psiphi.attacks.threats import Columns
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box

BOX = Box(-5.0, 5.0)
RULES = {"immutable": (0,), "integers": (1, 2), "ranges": {2: (0, 3.7), 3: (-1.0, 0.5)}}


def table(b: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(b, 5, generator=draw, dtype=torch.float64)
    x[:, 1], x[:, 2] = x[:, 1].round().clamp(-5, 5), x[:, 2].round().clamp(0, 3)
    x[:, 3] = x[:, 3].clamp(-1.0, 0.5)
    x = x.clamp(-5, 5)
    return x, x + 3 * torch.randn(b, 5, generator=draw, dtype=torch.float64)


def linear(weight: list[float]) -> nn.Linear:
    net = nn.Linear(len(weight), 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0] * len(weight), weight]))
        net.bias.copy_(torch.tensor([1e3, 0.0]))  # never reached: walks end at the optimum
    return net


def allowed(v: torch.Tensor, x: torch.Tensor, ball: Linf | L2 | L1) -> None:
    assert torch.equal(v[:, 0], x[:, 0])
    assert torch.equal(v[:, 1:3], v[:, 1:3].round())
    assert ((v[:, 2] >= 0) & (v[:, 2] <= 3) & (v[:, 3] >= -1) & (v[:, 3] <= 0.5)).all()
    assert (v.abs() <= 5).all()
    assert (ball.distance(v, x) <= ball.eps + 1e-9).all()


@pytest.mark.parametrize("ball", [Linf(0.6), Linf(1.0), Linf(2.5), L2(0.7), L2(2.5), L1(1.2), L1(4.0)])
def test_points_and_starts_are_allowed(ball):
    x, v = table()
    threat = Columns(ball, **RULES)
    allowed(u := threat.project(v, x, BOX), x, ball)
    assert_close(threat.project(u, x, BOX), u, atol=1e-12, rtol=0)
    start = threat.start(x, BOX, Noise.of(0, len(x), dtype=torch.float64))
    allowed(start, x, ball)
    assert (start != x).any(1).all()
    assert torch.equal(threat.project(x, x, BOX), x)


def test_the_nearest_point_of_linf_by_brute_force():
    x, v = table(12)
    for eps in (0.6, 1.0, 2.5):
        u = Columns(Linf(eps), **RULES).project(v, x, BOX)
        for row, (first, second) in enumerate(zip(x[:, 1].tolist(), x[:, 2].tolist())):
            steps = range(-3, 4)
            pairs = [
                (first + a, second + b)
                for a, b in product(steps, steps)
                if max(abs(a), abs(b)) <= eps and abs(first + a) <= 5 and 0 <= second + b <= 3
            ]
            best = min(pairs, key=lambda pair: (pair[0] - v[row, 1]) ** 2 + (pair[1] - v[row, 2]) ** 2)
            assert tuple(u[row, 1:3].tolist()) == best


@pytest.mark.parametrize("ball", [L2(2.0), L1(3.0)])
def test_integers_are_rounded_where_that_fits_and_else_go_back(ball):
    x = torch.zeros(3, 2).double()
    v = torch.tensor([[0.8, 0.4], [1.9, 9.0], [0.0, -2.2]]).double()
    u = Columns(ball, integers=(0,)).project(v, x, BOX)
    plain = ball.project(v, x, BOX)
    assert torch.equal(u[0], torch.tensor([1.0, 0.4]).double())
    assert torch.equal(u[1, 0], plain[1, 0].trunc())
    assert torch.equal(u[1, 1], plain[1, 1])
    assert torch.equal(u[2], plain[2])


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_ascent_in_linf_reaches_the_best_whole_values(attack):
    """Steps of 0.16 would be rounded away: integers move by 1, into the corner that the weights point to."""
    x = torch.tensor([[0.5, 2, 1, 0.1, -0.3]], dtype=torch.float64).expand(6, 5).clone()
    net = linear([3.0, -1.0, 2.0, 1.0, -2.0])
    attacked = attack(Columns(Linf(2.5), **RULES), steps=40, goal="margin")
    result = attacked(white_box(net, bounds=(-5, 5)), x, torch.zeros(6).long(), stop_early=False)
    assert_close(
        result.x, torch.tensor([[0.5, 0, 3, 0.5, -2.8]], dtype=torch.float64).expand(6, 5), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("ball", [L2(1.5), L1(2.0)])
def test_ascent_in_other_balls_is_that_of_the_free_columns(ball):
    x = torch.tensor([[0.5, 0.2, 1.0]]).double()
    net = linear([100.0, -1.0, 2.0])
    held = pgd(Columns(ball, immutable=(0,)), steps=9, goal="margin", random_start=False)
    result = held(white_box(net, bounds=(-5, 5)), x, torch.zeros(1).long(), stop_early=False)
    free = linear([-1.0, 2.0])
    theory = pgd(ball, steps=9, goal="margin", random_start=False)(
        white_box(free, bounds=(-5, 5)), x[:, 1:], torch.zeros(1).long(), stop_early=False
    )
    assert result.x[0, 0] == 0.5
    assert_close(result.x[:, 1:], theory.x, atol=1e-9, rtol=0)


def test_a_curve_and_a_black_box():
    x, _ = table(30)
    net = linear([3.0, -1.0, 2.0, 1.0, -2.0])
    with torch.no_grad():
        net.bias.zero_()
    y = net(x).argmax(1)
    access = white_box(net, bounds=(-5, 5))
    curve = pgd(Columns(Linf(), **RULES), steps=10).curve(access, x, y, eps=[0.5, 1.0, 3.0])
    alone = pgd(Columns(Linf(1.0), **RULES), steps=10)(access, x, y)
    assert torch.equal(curve.robust[:, 1], alone.robust)
    assert curve.accuracy[0] > curve.accuracy[2]
    box = black_box(net, "labels", bounds=(-5, 5))
    drawn = Attack(Columns(L2(3.0), **RULES), goals.margin, RandomPoints(30))(box, x, y)
    assert drawn.success.any()
    allowed(drawn.x, x, L2(3.0))


def test_columns_of_data_with_more_axes_are_their_flat_coordinates():
    x = torch.zeros(2, 2, 3)
    u = Columns(Linf(0.5), immutable=(4,)).project(torch.ones(2, 2, 3), x, Box())
    assert u[0].flatten().tolist() == [0.5, 0.5, 0.5, 0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: Columns(0.1), ArgumentError, "needs a ball, Linf, L2 or L1; got 0.1"),
        (
            lambda: Columns(Linf(0.1), immutable=(-1,)),
            ArgumentError,
            r"immutable names columns.*from 0 on; got \(-1,\)",
        ),
        (
            lambda: Columns(Linf(0.1), integers=("age",)),
            ArgumentError,
            "integers names columns by their numbers",
        ),
        (lambda: Columns(Linf(0.1), ranges={-2: (0, 1)}), ArgumentError, "ranges names columns"),
        (
            lambda: Columns(Linf(0.1), ranges={1: (1, 0)}),
            ArgumentError,
            r"range of column 1 is \(low, high\)",
        ),
        (
            lambda: Columns(Linf(0.1), immutable=(7,)).expand(table()[0]),
            ArgumentError,
            "column 7, but a row has 5",
        ),
        (
            lambda: Columns(Linf(1), integers=(4,)).expand(table()[0]),
            DataError,
            "row 0 has .* in column 4.*whole",
        ),
        (
            lambda: Columns(Linf(1), ranges={4: (8, 9)}).expand(table()[0]),
            DataError,
            "range is from 8 to 9 .40 rows do",
        ),
        (lambda: deepfool(Columns(L2())), ArgumentError, "a least change onto a plane, which Columns"),
    ],
)
def test_what_is_refused(make, kind, said):
    with pytest.raises(kind, match=said):
        make()


def test_its_name_and_radius():
    threat = Columns(L2(0.5), integers=(1,), ranges={0: (0, 1)})
    assert repr(threat) == "Columns(L2(0.5), integers=(1,), ranges={0: (0, 1)})"
    assert threat.eps == 0.5
    assert Columns(L2(0.5), eps=2.0).ball.eps == 2.0
