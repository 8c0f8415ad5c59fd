"""Accuracy against the radius: bisection agrees with runs by themselves, within its budget of gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.attacks import Linf, pgd
from psiphi.basis.errors import ArgumentError

STEPS = 8


def linear(d: int = 6) -> nn.Sequential:
    """Two classes that part at the centre of the box."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(d, 2)).double()
    with torch.no_grad():
        net[1].bias.copy_(-0.5 * net[1].weight.sum(1))
    return net


def rows(n: int, d: int = 6) -> torch.Tensor:
    """Inside [0.35, 0.65], so that no wall is met within a radius of 0.35."""
    return 0.35 + 0.3 * torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def radius(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of a linear model in L∞: margin/‖w₁ − w₀‖₁; 0 where misclassified."""
    weight, logits = net[1].weight[1] - net[1].weight[0], net(x)
    margin = (logits[:, 1] - logits[:, 0]) * (2 * y - 1)
    return (margin / weight.abs().sum()).clamp_min(0).detach()


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7, 15])
def test_a_curve_is_the_closed_form_of_a_linear_model(count, independent):
    net, x = linear(), rows(60)
    y = net(x).argmax(1)
    y[:5] = 1 - y[:5]
    theory = radius(net, x, y)
    assert theory.max() < 0.3
    eps = torch.linspace(0, float(theory.max()) * 1.1, count + 1, dtype=torch.float64)[1:].tolist()
    stands = theory[:, None] > torch.tensor(eps, dtype=torch.float64)
    found = pgd(Linf(), STEPS, random_start=False).curve(net, x, y, eps=eps, independent=independent)
    assert torch.equal(found.robust, stands)
    assert torch.equal(found.clean, theory > 0)
    assert_close(found.accuracy, stands.double().mean(0))
    assert found.clean_accuracy == pytest.approx(55 / 60)
    for each, true in zip(found.broken_at, theory, strict=True):
        above = [e for e in eps if e >= true]
        assert each == (0 if true == 0 else above[0] if above else torch.inf)


@pytest.mark.parametrize(("count", "runs"), [(1, 1), (3, 2), (7, 3), (15, 4)])
def test_bisection_keeps_its_budget(count, runs):
    torch.manual_seed(1)
    net, x = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).double(), rows(80)
    eps = torch.linspace(0.02, 0.4, count).tolist()
    found = pgd(Linf(), STEPS).curve(net, x, eps=eps)
    assert found.backwards.max() <= runs * STEPS
    assert found.forwards.max() <= runs * (STEPS + 2)
    assert found.accuracy[0] > 0
    alone = pgd(Linf(), STEPS).curve(net, x, eps=eps, independent=True)
    assert alone.backwards.max() > found.backwards.max() or count == 1
    assert (alone.robust == found.robust).double().mean() > 0.99


def test_accuracy_never_rises_with_the_radius():
    torch.manual_seed(1)
    net, x = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).double(), rows(80)
    found = pgd(Linf(), STEPS).curve(net, x, eps=[0.05, 0.1, 0.2, 0.3])
    assert (found.accuracy.diff() <= 0).all()
    low, high = found.intervals.unbind(1)
    assert ((low <= found.accuracy) & (found.accuracy <= high)).all()
    assert (found.robust.int().diff(dim=1) <= 0).all()


def test_rows_keep_their_noise_in_a_curve():
    """The radius at which a row stands is the one that the attack alone gives it there."""
    torch.manual_seed(1)
    net, x = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).double(), rows(80)
    found = pgd(Linf(), STEPS).curve(net, x, eps=[0.15], seed=5)
    alone = pgd(Linf(0.15), STEPS)(net, x, seed=5)
    assert torch.equal(found.robust[:, 0], alone.robust)
    assert torch.equal(found.backwards, alone.backwards)


@pytest.mark.parametrize(
    "eps", [[], [0.2, 0.1], [0.1, 0.1], [-0.1, 0.2], [0.1, float("nan")], [0.1, float("inf")]]
)
def test_radii_rise(eps):
    with pytest.raises(ArgumentError, match="rising order"):
        pgd(Linf(), STEPS).curve(linear(), rows(4), eps=eps)
