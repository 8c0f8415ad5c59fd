"""Estimated gradients: an identity, rows, counts, what may be returned. Their means and variances are law 19b."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box
from psiphi.attacks import L1, L2, Attack, Linf, nes, pgd
from psiphi.attacks.searches import (
    AutoStep,
    Crossing,
    Estimated,
    Lagrangian,
    SparseAutoStep,
    Sphere,
    Steepest,
)
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas import estimates, goals
from psiphi.formulas.geometry import Box

KINDS = pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
SEARCHES = {
    "steepest": (Linf(0.3), Steepest(7, restarts=2)),
    "momentum": (Linf(0.3), Steepest(7, momentum=0.9)),
    "apgd": (L2(0.3), AutoStep(12)),
    "sparse": (L1(0.3), SparseAutoStep(12)),
    "ddn": (L2(), Sphere(9, init=0.3)),
    "cw": (L2(), Lagrangian(8, 2, warm=False)),
}


def network(d: int = 6, k: int = 3, scale: float = 1.0) -> nn.Sequential:
    gen = torch.Generator().manual_seed(d)
    net = nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, k)).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=gen, dtype=p.dtype) / p.shape[-1] ** 0.5)
    return net


def data(n: int, d: int = 6) -> torch.Tensor:
    gen = torch.Generator().manual_seed(n)
    return (1.6 * torch.rand(n, d, dtype=torch.float64, generator=gen) - 0.3).clamp(0, 1)


def test_it_is_known_by_name_with_its_published_defaults():
    default = {name: p.default for name, p in attacks["nes"].parameters.items()}
    assert (default["samples"], default["sigma"], default["kind"]) == (50, 0.001, "gaussian")
    assert repr(attacks["nes"].build(Linf(0.1))).startswith("nes(Linf(0.1), steps=100")


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("size", [7, 100])
def test_of_one_coordinate_signs_give_the_gradient_itself(name, size):
    """(d − 1)/m = 0: each search then walks as it does on gradients, at walls too, whatever the rows beside it do."""
    threat, search = SEARCHES[name]
    net = nn.Linear(1, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[-3.0], [2.0]]))
        net.bias.copy_(torch.tensor([1.6, -1.6]))
    x = torch.linspace(0, 1, 13, dtype=torch.float64)[:, None]
    kind = "fixed-perturbation" if threat.radius else "minimum-norm"
    seen, guessed = (
        Attack(threat, goals.margin, each, kind=kind)
        for each in (search, Estimated(search, 4, 0.02, "rademacher"))
    )
    white, black = (
        seen(net, x, stop_early=False),
        guessed(black_box(net), x, stop_early=False, batch_size=size),
    )
    assert torch.equal(black.success, white.success)
    assert int(white.broken.sum()) > 0
    if kind == "fixed-perturbation":
        assert_close(black.score, white.score, atol=1e-9, rtol=0)
        assert_close(black.x, white.x, atol=1e-9, rtol=0)
    else:  # a point of a difference may be nearer than all of the walk, and none is nearer than the boundary, at 0.64
        least = (x[:, 0] - 0.64).abs()
        assert (black.distance <= white.distance + 1e-9)[white.success].all()
        assert (black.distance >= least - 1e-9)[white.success].all()


@KINDS
def test_rows_do_not_know_of_each_other(kind):
    """Slices of any size, rows that enter while others are half told, rows that leave early."""
    net, x = network(scale=4.0), data(9)
    attack = nes(L2(1.5), steps=5, samples=8, kind=kind)
    whole = attack(black_box(net), x, seed=3)
    assert 0 < int(whole.success.sum()) < len(x)
    for size in (2, 5):
        part = attack(black_box(net), x, seed=3, batch_size=size)
        assert_close(part.x, whole.x, atol=1e-7, rtol=0)
        assert torch.equal(part.forwards, whole.forwards)


def test_every_step_has_directions_of_its_own():
    found = []

    def told(gradient, v, box, length):
        found.append(gradient.clone())
        return torch.zeros_like(v)

    climb = Steepest(3, 0.1, random_start=False, direction=told)
    attack = Attack(Linf(0.1), goals.margin, Estimated(climb, 4, 0.01))
    attack(black_box(network()), torch.full((5, 6), 0.5, dtype=torch.float64), stop_early=False)
    one, two, three = found
    assert not torch.isclose(one, two).any()
    assert not torch.isclose(two, three).any()
    assert not torch.isclose(one[:-1], one[1:]).any()


@KINDS
def test_every_row_sent_counts(kind):
    net, x = network(), data(7)
    attack = nes(Linf(1e-3), steps=3, samples=4, kind=kind)
    for size in (1, 3, 64):
        result = attack(black_box(net), x, batch_size=size)
        assert result.forwards.tolist() == [1 + 3 * 5 + 1] * 7
        assert result.backwards.tolist() == [0] * 7
        assert attack(black_box(net, budget=9), x, batch_size=size).forwards.tolist() == [9] * 7


def test_a_point_beyond_the_radius_is_not_returned():
    """Differences reach across the boundary, which the ball does not."""
    net = nn.Linear(2, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        net.bias.copy_(torch.tensor([1.1, 0.0]))
    x, crossed = torch.full((20, 2), 0.5, dtype=torch.float64), []

    def classifier(v: torch.Tensor) -> torch.Tensor:
        crossed.append(int((v.sum(1) > 1.1).sum()))
        return net(v)

    result = nes(Linf(0.01), steps=5, samples=20, sigma=0.1)(black_box(classifier), x, torch.zeros(20).long())
    assert sum(crossed) > 100
    assert not result.success.any()
    assert (result.distance <= 0.01 + 1e-12).all()
    assert_close(result.x, x + 0.01, atol=1e-9, rtol=0)


@KINDS
def test_with_many_samples_it_does_as_well_as_gradients(kind):
    net, x = network(scale=2.0), data(30)
    y = net(x).argmax(1)
    how = {"stop_early": False, "seed": 5, "batch_size": 4000}
    white = pgd(L2(0.4), steps=20, random_start=False)(net, x, y, **how).score
    black = nes(L2(0.4), steps=20, samples=100, kind=kind)(black_box(net), x, y, **how).score
    clean = goals.cross_entropy(net(x), y)
    assert (black - clean).sum() >= 0.9 * (white - clean).sum()


@KINDS
def test_the_square_of_a_difference_is_its_mean(kind):
    """Of normal u by quadrature, of signs by the two of them, at every distance to two walls."""
    lo, hi, sigma = 0.0, 1.0, 0.3
    v = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = torch.exp(-(u**2) / 2)
    if kind == "rademacher":
        u = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        weight = torch.ones(2, dtype=torch.float64)
    plus, minus = estimates.pair(v[:, None].expand(6, len(u)), u.expand(6, len(u)), sigma, Box(lo, hi))
    mean = ((plus - minus) ** 2 * weight).sum(1) / weight.sum()
    assert_close(estimates.square(v[:, None], sigma, Box(lo, hi), kind)[:, 0], mean, atol=1e-8, rtol=0)
    wide = estimates.square(v[:, None], sigma, Box(-100.0, 100.0), kind)
    assert_close(wide, torch.full_like(wide, 4 * sigma**2))
    flat = estimates.square(v[:, None], sigma, Box(v[:, None], v[:, None]), kind)
    assert_close(flat, torch.zeros_like(flat))


def test_a_coordinate_without_room_stays():
    lo = torch.tensor([0.2 - 1e-9, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    hi = torch.tensor([0.2, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    x = data(5)
    x[:, 0] = 0.2
    result = nes(Linf(0.1), steps=4, samples=6)(black_box(network(), bounds=(lo, hi)), x, stop_early=False)
    assert_close(result.x[:, 0], x[:, 0], atol=1e-9, rtol=0)
    assert result.x.isfinite().all()
    assert ((result.x - x).abs() > 0.01).any(1).all()


def test_it_says_what_it_needs():
    with pytest.raises(ArgumentError, match="does not"):
        Estimated(Crossing())
    with pytest.raises(ArgumentError, match="Jacobian at x"):
        Estimated(Sphere())
    for wrong in ({"samples": 3}, {"samples": 0}, {"sigma": 0.0}, {"kind": "uniform"}, {"momentum": -1.0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            nes(Linf(0.1), **wrong)
    with pytest.raises(ArgumentError, match="Estimated searches balls of L2"):
        Attack(Linf(0.1), goals.margin, Estimated(Sphere(3, init=0.5)))

    class Bare:
        """A threat without a steepest step."""

    with pytest.raises(ArgumentError, match="a steepest step"):
        nes(Bare())
