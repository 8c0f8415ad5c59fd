"""Auto-PGD: equal, row by row, to its papers' recursions written as plain loops over one sample."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from psiphi.access import white_box
from psiphi.attacks import L1, L2, Linf, apgd, pgd
from psiphi.attacks.searches import _apgd
from psiphi.basis.errors import ArgumentError
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box, l1_sparse, l1_steepest

BALLS = {"linf": Linf(0.15), "l2": L2(0.4), "l1": L1(0.8)}
WIDE = (-100.0, 100.0)


def network(d: int = 8, k: int = 4, scale: float = 3) -> nn.Sequential:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(d, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, k)).double()
    with torch.no_grad():
        for each in net.parameters():
            each *= scale  # the larger, the more uneven
    return net


def data(n: int, d: int = 8) -> torch.Tensor:
    gen = torch.Generator().manual_seed(n)
    return (1.6 * torch.rand(n, d, dtype=torch.float64, generator=gen) - 0.3).clamp(0, 1)


class Overheard(nn.Module):
    """A classifier that remembers what it was asked."""

    def __init__(self, net):
        super().__init__()
        self.net, self.asked = net, []

    def forward(self, x):
        self.asked.append(x.detach().clone())
        return self.net(x)


def walked(attack, net, x, bounds, **how):
    """The result of a whole run, and its points (steps + 1, b, d)."""
    overheard = Overheard(net)
    result = attack(white_box(overheard, bounds), x, stop_early=False, batch_size=len(x), **how)
    points = [asked for asked in overheard.asked[1:] if len(asked) == len(x)]
    return result, torch.stack(points[: attack.search.restarts * (attack.search.steps + 1)])


def above(loss, other):
    """By more than rounding."""
    return loss > other * (1 + 64 * torch.finfo(torch.float64).eps)


def climbed(net, v, y):
    """Loss and gradient at one point."""
    v = v.clone().requires_grad_()
    loss = F.cross_entropy(net(v[None]), torch.tensor([y]))
    return loss.item(), torch.autograd.grad(loss, v)[0]


def plain(net, x, y, v, eps, norm, steps, rho=0.75):
    """Algorithm 1 of Croce and Hein (2020) on one sample; also how often it went back to the best point."""

    def onto(u):
        if norm == "linf":
            return u.maximum(x - eps).minimum(x + eps).clamp(0, 1)
        return x + (u - x) * min(1.0, eps / max((u - x).norm().item(), 1e-300))

    def unit(g):
        return g.sign() if norm == "linf" else g / g.norm()

    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    w = [ceil(each * steps) for each in p]
    points, step, at_check, halved = [v], 2 * eps, None, False
    loss, g = climbed(net, v, y)
    best, top, top_g = v, loss, g
    at_check, rises, last, returned = top, 0, 0, 0
    before, z = v, onto(v + step * unit(g))
    v, previous = z, loss
    for k in range(1, steps + 1):
        points.append(v)
        loss, g = climbed(net, v, y)
        rises += above(loss, previous)
        if above(loss, top):
            best, top, top_g = v, loss, g
        if k in w and k < steps:
            first = rises < rho * (k - last)
            second = not halved and at_check == top
            halved = first or second
            if halved:
                returned += not torch.equal(v, best)
                step, v, g, loss = step / 2, best, top_g, top
            at_check, rises, last = top, 0, k
        z = onto(v + step * unit(g))
        before, v = v, onto(v + 0.75 * (z - v) + 0.25 * (v - before))
        previous = loss
    return torch.stack(points), best, top, returned


def plain_l1(net, x, y, v, eps, steps):
    """The L1 version (Croce and Hein 2021) on one sample, far from any wall."""
    d, threat, box = len(x), L1(eps), Box(*WIDE)
    points, step, share, support = [], eps, 0.2, d
    best, top, top_g, changes = v, -float("inf"), None, 0
    for k in range(steps + 1):
        points.append(v)
        loss, g = climbed(net, v, y)
        if top_g is None or above(loss, top):
            best, top, top_g = v, loss, g
        if k and k % max(steps // 25, 1) == 0:
            now = int((best != x).sum())
            if now < 0.95 * support:
                step, v, g = eps, best, top_g
                changes += 1
            else:
                step = max(step / 1.5, eps / 10)
            share, support = now / (1.5 * d), now
        count = max(1, int(share * d + 1e-6))
        chosen = g.abs().topk(count).indices
        move = torch.zeros(d, dtype=x.dtype)
        move[chosen] = g[chosen].sign() / count
        v = threat.project((v + step * move)[None], x[None], box)[0]
    return torch.stack(points), best, top, changes


@pytest.mark.parametrize(
    ("threat", "steps", "scale"),
    [(Linf(0.3), 40, 10), (Linf(0.15), 7, 3), (L2(1.0), 40, 6), (L2(0.4), 40, 3)],
)
def test_it_is_the_plain_loop_row_by_row(threat, steps, scale):
    net, x, norm = network(scale=scale), data(5), type(threat).__name__.lower()
    bounds = (0.0, 1.0) if norm == "linf" else WIDE
    attack = apgd(threat, steps=steps)
    result, points = walked(attack, net, x, bounds, seed=3)
    refilled = attack(white_box(net, bounds), x, seed=3, batch_size=2, stop_early=False)
    y, returns = net(x).argmax(1), 0
    for i in range(len(x)):
        theory, best, top, returned = plain(net, x[i], int(y[i]), points[0, i], threat.eps, norm, steps)
        assert_close(points[:5, i], theory[:5], atol=1e-12, rtol=0)
        assert_close(points[:, i], theory, atol=1e-6, rtol=0)  # rounding grows over the steps
        returns += returned
        for found in (result, refilled):
            if found.success[i] or top > F.cross_entropy(net(x[i]), y[i]):
                assert_close(found.score[i].item(), top, atol=1e-10, rtol=1e-9)
                assert_close(found.x[i], best, atol=1e-6, rtol=0)  # as flat as the maximum is
    assert returns > 3 or scale == 3


def test_both_conditions_halve():
    """Condition 2 alone: a walk whose every step rises but never above the best before the checkpoint."""
    search, x = _apgd.AutoStep(100), torch.zeros(3, 2)
    s = search.start(x, None, Linf(torch.ones(3)), Box(-9, 9), _noise(3))
    scores = [torch.tensor([0.0, 10.0, 10.0])]
    scores += [torch.tensor([k, k, -k], dtype=torch.float32) / 9 for k in range(1, 23)]
    for score in scores:
        s = search.tell(s, *search.ask(s, 9), _answer(score))
    assert_close(s.step, torch.tensor([2.0, 1.0, 1.0]))
    assert s.halved.tolist() == [False, True, True]
    for k in range(23, 42):  # halved at the last checkpoint: the second condition waits for the next one
        s = search.tell(s, *search.ask(s, 9), _answer(torch.tensor([9.0, k / 9 + 4, k / 9 + 4])))
    assert_close(s.step, torch.tensor([1.0, 1.0, 1.0]))


def _noise(n):
    from psiphi.basis.noise import Noise

    return Noise.of(0, n)


def _answer(score):
    from psiphi.attacks._protocols import Answer

    return Answer(score, score > 99, gradient=torch.ones(len(score), 2))


def test_the_l1_version_is_its_plain_loop():
    net, x, eps = network(), data(6), 2.0
    result, points = walked(apgd(L1(eps), steps=60), net, x, WIDE, seed=1)
    y, changed = net(x).argmax(1), 0
    for i in range(len(x)):
        theory, best, top, changes = plain_l1(net, x[i], int(y[i]), points[0, i], eps, 60)
        assert_close(points[:, i], theory, atol=1e-9, rtol=0)
        changed += changes
        if top > F.cross_entropy(net(x[i]), y[i]):
            assert_close(result.score[i].item(), top, atol=1e-10, rtol=1e-12)
            assert_close(result.x[i], best, atol=1e-6, rtol=0)
    assert changed >= len(x)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 40, 100, 1000])
def test_checkpoints_are_exact(steps):
    p, theory = [Fraction(0), Fraction(22, 100)], {0}
    while (w := ceil(p[-1] * steps)) < steps:
        theory.add(w)
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    assert _apgd.checkpoints(steps) == sorted(theory)


def test_checkpoints_of_a_hundred_steps():
    assert _apgd.checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("norm", BALLS)
def test_rows_do_not_depend_on_the_batch(norm):
    net, x = network(), data(20)
    attack = apgd(BALLS[norm], steps=12, restarts=2)
    whole = attack(net, x, seed=5, batch_size=20)
    assert 0 < whole.success.sum() < 20
    for batch_size in (3, 7):
        part = attack(net, x, seed=5, batch_size=batch_size)
        assert_close(part.x, whole.x, atol=1e-12, rtol=0)
        for name in ("success", "undecided", "forwards", "backwards"):
            assert torch.equal(getattr(part, name), getattr(whole, name)), name
    some = torch.tensor([19, 3, 17])
    assert_close(attack(net, x[some], seed=5, rows=some).x, whole.x[some], atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm", BALLS)
def test_radii_of_their_own(norm):
    net, x = network(), data(10)
    radii = BALLS[norm].eps * torch.linspace(0, 2, 10, dtype=torch.float64)
    ball = type(BALLS[norm])
    whole = apgd(ball(radii), steps=15)(net, x, seed=1, batch_size=4)
    assert (whole.distance <= radii * (1 + 1e-12)).all()
    assert_close(whole.x[0], x[0], atol=0, rtol=0)
    for i in (3, 9):
        alone = apgd(ball(float(radii[i])), steps=15)(net, x[i : i + 1], seed=1, rows=range(i, i + 1))
        assert_close(alone.x, whole.x[i : i + 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("restarts", [1, 3])
def test_counts_are_exact(norm, restarts):
    net, x = network(), data(12)
    result = apgd(BALLS[norm], steps=6, restarts=restarts)(net, x, stop_early=False, batch_size=5)
    assert (result.backwards == restarts * 7 - 1).all()
    assert (result.forwards >= 1 + restarts * 7).all()
    early = apgd(BALLS[norm], steps=6, restarts=restarts)(net, x)
    assert (early.forwards[~early.success] == 1 + restarts * 7).all()
    assert torch.equal(early.success, result.success)


@pytest.mark.parametrize("norm", BALLS)
def test_a_restart_is_a_walk_of_its_own(norm):
    """The second walk begins with the published first step, and the better walk's point is returned."""
    net, x, steps = network(), data(5), 8
    bounds = (0.0, 1.0)
    one, first = walked(apgd(BALLS[norm], steps), net, x, bounds)
    two, both = walked(apgd(BALLS[norm], steps, restarts=2), net, x, bounds)
    assert_close(both[: steps + 1], first, atol=0, rtol=0)
    second = both[steps + 1 :]
    assert (second[0] - first[0]).abs().amax(1).min() > 1e-3
    search, box = apgd(BALLS[norm], steps).search, Box(*bounds)
    s = search._from(second[0], x, BALLS[norm].expand(x), box, _noise(5))
    y = net(x).argmax(1)
    for theory in second:
        assert_close(s.v, theory, atol=1e-12, rtol=0)
        v = theory.clone().requires_grad_()
        score = goals.cross_entropy(net(v), y)
        answer = _answer(score.detach())
        answer = type(answer)(answer.score, answer.broken, torch.autograd.grad(score.sum(), v)[0])
        s = search.tell(s, *search.ask(s, 9), answer)
    seen = {}
    for i in range(5):  # of the successes, else of all
        rows = both[:, i]
        labels = y[i].expand(len(rows))
        score, held = goals.cross_entropy(net(rows), labels), goals.succeeded(net(rows), labels)
        seen[i] = (score[held] if held.any() else score).max().item()
    assert_close(two.score, torch.tensor([seen[i] for i in range(5)], dtype=torch.float64))
    assert (two.success | ~one.success).all()


def test_sparse_directions():
    g = torch.tensor(
        [[3.0, -2.0, 1.0, 0.0], [0.1, 0.3, -0.2, 0.0], [5.0, 4.0, 0.0, 0.0], [2.0, 2.0, 1.0, 0.5]]
    )
    v = torch.full((4, 4), 0.5)
    v[2, :2], v[3, 0] = 1.0, 1.0
    box = Box()
    d = l1_sparse(g, v, box, torch.tensor([0.5, 0.25, 0.5, 0.5]))
    assert_close(d[0], torch.tensor([0.5, -0.5, 0, 0]))
    assert_close(d[1], torch.tensor([0, 1.0, 0, 0]))
    assert_close(d[2], torch.zeros(4))  # nothing that pays can move
    assert_close(d[3], torch.tensor([2.0, 1.0, 0, 0]))  # the wall's share goes to nobody; it is held there
    free = torch.full((4, 4), 0.5)
    assert_close(l1_sparse(g[:3], free[:3], box, 1e-9), l1_steepest(g[:3], free[:3], box))
    assert_close(l1_sparse(g, free, box, 1e-9)[3], torch.tensor([0.5, 0.5, 0, 0]))  # equals move together
    assert_close(l1_sparse(g, free, box, 1.0)[0], torch.tensor([1.0, -1.0, 1.0, 0]) / 3)


def test_it_finds_what_pgd_finds_in_the_same_steps():
    """In the L2 ball, where steps of one length circle the optimum, Auto-PGD's loss is higher on every row."""
    net, x = network(), data(20)
    y = net(x).argmax(1)
    auto, fixed = (
        attack(L2(0.1), steps=40)(white_box(net, WIDE), x, y, stop_early=False) for attack in (apgd, pgd)
    )
    assert (auto.success | ~fixed.success).all()
    assert (auto.score > fixed.score).all()


def test_goals_by_name_and_bad_arguments():
    net, x = network(), data(8)
    for name in ("margin", "dlr"):
        by_name = apgd(Linf(0.1), steps=5, goal=name)(net, x, stop_early=False)
        by_function = apgd(Linf(0.1), steps=5, goal=goals.GOALS[name])(net, x, stop_early=False)
        assert_close(by_name.x, by_function.x, atol=0, rtol=0)
    for wrong, match in (
        (dict(steps=0), "steps is a whole number of at least 1; got 0"),
        (dict(restarts=1.5), "restarts is a whole number"),
        (dict(rho=2.0), "rho is a share of the steps"),
        (dict(goal="crossentropy"), "no goal is called 'crossentropy'; give cross_entropy, margin, dlr"),
        (dict(targets="most"), "targets are"),
    ):
        with pytest.raises(ArgumentError, match=match):
            apgd(Linf(0.1), **wrong)
