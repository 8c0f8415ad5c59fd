"""The named attacks within a fixed radius: symmetries, options, counts. Their recursions are laws 20 and 21."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import white_box
from psiphi.attacks import (
    L1,
    L2,
    Linf,
    apgd,
    fgsm,
    iterative_fgsm,
    iterative_least_likely,
    least_likely,
    pgd,
)
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas import goals

NAMES = ("fgsm", "iterative_fgsm", "least_likely", "iterative_least_likely", "pgd", "apgd")
BALLS = {"linf": Linf, "l2": L2, "l1": L1}


def network(k: int = 4, d: int = 6) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(d, 24), nn.Tanh(), nn.Linear(24, k)).double()


def data(n: int, d: int = 6) -> torch.Tensor:
    gen = torch.Generator().manual_seed(n)
    return (1.6 * torch.rand(n, d, dtype=torch.float64, generator=gen) - 0.3).clamp(0, 1)


def test_all_are_known_by_name_with_their_published_defaults():
    assert set(NAMES) <= {entry.name for entry in attacks}
    default = {name: {n: p.default for n, p in attacks[name].parameters.items()} for name in NAMES}
    assert default["iterative_fgsm"]["steps"] == 10
    assert default["iterative_fgsm"]["project"] is True
    assert default["pgd"]["steps"] == 40
    assert default["pgd"]["random_start"] is True
    assert (default["apgd"]["steps"], default["apgd"]["rho"]) == (100, 0.75)
    for name in NAMES:
        entry = attacks[name]
        attack = entry.build(Linf(0.1))
        assert attack.kind == "fixed-perturbation"
        assert attack == entry.build(Linf(0.1))
        assert repr(attack).startswith(f"{name}(Linf(0.1)")
        assert "Source" in (entry.build.__doc__ or "")


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize(
    "attack",
    [
        fgsm,
        iterative_fgsm,
        lambda t: iterative_fgsm(t, step=0.1, momentum=1.0),
        lambda t: pgd(t, steps=10, restarts=2),
        lambda t: pgd(t, steps=10, goal="margin"),
        lambda t: apgd(t, steps=30),
        lambda t: apgd(t, steps=30, goal="dlr"),
    ],
    ids=["fgsm", "bim", "mi-fgsm", "pgd", "pgd-margin", "apgd", "apgd-dlr"],
)
def test_targeted_and_untargeted_agree_for_two_classes(attack, ball):
    """Away from y is towards 1 − y, and least likely is the other one."""
    net, x = network(k=2), data(15)
    y = torch.arange(15) % 2
    one = attack(BALLS[ball](0.2))
    away, towards = (one(net, x, y, target=t, stop_early=False, seed=2) for t in (None, 1 - y))
    assert_close(net(away.x), net(towards.x), atol=1e-7, rtol=0)
    assert_close(away.x, towards.x, atol=1e-6, rtol=0)  # as flat as the maximum is
    assert torch.equal(away.success, towards.success)
    unlikely = one(net, x, y, target="least-likely", stop_early=False, seed=2)
    assert_close(unlikely.x, towards.x, atol=0, rtol=0)
    assert_close(unlikely.target, 1 - y)


def test_targets_of_the_attack_and_of_the_call_are_the_same():
    net, x = network(), data(12)
    for make in (fgsm, iterative_fgsm, pgd, lambda t, **how: apgd(t, steps=9, **how)):
        own = make(Linf(0.2), targets="least-likely")(net, x, seed=1)
        called = make(Linf(0.2))(net, x, target="least-likely", seed=1)
        assert_close(own.x, called.x, atol=0, rtol=0)
        assert torch.equal(own.target, net(x).argmin(1))
    assert torch.equal(least_likely(Linf(0.2))(net, x).target, net(x).argmin(1))


def test_a_recomputed_least_likely_class_is_no_target():
    net, x = network(), data(40)
    y = net(x).argmax(1)
    result = iterative_least_likely(Linf(0.3), recompute=True)(net, x, y)
    assert not result.targeted
    assert torch.equal(result.success, goals.succeeded(net(result.x), y))
    assert result.success.any()
    fixed = iterative_least_likely(Linf(0.3))(net, x, y)
    assert fixed.targeted
    assert torch.equal(fixed.success, goals.succeeded(net(fixed.x), y, net(x).argmin(1)))
    assert fixed.success.any()


def test_the_literal_reading_drifts_and_stays_in_the_box():
    net, x = network(), data(30)
    drifting = iterative_fgsm(Linf(0.05), steps=8, step=0.03, project=False)(net, x, stop_early=False)
    assert drifting.distance.max() > 0.2
    assert drifting.distance.max() <= 8 * 0.03 + 1e-12
    assert drifting.x.min() >= 0
    assert drifting.x.max() <= 1
    within = iterative_fgsm(Linf(0.05), steps=8, step=0.03)(net, x, stop_early=False)
    assert within.distance.max() <= 0.05 + 1e-12
    for ball in (Linf, L1):  # ε/steps each: eight steps reach ε and no further
        same = [
            iterative_fgsm(ball(0.05), steps=8, project=p)(net, x, stop_early=False).x for p in (True, False)
        ]
        assert_close(*same, atol=1e-12, rtol=0)


@pytest.mark.parametrize("ball", BALLS)
def test_momentum_does_not_depend_on_the_batch_and_starts_anew(ball):
    net, x = network(), data(40)
    attack = pgd(BALLS[ball](0.15), steps=6, restarts=2, momentum=0.9)
    whole = attack(net, x, seed=5, batch_size=40)
    part = attack(net, x, seed=5, batch_size=7)
    assert_close(part.x, whole.x, atol=1e-12, rtol=0)
    assert torch.equal(part.backwards, whole.backwards)

    asked: list[torch.Tensor] = []

    def overheard(x):
        asked.append(x.detach().clone())
        return net(x)

    pgd(BALLS[ball](0.15), steps=6, restarts=2, momentum=0.9)(overheard, x[:5], stop_early=False)
    walk = [each for each in asked[1:] if len(each) == 5][7:]
    y, pull = net(x[:5]).argmax(1), torch.zeros(5, 6, dtype=torch.float64)
    v = walk[0].clone().requires_grad_()
    (g,) = torch.autograd.grad(goals.cross_entropy(net(v), y).sum(), v)
    threat, box = BALLS[ball](0.15), white_box(net).box
    pull = g / g.abs().sum(1, keepdim=True)
    step = 2.5 * 0.15 / 6
    first = threat.project(walk[0] + step * threat.steepest(pull, walk[0], box, step), x[:5], box)
    assert_close(walk[1], first, atol=1e-12, rtol=0)


def test_counts_of_the_iterative_attacks():
    net, x = network(), data(30)
    for attack, steps in (
        (fgsm(L2(0.1)), 1),
        (least_likely(L2(0.1)), 1),
        (iterative_fgsm(Linf(0.03)), 10),
        (iterative_fgsm(Linf(0.03), momentum=1.0), 10),
        (iterative_least_likely(Linf(0.03), steps=4), 4),
        (pgd(L1(0.1), steps=5, restarts=2), 11),
    ):
        full = attack(net, x, stop_early=False)
        assert (full.backwards == steps).all()
        failed = ~full.success
        assert failed.any()
        assert (full.forwards[failed] == 1 + steps + 1).all()


@pytest.mark.parametrize("ball", BALLS)
def test_radii_of_their_own(ball):
    net, x = network(), data(9)
    radii = torch.linspace(0, 0.4, 9, dtype=torch.float64)
    for make in (fgsm, iterative_fgsm, iterative_least_likely, lambda t: pgd(t, steps=7, momentum=0.5)):
        whole = make(BALLS[ball](radii))(net, x, seed=1, batch_size=4, stop_early=False)
        for i in (0, 4, 8):
            alone = make(BALLS[ball](float(radii[i])))(
                net, x[i : i + 1], seed=1, rows=range(i, i + 1), stop_early=False
            )
            assert_close(alone.x, whole.x[i : i + 1], atol=1e-12, rtol=0)


def test_a_share_of_the_coordinates_moves_in_l1():
    """A fifth of ten, those of the largest gradient, half a step each; the radius and the box hold."""
    net, x = network(d=10), 0.3 + 0.4 * data(20, 10)
    y = net(x).argmax(1)
    one = pgd(L1(0.2), steps=1, step=0.1, sparsity=0.2, random_start=False)(net, x, y, stop_early=False)
    v = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(goals.cross_entropy(net(v), y).sum(), v)
    theory = torch.zeros_like(x).scatter_(1, g.abs().topk(2).indices, 0.05) * g.sign()
    assert_close(one.x, x + theory, atol=1e-12, rtol=0)
    many = pgd(L1(3.0), steps=20, sparsity=0.2)(net, x, y, stop_early=False)
    assert many.distance.max() <= 3 + 1e-9
    assert many.x.min() >= 0
    assert many.x.max() <= 1
    assert (many.score > one.score).all()
    for threat, share in ((Linf(0.1), 0.1), (L1(1.0), 0.0), (L1(1.0), 2)):
        with pytest.raises(ArgumentError, match="sparsity is a share of the coordinates in"):
            pgd(threat, sparsity=share)


def test_bad_arguments_are_said():
    net, x = network(), data(3)
    for make, match in (
        (lambda: iterative_fgsm(Linf(0.1), steps=0), "steps is a whole number of at least 1; got 0"),
        (lambda: iterative_fgsm(Linf(0.1), step=-1.0), "step is a finite length of at least 0; got -1"),
        (lambda: iterative_fgsm(Linf(0.1), momentum=-1.0), "momentum is a finite number of at least 0"),
        (lambda: pgd(Linf(0.1), restarts=2, random_start=False), "set random_start=True"),
        (lambda: pgd(Linf(0.1), goal="loss"), "no goal is called 'loss'"),
        (lambda: fgsm(Linf())(net, x), "has no radius to take a step's length from: give step="),
    ):
        with pytest.raises(ArgumentError, match=match):
            make()
    assert iterative_fgsm(Linf(), step=0.02)(net, x, stop_early=False).distance.max() <= 0.2 + 1e-12
