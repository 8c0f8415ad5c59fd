"""HopSkipJump: labels alone, every query counted, the same whatever the batch."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.web import serving
from psiphi.access import black_box, white_box
from psiphi.attacks import L1, L2, Linf, hop_skip_jump
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import generator
from psiphi.laws._asking import Counting


def data(n: int = 12, shape: tuple[int, ...] = (1, 4, 4)) -> torch.Tensor:
    return torch.rand(n, *shape, dtype=torch.float64, generator=generator("hop", n))


def network(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, k)).double()
    with torch.no_grad():
        net[1].weight.mul_(3)
    return net.requires_grad_(False)


@pytest.mark.parametrize("threat", [L2(), Linf()])
def test_it_is_as_near_as_an_attack_that_sees_gradients(threat):
    net, x = network(), data()
    result = hop_skip_jump(threat)(black_box(net, "labels", budget=1000), x)
    best = pp.attacks.fab(threat, steps=50)(net, x, target="all")
    assert result.success.all()
    assert best.success.all()
    assert (net(result.x).argmax(1) != net(x).argmax(1)).all()
    assert ((result.x >= 0) & (result.x <= 1)).all()
    assert_close(result.distance, threat.distance(result.x, x))
    assert (result.distance / best.distance).median() < 1.1


@pytest.mark.parametrize("threat", [L2(), Linf()])
def test_rows_do_not_depend_on_the_batch(threat):
    net, x = network(), data()
    attack = hop_skip_jump(threat, initial=20)
    whole = attack(black_box(net, "labels", budget=90), x)
    assert whole.success.all()
    for batch_size in (5,):
        again = attack(black_box(net, "labels", budget=90), x, batch_size=batch_size)
        for name in ("x", "distance", "forwards", "trace"):
            assert torch.equal(getattr(again, name), getattr(whole, name)), name
    part = attack(black_box(net, "labels", budget=90), x[7:], rows=range(7, 12))
    assert torch.equal(part.x, whole.x[7:])
    other = attack(black_box(net, "labels", budget=90), x, seed=1)
    assert not torch.equal(other.x, whole.x)


@pytest.mark.parametrize("budget", [1, 2, 3, 17, 130])
def test_the_budget_holds_to_the_row(budget):
    counting = Counting(network())
    result = hop_skip_jump()(black_box(counting, "labels", budget=budget), data(), batch_size=7)
    assert (result.forwards == budget).all()
    assert result.forwards.sum() == counting.sent
    assert counting.backwards == counting.tracked == 0


def test_more_queries_are_never_worse():
    net, x = network(), data()
    runs = [hop_skip_jump()(black_box(net, "labels", budget=q), x).distance for q in (150, 400, 1000)]
    assert (runs[1] <= runs[0]).all()
    assert (runs[2] <= runs[1]).all()
    assert runs[2].median() < 0.9 * runs[0].median()


def test_steps_end_it_and_a_white_box_sees_labels_too():
    net, x = network(), data()
    attack = hop_skip_jump(steps=3, initial=40)
    black = attack(black_box(net, "labels"), x)
    white = attack(white_box(net), x)
    assert torch.equal(black.x, white.x)
    assert torch.equal(white.forwards, black.forwards + 1)
    assert (white.backwards == 0).all()
    assert (black.forwards > 1 + 3 * 40).all()
    assert (black.forwards < 1 + 3 * (40 + 40) + 40).all()
    growing = hop_skip_jump(steps=3, initial=40, growth=1, most=100)(black_box(net, "labels"), x)
    extra = (growing.forwards - black.forwards).double().mean()
    assert abs(extra - 100) < 10  # 40 + 80 + 100 hops


def test_a_radius_bounds_what_comes_back():
    net, x = network(), data()
    free = hop_skip_jump()(black_box(net, "labels", budget=350), x)
    radius = float(free.distance.median())
    bound = hop_skip_jump(L2(radius))(black_box(net, "labels", budget=350), x)
    assert bound.distance.max() <= radius * (1 + 1e-6)
    near = free.distance <= radius
    assert torch.equal(bound.success, near)
    assert_close(bound.x[near], free.x[near])
    assert (bound.forwards <= 350).all()


def test_a_class_is_reached_from_points_of_it():
    net, x = network(), data()
    label = net(x).argmax(1)
    target = torch.where(label == 0, 2, 0)
    pool = data(40)
    assert {0, 2} <= set(net(pool).argmax(1).tolist())
    aimed = hop_skip_jump(start=pool)
    result = aimed(black_box(net, "labels", budget=800), x, target=target)
    assert result.success.all()
    assert torch.equal(net(result.x).argmax(1), target)
    nearest = torch.cdist(x.flatten(1), pool.flatten(1)).masked_fill(
        net(pool).argmax(1) != target[:, None], torch.inf
    )
    assert (result.distance < 0.9 * nearest.amin(1)).all()
    assert "start=tensor (40, 1, 4, 4)" in repr(aimed)
    with pytest.raises(ArgumentError, match="reaches a class from points of that class: give some as start"):
        hop_skip_jump()(black_box(net, "labels"), x, target=target)


def test_given_starts_come_first_the_nearest_at_first():
    net, x = network(), data()
    sent = []

    def sees(points):
        sent.append(points.clone())
        return net(points)

    pool = data(9)
    hop_skip_jump(start=pool)(black_box(sees, "labels", budget=2), x)
    nearest = pool[torch.cdist(x.flatten(1), pool.flatten(1)).argmin(1)]
    assert torch.equal(sent[1], nearest)


def test_a_row_without_a_start_fails_as_it_was():
    def one_class(x):
        return torch.zeros(len(x)).long()

    x = data()
    result = hop_skip_jump(tries=9)(black_box(one_class, "labels"), x)
    assert not result.success.any()
    assert torch.equal(result.x, x)
    assert (result.forwards == 10).all()
    assert (result.distance == 0).all()


# ------------------------------------------------------------------------------------------- other people's models
def test_a_forest_within_its_budget():
    x = data(150)
    flat, names = x.flatten(1).numpy(), np.array(["cat", "dog", "eel"])
    y = names[network()(x).argmax(1).numpy()]
    forest = RandomForestClassifier(12, random_state=0).fit(flat, y)
    access = black_box(forest, "labels", budget=300)
    result = hop_skip_jump()(access, x[:10])
    said = forest.predict(result.x.flatten(1).numpy())
    assert result.success.all()
    assert (said != forest.predict(flat[:10])).all()
    assert (result.forwards == 300).all()
    assert access.rows == 3000
    start = result.distance_at([20])
    assert (result.distance < start[:, 0]).double().mean() > 0.8


@pytest.fixture
def service():
    """A web service that answers {"x": …} with {"labels": …}."""
    net, state = network(), {"rows": 0}

    def answer(x):
        state["rows"] += len(x)
        return 200, {"labels": net(torch.tensor(x).double()).argmax(1).tolist()}

    with serving(answer) as url:
        yield url, state


def test_a_web_service_within_its_budget(service):
    url, state = service

    def classifier(x):
        request = Request(url, json.dumps({"x": x.tolist()}).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=10) as reply:
            return json.load(reply)["labels"]

    x = data(6)
    result = hop_skip_jump(initial=40)(black_box(classifier, "labels", budget=200), x)
    theory = hop_skip_jump(initial=40)(black_box(network(), "labels", budget=200), x)
    assert torch.equal(result.x, theory.x)
    assert result.success.all()
    assert (result.forwards == 200).all()
    assert state["rows"] == 1200


def test_bad_settings_get_a_sentence():
    for make, sentence in (
        (lambda: hop_skip_jump(L1()), r"Hops searches balls of L2, Linf, and L1\(\) is none"),
        (lambda: hop_skip_jump(gamma=0), "gamma is a positive number; got 0"),
        (lambda: hop_skip_jump(initial=0), "initial is a whole number of at least 1"),
        (lambda: hop_skip_jump(growth=2), r"growth lies in \[0, 1\]; got 2"),
        (lambda: hop_skip_jump(start=torch.zeros(0, 4)), r"start holds points \(m, \*x\), one at least"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            make()
    with pytest.raises(ShapeError, match=r"start has shape \(2, 5\); points of shape \(1, 4, 4\)"):
        hop_skip_jump(start=torch.zeros(2, 5))(network(), data())
