"""One threat after another: both parts are used and each stays within its share."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.attacks import L2, Attack, Linf, apgd, pgd
from psiphi.attacks.searches import Grid, RandomPoints
from psiphi.attacks.threats import Chain, Patch, Spatial
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box

TURN = Spatial(degrees=20, pixels=2)


def images(b: int = 8) -> torch.Tensor:
    return torch.rand(b, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    net, draw = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=draw))
    return net


PAIRS = [
    Chain(TURN, Linf(0.05)),
    Chain(TURN, L2(0.4)),
    Chain(TURN, Patch(2, eps=1.0)),
    Chain(Patch(3, eps=0.5), TURN),
]


@pytest.mark.parametrize("chain", PAIRS, ids=repr)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_starts_and_nearest_points_stay_within_both_shares(chain, share):
    x = images()
    threat = Chain(chain.first, chain.second, eps=share).expand(x)
    origin, walls = threat.origin(x), threat.walls(Box(), x)
    assert torch.equal(threat.decode(origin, x, Box()), x)
    start = threat.start(origin, walls, Noise.of(0, len(x)))
    v = origin + torch.randn(origin.shape, generator=torch.Generator().manual_seed(1))
    for u in (start, threat.project(v, origin, walls)):
        assert (threat.distance(u, origin) <= share * (1 + 1e-5)).all()
        assert_close(threat.project(u, origin, walls), u)
    sent = threat.decode(start, x, Box())
    assert sent.min() >= 0
    assert sent.max() <= 1
    if share:
        assert (start != 0).any(1).all()


def test_what_it_stands_for():
    x = images()
    threat = Chain(TURN, Linf(0.05)).expand(x)
    u = threat.start(threat.origin(x), threat.walls(Box(), x), Noise.of(0, len(x)))
    turned = TURN.expand(x).decode(u[:, :3], x, Box())
    assert_close(threat.decode(u, x, Box()), (turned + u[:, 3:].view_as(x)).clamp(0, 1), atol=0, rtol=0)


def test_steps_are_shares_of_the_radii():
    x = images()
    threat = Chain(TURN, Linf(0.05)).expand(x)
    origin, walls = threat.origin(x), threat.walls(Box(), x)
    g = torch.randn(origin.shape, generator=torch.Generator().manual_seed(1))
    d = threat.steepest(g, origin, walls, torch.full((8,), 0.1))
    assert torch.equal(d[:, :3], g[:, :3].sign())
    assert torch.equal(d[:, 3:], 0.05 * g[:, 3:].sign())
    for part in (slice(None), slice(0, 3), slice(3, None)):
        moved = torch.zeros_like(d)
        moved[:, part] = 0.3 * d[:, part]
        assert_close(threat.distance(moved, origin), torch.full((8,), 0.3))


def test_gradients_are_true_and_lead_back_into_the_box():
    x = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).double()
    threat = Chain(Spatial(degrees=0, pixels=0), Linf(0.5)).expand(x)
    delta = torch.tensor([-0.2, 0.1, 0.3]).double()
    for sign, theory in ((1.0, [1.0, 1.0, 0.0]), (-1.0, [0.0, -1.0, -1.0])):
        u = torch.cat((torch.zeros(3).double(), delta))[None].requires_grad_()
        threat.decode(u, x, Box()).backward(torch.full_like(x, sign))
        assert u.grad[0, 3:].tolist() == theory
    inside = images(2).double().mul(0.4).add_(0.3)
    chain = Chain(Spatial(border="border"), Linf(0.1)).expand(inside)
    u = 0.07 * torch.randn(2, 75, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda u: chain.decode(u, inside, Box()), u.requires_grad_())


@pytest.mark.parametrize("attack", [lambda t: pgd(t, steps=12), lambda t: apgd(t, steps=12)])
def test_two_parts_reach_further_than_each(attack):
    x = images(24)
    net = network()
    both = attack(Chain(TURN, Linf(0.02)))(net, x, stop_early=False)
    for one in (TURN, Linf(0.02)):
        assert both.score.mean() > attack(one)(net, x, stop_early=False).score.mean()
    assert both.change.shape == (24, 3 + 72)
    assert (both.distance <= 1 + 1e-5).all()
    assert both.success.sum() >= attack(TURN)(net, x).success.sum()


@pytest.mark.parametrize("chain", PAIRS, ids=repr)
def test_the_batch_changes_nothing_and_shares_make_a_curve(chain):
    x, net = images(), network()
    for attack in (pgd(chain, steps=3, restarts=2), Attack(chain, goals.margin, RandomPoints(3))):
        whole, parts = attack(net, x), attack(net, x, batch_size=3)
        assert torch.equal(whole.success, parts.success)
        assert torch.equal(whole.forwards, parts.forwards)
        assert_close(whole.change, parts.change)
    curve = pgd(chain, steps=3).curve(net, x, eps=[0.2, 1.0])
    assert curve.accuracy[1] <= curve.accuracy[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Chain(TURN, Linf()), "takes shares of the radii of its parts, and Linf.. has none"),
        (lambda: Chain(TURN, Patch(2)), "and Patch.* has none: give it one, e.g. eps=1.0"),
        (lambda: Chain(TURN, 0.1), "a radius and a steepest step; got 0.1"),
        (
            lambda: Chain(TURN, Linf(0.1)).project(*[torch.zeros(1, 5)] * 2, Box()),
            "the shape of the data yet",
        ),
        (
            lambda: Attack(Chain(TURN, Linf(0.1)), goals.margin, Grid(3)),
            "Grid needs a grid of points, which Chain",
        ),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(ArgumentError, match=said):
        make()


def test_its_name():
    assert (
        repr(Chain(Patch(2, eps=1.0), Linf(0.1), eps=0.5))
        == "Chain(Patch(size=(2, 2), place='center', eps=1), Linf(0.1), eps=0.5)"
    )
