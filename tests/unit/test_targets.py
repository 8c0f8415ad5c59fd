"""Classes to reach, by name; rows however they come."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from psiphi.attacks import L2, Attack, Linf, Result, pgd
from psiphi.attacks.searches import Steepest
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.formulas.goals import margin

ATTACK = pgd(Linf(0.1), steps=5)


def network(k: int = 5) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, k)).double()


def rows(n: int = 60) -> torch.Tensor:
    return torch.rand(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def same(one: Result, other: Result) -> None:
    for name in ("x", "success", "distance", "score", "row"):
        assert_close(getattr(one, name), getattr(other, name), atol=1e-12, rtol=0)


def test_least_likely_is_the_class_of_least_logit():
    net, x = network(), rows()
    result = ATTACK(net, x, target="least-likely")
    assert torch.equal(result.target, net(x).argmin(1))
    same(result, ATTACK(net, x, target=net(x).argmin(1)))
    same(result, Attack(ATTACK.threat, ATTACK.goal, ATTACK.search, targets="least-likely")(net, x))


def test_least_likely_is_never_the_label():
    net, x = network(), rows()
    y = net(x).argmin(1)
    target = ATTACK(net, x, y, target="least-likely").target
    assert torch.equal(target, net(x).scatter(1, y[:, None], torch.inf).argmin(1))


def test_random_targets_are_uniform_over_the_other_classes_and_keyed():
    net, x = network(), rows(4000)
    y = net(x).argmax(1)
    lazy = Attack(Linf(0.0), margin, Steepest(1, random_start=False))
    result = lazy(net, x, y, target="random", seed=3)
    assert (result.target != y).all()
    for label in y.unique().tolist():
        mine = result.target[y == label]
        for other in set(range(5)) - {label}:
            share, n = (mine == other).double().mean(), len(mine)
            assert abs(share - 0.25) <= 4 * (0.25 * 0.75 / n) ** 0.5
    part = lazy(net, x[100:200], y[100:200], target="random", seed=3, rows=range(100, 200))
    assert torch.equal(part.target, result.target[100:200])


def test_a_function_chooses_targets():
    net, x = network(), rows()
    second = lambda logits, y: logits.topk(2).indices[:, 1]  # noqa: E731
    assert torch.equal(ATTACK(net, x, target=second).target, second(net(x), None))


def test_all_targets_give_the_best_over_the_others():
    net, x = network(), rows()
    y = net(x).argmax(1)
    best = ATTACK(net, x, y, target="all")
    assert not best.targeted
    each = []
    reached = torch.zeros(len(x), dtype=torch.bool)
    for place in range(4):
        other = net(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, place]
        each.append(ATTACK(net, x, y, target=other))
        reached |= each[-1].success
    assert 0 < reached.sum() < len(x)
    assert torch.equal(best.success, reached)
    failed = ~reached
    assert_close(best.score[failed], torch.stack([one.score for one in each]).amax(0)[failed])
    assert (net(best.x[reached]).argmax(1) == best.target[reached]).all()
    spent = torch.stack([one.backwards for one in each]).sum(0)
    assert torch.equal(best.backwards[failed], spent[failed])
    assert (best.backwards <= spent).all()


def test_all_targets_of_a_minimum_norm_attack_give_the_least_distance():
    net, x = network(), rows(20)
    walk = Attack(L2(), margin, Steepest(20, step=0.05, random_start=False), kind="minimum-norm")
    y = net(x).argmax(1)
    best = walk(net, x, y, target="all")
    distances = []
    for place in range(4):
        other = net(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, place]
        one = walk(net, x, y, target=other)
        distances.append(torch.where(one.success, one.distance, torch.inf))
    least = torch.stack(distances).amin(0)
    assert best.success.any()
    assert_close(best.distance[best.success], least[best.success])


def test_misclassified_rows_cost_their_clean_check():
    net, x = network(), rows()
    y = (net(x).argmax(1) + 1) % 5
    result = ATTACK(net, x, y, target="all")
    assert (result.forwards == 1).all()
    assert (result.backwards == 0).all()


def test_targets_get_a_sentence():
    net, x = network(), rows(4)
    y = net(x).argmax(1)
    with pytest.raises(ArgumentError, match="label itself in 4 of 4"):
        ATTACK(net, x, y, target=y)
    with pytest.raises(ArgumentError, match="'least-likely', 'random', 'all'"):
        ATTACK(net, x, y, target="nearest")
    with pytest.raises(ArgumentError, match="target=labels"):
        Attack(Linf(0.1), margin, Steepest(), targets=3)
    with pytest.raises(DataError, match="goes up to 7"):
        ATTACK(net, x, target=7)


@pytest.mark.parametrize("size", [1, 7, 60, 100])
def test_a_loader_is_the_whole_batch(size):
    net, x = network(), rows()
    y = net(x).argmax(1)
    whole = ATTACK(net, x, y)
    same(ATTACK(net, DataLoader(TensorDataset(x, y), batch_size=size)), whole)
    same(ATTACK(net, TensorDataset(x, y)), whole)
    same(ATTACK(net, ((x[i : i + size], y[i : i + size]) for i in range(0, 60, size))), whole)
    same(ATTACK(net, DataLoader(x, batch_size=size)), whole)


def test_a_large_loader_is_attacked_in_parts():
    net, x = network(), rows(2500)
    y = net(x).argmax(1)
    target = (y + 1) % 5
    whole, parts = (
        ATTACK(net, *a, target=target) for a in ((x, y), (DataLoader(TensorDataset(x, y), batch_size=300),))
    )
    same(parts, whole)
    assert parts.provenance["parts"] == 3
    assert torch.equal(parts.row, torch.arange(2500))


def test_loaders_get_a_sentence():
    net = network()
    with pytest.raises(DataError, match="no batch"):
        ATTACK(net, iter(()))
    with pytest.raises(DataError, match="this one gave dict"):
        ATTACK(net, iter([{"x": 1}]))
    with pytest.raises(ArgumentError, match="leave it out"):
        ATTACK(net, DataLoader(rows(4)), torch.zeros(4).long())
