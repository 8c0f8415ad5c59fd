"""DeepFool, DDN and FAB: symmetry, independence of rows, exact counts, quality beside a plain loop."""

from __future__ import annotations

from math import cos, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from psiphi.access import white_box
from psiphi.attacks import L1, L2, Linf, ddn, deepfool, fab
from psiphi.attacks.searches import Bounce, Crossing, Sphere
from psiphi.attacks.searches._planes import Plane, step_onto
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas.geometry import Box
from psiphi.formulas.goals import succeeded

BALLS = {"linf": Linf, "l2": L2, "l1": L1}
ATTACKS = {
    "deepfool-linf": lambda **how: deepfool(Linf(), **how),
    "deepfool-l2": lambda **how: deepfool(L2(), **how),
    "ddn": lambda **how: ddn(**{"steps": 40} | how),
    "fab-linf": lambda **how: fab(Linf(), **{"steps": 10} | how),
    "fab-l2": lambda **how: fab(L2(), **{"steps": 10} | how),
    "fab-l1": lambda **how: fab(L1(), **{"steps": 10} | how),
}
EACH = pytest.mark.parametrize("name", ATTACKS)


def data(n: int, d: int = 6, seed: int = 0) -> torch.Tensor:
    """Rows with a good part of their coordinates exactly at the walls of [0, 1]."""
    gen = torch.Generator().manual_seed(seed)
    return (1.6 * torch.rand(n, d, dtype=torch.float64, generator=gen) - 0.3).clamp(0, 1)


def network(d: int = 6, k: int = 3, seed: int = 1) -> nn.Sequential:
    gen = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(d, 24), nn.Tanh(), nn.Linear(24, k)).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=gen, dtype=p.dtype) / 24**0.5 * 3)
    return net


class Counted(nn.Module):
    """Counts the rows that are sent forward and back, and keeps their labels' gaps."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.forwards, self.backwards = net, 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += len(x)
        logits = self.net(x)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, gradient: torch.Tensor) -> None:
        self.backwards += len(gradient)


# ------------------------------------------------------------------------------------------------- what is found
@EACH
def test_what_is_returned_is_a_success_inside_the_box_at_the_stated_distance(name):
    net, x = network(), data(20)
    y = net(x).argmax(1)
    attack = ATTACKS[name]()
    result = attack(net, x, y)
    assert result.success.double().mean() > 0.8
    assert torch.equal(succeeded(net(result.x), y)[result.success], result.success[result.success])
    assert ((result.x >= 0) & (result.x <= 1)).all()
    assert_close(result.distance, attack.threat.distance(result.x, x))
    assert result.kind == "minimum-norm"


@EACH
def test_at_two_classes_the_other_one_as_a_target_is_any_other(name):
    net, x = network(k=2), data(12)
    y = net(x).argmax(1)
    attack = ATTACKS[name]()
    free, aimed = attack(net, x, y), attack(net, x, y, target=1 - y)
    assert torch.equal(free.success, aimed.success)
    assert_close(free.distance, aimed.distance, rtol=1e-6, atol=1e-9)


@EACH
def test_all_targets_give_the_least_over_them(name):
    net, x = network(k=4), data(8)
    y = net(x).argmax(1)
    attack = ATTACKS[name]()
    best = attack(net, x, y, target="all")
    each = []
    for shift in range(1, 4):
        result = attack(net, x, y, target=(y + shift) % 4)
        each.append(torch.where(result.success, result.distance, torch.inf))
    least = torch.stack(each).amin(0)
    assert best.success.any()
    assert_close(best.distance[best.success], least[best.success])
    assert torch.equal(best.success, least.isfinite())


@EACH
def test_a_row_does_not_depend_on_what_else_is_in_the_batch(name):
    net, x = network(), data(9)
    y = net(x).argmax(1)
    attack = ATTACKS[name]()
    whole = attack(net, x, y, batch_size=9)
    part = attack(net, x, y, batch_size=4)
    assert_close(part.x, whole.x, rtol=0, atol=1e-9)
    assert torch.equal(part.forwards, whole.forwards)


def test_restarts_of_fab_begin_elsewhere_and_are_the_same_however_rows_are_batched():
    net, x = network(), data(9)
    y = net(x).argmax(1)
    one, attack = fab(L2(), steps=6), fab(L2(), steps=6, restarts=2)
    first, whole, small = one(net, x, y), attack(net, x, y), attack(net, x, y, batch_size=2)
    assert_close(small.x, whole.x, rtol=0, atol=1e-9)
    assert (whole.distance <= first.distance + 1e-6).all()
    assert (whole.distance < first.distance - 1e-6).any()
    finite = fab(L2(0.5), steps=10, restarts=2)(net, x, y)
    assert (finite.distance <= 0.5 * (1 + 1e-6)).all()


# ------------------------------------------------------------------------------------------------- what it costs
@EACH
def test_the_counts_are_those_of_a_counting_model(name):
    net, x = Counted(network(k=4)), data(10)
    y = net.net(x).argmax(1)
    for target in (None, (y + 1) % 4):
        net.forwards = net.backwards = 0
        result = ATTACKS[name]()(net, x, y, target=target)
        assert int(result.backwards.sum()) == net.backwards
        # two look-ups of at most four rows check that the classifier repeats itself
        assert int(result.forwards.sum()) == net.forwards - 2 * 4


def test_the_counts_of_each_row_are_those_of_the_docstrings():
    net, x = network(k=4), data(10)
    y = net(x).argmax(1)
    quick = deepfool()(net, x, y)
    assert quick.success.all()
    assert torch.equal(quick.backwards, 3 * (quick.forwards - 2))
    assert torch.equal(
        deepfool()(net, x, y, target=(y + 1) % 4).backwards > 0, torch.ones(10, dtype=torch.bool)
    )
    bounced = fab(L2(), steps=7)(net, x, y)
    assert torch.equal(bounced.backwards, torch.full((10,), 21))
    assert ((bounced.forwards - 8 >= 3) & (bounced.forwards - 8 <= 4)).all()
    for init, forwards, backwards in ((1.0, 0, 0), (None, 1, 3)):
        walked = ddn(steps=60, init=init)(net, x, y)
        stepped = walked.backwards - backwards
        assert (stepped <= 60).all()
        assert (stepped < 45).any()
        beside = walked.forwards - forwards - stepped
        assert ((beside >= 2) & (beside <= 3)).all()


@EACH
def test_a_row_that_is_wrong_already_costs_its_clean_check(name):
    net, x = network(), data(6)
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 3
    result = ATTACKS[name]()(net, x, y)
    assert torch.equal(result.already_met, torch.arange(6) < 3)
    assert torch.equal(result.forwards[:3], torch.ones(3, dtype=torch.long))
    assert torch.equal(result.backwards[:3], torch.zeros(3, dtype=torch.long))
    assert torch.equal(result.x[:3], x[:3])


def test_ddn_takes_all_of_its_steps_where_nothing_breaks():
    """One class wins everywhere, so that no row ever crosses the boundary."""
    net = nn.Linear(6, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.stack((torch.zeros(6), torch.linspace(-1, 1, 6))))
        net.bias.copy_(torch.tensor([10.0, 0.0]))
    result = ddn(steps=30)(net, data(4))
    assert not result.success.any()
    assert torch.equal(result.backwards, torch.full((4,), 1 + 30))
    stopped = deepfool()(net, data(4))  # at the corner nothing moves
    assert not stopped.success.any()
    assert (stopped.backwards < 50).all()


# ------------------------------------------------------------------------------------------------- what holds it in
@pytest.mark.parametrize("name", ATTACKS)
def test_a_finite_radius_is_kept(name):
    net, x = network(), data(12)
    y = net(x).argmax(1)
    make = {"ddn": ddn, "deepfool": deepfool, "fab": fab}[name.split("-")[0]]
    ball = BALLS[name.split("-")[-1]] if "-" in name else L2
    free = make(threat=ball(), steps=20)(net, x, y)
    eps = float(free.distance[free.success].median())
    held = make(threat=ball(eps), steps=20)(net, x, y)
    assert (held.distance <= eps * (1 + 1e-6)).all()
    assert (~held.success).any()
    near = free.success & (free.distance < 0.95 * eps)
    assert held.success[near].all()


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(sorted(ATTACKS)),
    n=st.integers(0, 4),
    seed=st.integers(0, 5),
    bounds=st.sampled_from([(0.0, 1.0), (-1.0, 2.0), (0.25, 0.75)]),
    single=st.booleans(),
)
def test_the_box_is_never_left_and_the_model_is_as_it_was(name, n, seed, bounds, single):
    dtype = torch.float32 if single else torch.float64
    net = network(seed=seed).to(dtype)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    low, high = bounds
    x = (low + (high - low) * data(n, seed=seed)).to(dtype)
    how = {"steps": 8}
    result = ATTACKS[name](**how)(white_box(net, bounds=bounds), x)
    assert ((result.x >= low) & (result.x <= high)).all()
    assert result.x.dtype == dtype
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_gradient_of_zero_does_not_stop_ddn():
    """Flat around x: relu(x − 0.6) sees nothing of x ≤ 0.6."""

    def flat(x: torch.Tensor) -> torch.Tensor:
        up = 20 * (x - 0.6).clamp_min(0).sum(1)
        return torch.stack((torch.full_like(up, 2.0), up), 1)

    x = torch.full((16, 4), 0.55, dtype=torch.float64)
    result = ddn(init=0.4)(flat, x)
    assert result.success.double().mean() > 0.5


# ------------------------------------------------------------------------------------------------- quality
def plain_ddn(net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
    """Algorithm 1 as published, one row at a time: the least norm of a success, (n,)."""
    found = []
    for image, label in zip(x, y):
        delta, eps, best = torch.zeros_like(image), 1.0, float("inf")
        for i in range(steps):
            v = (image + delta).requires_grad_()
            logits = net(v.unsqueeze(0))
            (g,) = torch.autograd.grad(nn.functional.cross_entropy(logits, label.unsqueeze(0)), v)
            broken = int(logits.argmax()) != int(label)
            best = min(best, float(delta.norm())) if broken else best
            alpha = 0.01 + 0.99 * (1 + cos(pi * i / steps)) / 2
            delta = delta + alpha * g / g.norm()
            eps *= 0.95 if broken else 1.05
            delta = (image + delta * (eps / delta.norm())).clamp(0, 1) - image
        found.append(best)
    return torch.tensor(found, dtype=x.dtype)


def test_ddn_is_at_least_as_near_as_the_published_loop_with_half_its_gradients():
    net, x = network(d=12), data(12, d=12)
    y = net(x).argmax(1)
    theirs, ours = plain_ddn(net, x, y, 100), ddn()(net, x, y)
    both = ours.success & theirs.isfinite()
    assert both.sum() >= 10
    assert (ours.success | ~theirs.isfinite()).all()
    assert ours.distance[both].mean() <= 1.002 * theirs[both].mean()
    assert ours.backwards.double().mean() < 55


def test_fab_and_ddn_are_nearer_than_deepfool():
    net, x = network(d=12), data(20, d=12)
    y = net(x).argmax(1)
    quick = deepfool()(net, x, y)
    for attack in (ddn(), fab(L2())):
        other = attack(net, x, y)
        both = quick.success & other.success
        assert other.distance[both].mean() < 0.99 * quick.distance[both].mean()


# ------------------------------------------------------------------------------------------------- arguments
def test_they_are_registered_with_their_published_defaults():
    assert {"deepfool", "ddn", "fab"} <= {entry.name for entry in attacks}
    assert deepfool().search == Crossing(steps=50, overshoot=0.02, rivals=9)
    assert ddn().search == Sphere(steps=100, init=None, gamma=0.05)
    assert fab().search == Bounce(steps=100, restarts=1, alpha_max=0.1, eta=1.05, beta=0.9)
    assert isinstance(fab().threat, Linf)
    assert deepfool(candidates=None).search.rivals is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: deepfool(steps=0), "steps"),
        (lambda: deepfool(overshoot=-0.1), "overshoot"),
        (lambda: deepfool(candidates=1), "candidates"),
        (lambda: ddn(steps=0), "steps"),
        (lambda: ddn(init=0.0), "init"),
        (lambda: ddn(gamma=0.3), "gamma"),
        (lambda: ddn(threat=Linf()), "L2"),
        (lambda: Sphere(pace=0.0), "pace"),
        (lambda: fab(restarts=0), "restarts"),
        (lambda: fab(alpha_max=1.5), "alpha_max"),
        (lambda: fab(eta=0.9), "eta"),
        (lambda: fab(beta=1.1), "beta"),
    ],
)
def test_wrong_arguments_are_named(make, says):
    with pytest.raises(ArgumentError, match=says):
        make()


# ------------------------------------------------------------------------------------------------- planes
def test_a_plane_is_the_same_one_seen_from_elsewhere_and_reached_from_either_side():
    gen = torch.Generator().manual_seed(3)
    a, u, v = (
        torch.rand(3, 8, 5, dtype=torch.float64, generator=gen) - torch.tensor([0.5, 0, 0])[:, None, None]
    ).unbind()
    b = 0.2 * torch.linspace(-1, 1, 8, dtype=torch.float64)
    wide = Box(-10.0, 10.0)
    for ball in BALLS.values():
        delta, reached = step_onto(Plane(a, b).seen_from(u, v), u, ball(), wide)
        assert reached.all()
        assert_close((a * (u + delta - v)).sum(1), b)


class _Bent(nn.Module):
    """Two classes, a curved boundary; keeps the points whose gradient is taken."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body, self.seen = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double(), []
        with torch.no_grad():
            for p in self.body.parameters():
                p *= 2

    def forward(self, x):
        if x.requires_grad:
            self.seen.append(x.detach().clone())
        return self.body(x)


def _bounced(
    net: _Bent, x: torch.Tensor, steps: int, alpha_max: float, eta: float, beta: float
) -> list[torch.Tensor]:
    """The points of FAB's walk from x, one row, two classes, far from any wall, in L2: the paper's equations."""
    v, points = x.clone(), []
    for _ in range(steps):
        points.append(v)
        u = v.clone().requires_grad_()
        z = net.body(u)[0]
        gap = z[1] - z[0]
        a = torch.autograd.grad(gap, u)[0]
        gap = gap.detach()
        base = x + beta * (v - x) if gap > 0 else v
        here, there = (-(gap + (a * (b - v)).sum()) * a / a.square().sum() for b in (base, x))
        alpha = min(float(here.norm() / (here.norm() + there.norm())), alpha_max)
        v = (1 - alpha) * (base + eta * here) + alpha * (x + eta * there)
    return points


@pytest.mark.parametrize(
    "how",
    [
        {"alpha_max": 0.1, "eta": 1.05, "beta": 0.9},
        {"alpha_max": 0.9, "eta": 1.2, "beta": 0.7},
        {"alpha_max": 0.0, "eta": 1.0, "beta": 1.0},
    ],
)
def test_fab_walks_as_its_equations_say(how):
    net, x = _Bent(), torch.tensor([[0.3, -0.2, 0.5, 0.1]], dtype=torch.float64)
    y = net.body(x).argmax(1)
    with torch.no_grad():
        if y == 1:
            net.body[2].weight.copy_(net.body[2].weight.flip(0))
            net.body[2].bias.copy_(net.body[2].bias.flip(0))
    fab(L2(), steps=12, **how)(white_box(net, bounds=(-50.0, 50.0)), x, torch.zeros(1).long())
    theory = _bounced(net, x, 12, **how)
    assert_close(torch.cat(net.seen[:12]), torch.cat(theory), atol=1e-9, rtol=1e-9)


def test_the_last_search_of_fab_ends_on_the_boundary():
    """On a linear model the secant through x and the best success meets the boundary: what η went beyond is undone."""
    net = nn.Linear(5, 2).double()
    x = data(20, 5)
    y = net(x).argmax(1)
    gap = (net(x)[:, 0] - net(x)[:, 1]).abs()
    theory = gap / (net.weight[0] - net.weight[1]).norm()
    result = fab(L2(), steps=3, eta=1.3)(white_box(net, bounds=(-50.0, 50.0)), x, y)
    assert result.success.all()
    assert (result.distance < 1.031 * theory).all()  # the farthest of the three points leaves a tenth of 0.3
