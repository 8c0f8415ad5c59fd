"""Carlini and Wagner's attack: its recursion, its chart, its bisection, its distances."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import white_box
from psiphi.attacks import L2, carlini_wagner
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.goals import margin

FAST = {"steps": 60, "bisections": 4}


def network(k: int = 3, d: int = 8) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(d, 24), nn.Tanh(), nn.Linear(24, k)).double()


def rows(n: int, d: int = 8) -> torch.Tensor:
    """A good part of the coordinates exactly at the walls of [0, 1]."""
    gen = torch.Generator().manual_seed(n)
    return (1.6 * torch.rand(n, d, dtype=torch.float64, generator=gen) - 0.3).clamp(0, 1)


def published(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, rounds: int, lr: float, c: float
) -> float:
    """The least distance of one row, by a plain loop: every round from x, torch's own Adam, c by bisection."""
    low, high, least = 0.0, float("inf"), float("inf")
    for _ in range(rounds):
        w = ((2 * x - 1) * (1 - 1e-4)).atanh().requires_grad_()
        adam, found = torch.optim.Adam([w], lr=lr), False
        for _ in range(steps):
            v = (1 + w.tanh()) / 2
            square, score = (v - x).square().sum(), margin(net(v[None]), y[None])[0]
            if score > 1e-13:
                found, least = True, min(least, float(square.detach().sqrt()))
            adam.zero_grad()
            (square + c * (-score).clamp_min(0)).backward()
            adam.step()
        low, high = (low, c) if found else (c, high)
        c = (low + high) / 2 if high < float("inf") else 10 * c
    return least


def test_cold_rounds_are_the_published_attack():
    """To 1e-4: where a slope is nearly 0, Adam divides its rounding by 1e-8, and the hinge amplifies that."""
    net, x = network(), rows(5)
    y = net(x).argmax(1)
    attack = carlini_wagner(
        steps=25, bisections=5, lr=0.05, initial_c=0.05, decay=1, patience=10**6, warm=False
    )
    result = attack(net, x, y)
    for i in range(len(x)):
        least = published(net, x[i], y[i], 25, 5, 0.05, 0.05)
        assert result.success[i] == (least < float("inf"))
        if result.success[i]:
            assert_close(float(result.distance[i]), least, rtol=1e-4, atol=0)
    assert result.success.any()
    assert (result.backwards == 25 * 5).all()


def test_warm_rounds_go_nearer_in_fewer_steps():
    net, x = network(), rows(40)
    cold = carlini_wagner(
        steps=100, bisections=9, lr=0.01, initial_c=1e-3, decay=1, patience=100, warm=False
    )(net, x)
    warm = carlini_wagner()(net, x)
    assert warm.success.all()
    both = cold.success
    assert both.any()
    assert warm.distance[both].mean() <= cold.distance[both].mean()
    assert (warm.distance[both] <= 1.02 * cold.distance[both]).double().mean() > 0.9
    assert warm.backwards.double().mean() < 0.6 * cold.backwards.double().mean()


def test_rows_do_not_depend_on_the_batch():
    """To 1e-8: Adam divides the rounding of a slope of nearly 0 by 1e-8."""
    net, x = network(), rows(23)
    whole = carlini_wagner(**FAST)(net, x, batch_size=23)
    for size in (1, 4):
        part = carlini_wagner(**FAST)(net, x, batch_size=size)
        assert_close(part.x, whole.x, atol=1e-8, rtol=0)
        assert torch.equal(part.forwards, whole.forwards)


def test_confidence_is_a_margin():
    net, x = network(), rows(30)
    y = net(x).argmax(1)
    sure = carlini_wagner(**FAST, confidence=0.05)(net, x, y)
    plain = carlini_wagner(**FAST)(net, x, y)
    assert sure.success.all()
    assert (sure.distance >= plain.distance * (1 - 1e-3)).all()
    assert (margin(net(sure.x), y) > 0.05).all()
    assert margin(net(plain.x), y).median() < 0.02


def test_any_box_is_a_change_of_units():
    """v ↦ 4v − 1 of the data, undone in front of the network: distances are 4 times as large."""
    net, x = network(), rows(20)
    wide = white_box(net, bounds=(-1.0, 3.0), mean=-1.0, std=4.0)
    # c weighs a score against a squared distance, which is 16 times as large.
    ours = carlini_wagner(**FAST, initial_c=160.0)(wide, 4 * x - 1)
    assert_close(
        ours.distance, 4 * carlini_wagner(**FAST, initial_c=10.0)(net, x).distance, rtol=1e-2, atol=0
    )


def test_a_radius_bounds_success():
    net, x = network(), rows(30)
    free = carlini_wagner(**FAST)(net, x)
    eps = float(free.distance.median())
    bounded = replace(carlini_wagner(**FAST), threat=L2(eps))(net, x)
    assert (bounded.distance <= eps * (1 + 1e-6)).all()
    assert torch.equal(bounded.success, free.distance <= eps * (1 + 1e-6))
    curve = carlini_wagner(**FAST).curve(net, x, eps=[0.5 * eps, eps, 2 * eps])
    assert_close(curve.accuracy[1], (free.distance > eps * (1 + 1e-6)).double().mean())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps is a whole number"),
        ({"bisections": 1.5}, "bisections is a whole number"),
        ({"lr": 0.0}, "lr is a finite number above 0"),
        ({"initial_c": float("inf")}, "initial_c is a finite"),
        ({"confidence": -1.0}, "confidence is a finite margin"),
    ],
)
def test_settings_get_a_sentence(wrong, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        carlini_wagner(**wrong)
