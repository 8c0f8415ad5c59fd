"""Black boxes: answers only, counted, within a budget, from anything that can be called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.web import serving
from psiphi.access import black_box, white_box
from psiphi.attacks import Attack, Linf, fgsm, pgd
from psiphi.basis.errors import AccessError, ArgumentError, BudgetError
from psiphi.basis.noise import generator
from psiphi.formulas import goals
from psiphi.laws._asking import Counting, LabelSearch, RandomSearch

SCORES = Attack(Linf(0.1), goals.margin, RandomSearch(turns=6))
LABELS = Attack(Linf(0.1), goals.margin, LabelSearch(turns=6))


def data(n: int = 30, shape: tuple[int, ...] = (1, 4, 4)) -> torch.Tensor:
    return torch.rand(n, *shape, dtype=torch.float64, generator=generator("black box", n))


def network(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, k)).double()


# ------------------------------------------------------------------------------------------------ enforcement
def test_a_search_that_needs_gradients_gets_a_sentence():
    for reveal in ("scores", "labels"):
        counting = Counting(network())
        access = black_box(counting, reveal)
        for attack in (pgd(Linf(0.1)), fgsm(Linf(0.1))):
            with pytest.raises(ArgumentError, match=r"needs gradient, which black_box\(.*does not show"):
                attack(access, data())
        with pytest.raises(AccessError, match=f"shows no gradient: use an attack that asks for {reveal}"):
            access.climb(data(), lambda z: z[:, 0])
        with pytest.raises(AccessError, match="shows no gradient"):
            access.slopes(data(), lambda z: z)
        assert counting.sent == 0
    with pytest.raises(ArgumentError, match="needs scores, which"):
        SCORES(black_box(network(), "labels"), data())


@pytest.mark.parametrize("budget", [1, 2, 5, 7])
@pytest.mark.parametrize("attack", [SCORES, LABELS, Attack(Linf(0.1), goals.margin, RandomSearch(9, each=4))])
def test_budgets_hold_to_the_row(attack, budget):
    counting = Counting(network())
    result = attack(black_box(counting, attack.search.needs, budget), data(), batch_size=7)
    assert result.forwards.max() <= budget
    assert result.forwards.sum() == counting.sent
    assert (result.forwards[~result.success] == budget).all()
    assert counting.backwards == counting.tracked == 0


class WideSearch(RandomSearch):
    """Points of a ball three times as large: a minimum-norm attack with a radius brings them home."""

    def start(self, x, y, threat, box, noise):
        return super().start(x, y, replace(threat, eps=3 * threat.eps), box, noise)


@pytest.mark.parametrize("budget", [1, 3, 6, 7, 8])
def test_a_spent_budget_leaves_a_minimum_norm_attack_within_its_radius(budget):
    counting, x = Counting(network()), data()
    attack = Attack(Linf(0.03), goals.margin, WideSearch(turns=6), kind="minimum-norm")
    result = attack(black_box(counting, budget=budget), x)
    assert result.forwards.max() <= budget
    assert result.forwards.sum() == counting.sent
    assert result.distance.max() <= 0.03 + 1e-9
    broken = network()(result.x).argmax(1) != network()(x).argmax(1)
    assert not (result.success & ~broken).any()
    assert budget < 8 or torch.equal(result.success, broken)


def test_the_budget_stops_the_call_before_anything_is_sent():
    counting, x = Counting(network()), data(4)
    access = black_box(counting, budget=2)
    every = torch.arange(4)
    with access.session(x) as ledger:
        access.look(x, every)
        with pytest.raises(
            BudgetError, match="2 samples would be sent more than 2 times: give a larger budget"
        ):
            access.look(x.repeat(2, 1, 1, 1)[:6], every.repeat(2)[:6])
        assert ledger.forwards.tolist() == [1, 1, 1, 1]
        assert counting.sent == access.rows == 4
    with access.session(x) as ledger:
        assert ledger.forwards.sum() == 0


def test_all_targets_together_stay_within_the_budget():
    counting = Counting(network(5))
    attack = Attack(Linf(0.02), goals.margin, RandomSearch(turns=4), targets="all")
    free = attack(black_box(network(5)), data())
    assert free.forwards.max() == 4 * (1 + 4)
    result = attack(black_box(counting, budget=12), data())
    assert result.forwards.max() == 12
    assert result.forwards.sum() == counting.sent


def test_the_last_pass_reuses_the_recorded_answer():
    net, x = network(), data()
    result = SCORES(black_box(net), x)
    y = net(x).argmax(1)
    assert 0 < result.success.sum() < len(x)
    assert (result.forwards[~result.success] == 1 + 6).all()
    assert (result.forwards[result.success] <= 1 + 6).all()
    assert_close(result.score, goals.margin(net(result.x), y).detach())
    assert torch.equal(result.success, goals.succeeded(net(result.x), y))
    assert result.share is None


def test_a_model_is_given_its_own_points_without_gradients():
    net, x = network(), data()

    def spoils(x):
        assert not x.requires_grad
        assert not torch.is_grad_enabled()
        said = net(x)
        x.zero_()
        return said

    assert_close(SCORES(black_box(spoils), x).x, SCORES(black_box(net), x).x, atol=0, rtol=0)


def test_a_module_is_evaluated_and_comes_back():
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)
    ).double()
    net.eval()
    theory = SCORES(black_box(net), data())
    net.train()
    with pytest.warns(UserWarning, match="train mode"):
        result = SCORES(black_box(net), data())
    assert_close(result.x, theory.x, atol=0, rtol=0)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad for p in net.parameters())


# ------------------------------------------------------------------------------------------------ what is said
def test_probabilities_are_logits_by_their_logarithm():
    net, x = network(), data()
    theory = SCORES(black_box(net), x)
    for softmax in (
        lambda x: net(x).softmax(1),
        lambda x: net(x).softmax(1).tolist(),
        lambda x: net(x).softmax(1).numpy(),
    ):
        result = SCORES(black_box(softmax), x)
        assert_close(result.x, theory.x, atol=0, rtol=0)
        assert_close(result.score, theory.score)
    rounded = SCORES(
        black_box(lambda x: [[round(p, 3) for p in row] for row in net(x).softmax(1).tolist()]), x
    )
    assert (rounded.score - theory.score).abs().max() < 0.05
    certain = black_box(lambda x: torch.eye(3)[torch.zeros(len(x)).long()]).look(x)
    assert (certain.said[0, :, 0] == 0).all()
    least = torch.full((len(x), 2), torch.finfo(torch.float64).tiny, dtype=torch.float64).log()
    assert_close(certain.said[0, :, 1:], least)


def test_labels_come_from_labels_or_scores():
    net, x = network(), data()
    y = net(x).argmax(1)
    theory = LABELS(black_box(net, "labels"), x)
    assert 0 < theory.success.sum() < len(x)
    assert torch.equal(net(theory.x).argmax(1) != y, theory.success)
    for says in (
        lambda x: net(x).argmax(1),
        lambda x: net(x).argmax(1).tolist(),
        lambda x: net(x).argmax(1).double().numpy(),
        lambda x: net(x).softmax(1),
    ):
        access = black_box(says, "labels")
        assert access.look(x).said.dtype == torch.long
        assert access.look(x).said.shape == (1, len(x))
        assert torch.equal(LABELS(access, x).x, theory.x)
    with pytest.raises(ArgumentError, match="scores, which this access does not show: give target=labels"):
        LABELS(black_box(net, "labels"), x, target="least-likely")
    aimed = LABELS(black_box(net, "labels"), x, target=(y + 1) % 3)
    assert torch.equal(net(aimed.x).argmax(1) == (y + 1) % 3, aimed.success)


def test_functions_of_arrays_and_the_units_of_the_data():
    net, seen = network(), []

    def of_array(x):
        assert isinstance(x, np.ndarray)
        seen.append(x.copy())
        return net(torch.from_numpy(x)).detach().numpy()

    x = 4 * data() - 1
    access = black_box(of_array, bounds=(-1, 3), mean=1.0, std=2.0, arrays=True)
    result = SCORES(access, x)
    assert_close(torch.from_numpy(seen[0]), (x - 1) / 2)
    assert_close(result.x, SCORES(black_box(net, bounds=(-1, 3), mean=1.0, std=2.0), x).x)
    assert result.distance.max() <= 0.1 + 1e-9
    with pytest.raises(AccessError, match=r"outside the bounds \[0, 1\]"):
        SCORES(black_box(net), x)


# ------------------------------------------------------------------------------------------------- scikit-learn
@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    x = data(120).numpy()
    return x, (x[:, 0, :2].mean((1, 2)) > x[:, 0, 2:].mean((1, 2))).astype(int) + 2 * (x[:, 0, 0, 0] > 0.6)


def test_scikit_learn_classifiers_of_images(blobs):
    x, y = blobs
    flat = x.reshape(len(x), -1)
    for model in (
        LogisticRegression(),
        SVC(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(10, random_state=0),
    ):
        model.fit(flat, y)
        said = black_box(model).look(torch.from_numpy(x)).said[0]
        names = model.classes_[said.argmax(1).numpy()]
        assert (names == model.predict(flat)).mean() > 0.98
        result = SCORES(black_box(model, budget=5), x)
        assert result.success.any()
        stood = model.predict(result.x.numpy().reshape(len(x), -1))[result.robust.numpy()]
        assert (stood == model.predict(flat)[result.robust.numpy()]).all()
    logits = LogisticRegression().fit(flat, y).predict_log_proba(flat)
    mine = black_box(LogisticRegression().fit(flat, y)).look(torch.from_numpy(x)).said[0].log_softmax(1)
    assert_close(mine, torch.from_numpy(logits))


def test_scikit_learn_labels_are_places_in_classes(blobs):
    x, y = blobs
    flat, names = x.reshape(len(x), -1), np.array(["ant", "bee", "cow", "dog"])[y]
    model = KNeighborsClassifier(3).fit(flat, names)
    access = black_box(model, "labels")
    assert (
        access.look(torch.from_numpy(x)).said[0].numpy()
        == np.searchsorted(model.classes_, model.predict(flat))
    ).all()
    result = LABELS(access, x)
    moved = model.predict(result.x.numpy().reshape(len(x), -1)) != model.predict(flat)
    assert (moved == result.success.numpy()).all()
    assert moved.any()


def test_two_classes_of_one_decision_value(blobs):
    x, y = blobs
    flat = x.reshape(len(x), -1)
    model = LogisticRegression().fit(flat, y > 1)
    said = black_box(model).look(torch.from_numpy(x)).said[0]
    assert said.shape == (len(x), 2)
    assert_close(said.softmax(1), torch.from_numpy(model.predict_proba(flat)))


# ----------------------------------------------------------------------------------------------------- a service
@pytest.fixture
def service() -> Iterator[tuple[str, dict]]:
    """A web service that answers {"x": …} with {"scores": …} of a network, or fails when told to."""
    net, state = network(), {"rows": 0, "fails": False}

    def answer(x):
        state["rows"] += len(x)
        return 500 if state["fails"] else 200, {"scores": net(torch.tensor(x).double()).softmax(1).tolist()}

    with serving(answer) as url:
        yield url, state


def test_a_web_service_is_a_black_box(service):
    url, state = service

    def classifier(x):
        request = Request(url, json.dumps({"x": x.tolist()}).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=10) as reply:
            return json.load(reply)["scores"]

    result = SCORES(black_box(classifier, budget=5), data(), batch_size=16)
    theory = SCORES(black_box(network(), budget=5), data(), batch_size=16)
    assert_close(result.x, theory.x, atol=0, rtol=0)
    assert torch.equal(result.success, theory.success)
    assert 0 < result.success.sum() < 30
    assert result.forwards.sum() == state["rows"]
    state["fails"] = True
    with pytest.raises(
        AccessError, match=r"the classifier fails on input of shape \(30, 1, 4, 4\): HTTPError: .*500"
    ):
        SCORES(black_box(classifier), data())


# ----------------------------------------------------------------------------------------------------- sentences
def fails(error: Exception):
    def call(x):
        raise error

    return call


def drifting():
    calls = []

    def call(x):
        calls.append(len(x))
        logits = network()(x)
        return logits.softmax(1) if len(calls) == 1 else logits

    return call


SAYS = {
    "any error": (fails(KeyError("price")), "scores", r"fails on input of shape \(30, 1, 4, 4\): KeyError: 'price'"),
    "nan": (lambda x: network()(x) / 0, "scores", "NaN or infinite for 30 of 30 rows"),
    "nan scores of labels": (lambda x: network()(x) * torch.nan, "labels", "NaN or infinite for 30 of 30 rows"),
    "one score": (lambda x: x.sum((1, 2, 3)), "scores", r"one number a row.*reveal='labels'.*\(0, z\)"),
    "one column": (lambda x: x.sum((1, 2, 3))[:, None], "scores", "at least two classes"),
    "too few": (lambda x: network()(x)[:-1], "scores", r"returned shape \(29, 3\) for 30 rows"),
    "too few labels": (lambda x: network()(x).argmax(1)[1:], "labels", r"shape \(29\) for 30 rows; labels \(B,\) or"),
    "no labels": (lambda x: x.sum((1, 2, 3)), "labels", "no label; labels are whole numbers"),
    "negative": (lambda x: -torch.ones(len(x)), "labels", "whole numbers of 0..K-1"),
    "words": (lambda x: ["cat"] * len(x), "labels", "returned list that is no array of numbers"),
    "ragged": (lambda x: [[1.0, 2.0]] * (len(x) - 1) + [[1.0]], "scores", "no array of numbers"),
    "nothing": (lambda x: None, "scores", "NoneType that is no array of numbers"),
    "a dict": (lambda x: {"scores": [[0, 1]]}, "scores", "dict that is no array of numbers"),
    "complex": (lambda x: network()(x) + 0j, "scores", "complex"),
    "two scales": (drifting(), "scores", "returned probabilities at first, and now"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAYS)
def test_bad_answers_get_a_sentence(case):
    model, reveal, sentence = SAYS[case]
    with pytest.raises(AccessError, match=sentence):
        (SCORES if reveal == "scores" else LABELS)(black_box(model, reveal), data())


def test_bad_settings_get_a_sentence(blobs):
    x, y = blobs[0].reshape(120, -1), blobs[1]
    for make, sentence in (
        (lambda: black_box(network(), "logits"), "reveal is 'scores' or 'labels'; got 'logits'"),
        (lambda: black_box(network(), budget=0), "budget is a whole number of at least 1"),
        (lambda: black_box(network(), budget=2.5), "budget is a whole number"),
        (lambda: black_box(white_box(network())), "is an access already"),
        (lambda: black_box(3), "a module or a function"),
        (lambda: black_box(LogisticRegression()), "LogisticRegression has no classes_: .*fit it first"),
        (lambda: black_box(LinearRegression().fit(x, y)), "LinearRegression has no classes_"),
        (lambda: black_box(network(), bounds=(1, 0)), "lower first"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            make()
    with pytest.raises(AccessError, match=r"6 numbers for 4 classes: set decision_function_shape='ovr'"):
        SCORES(black_box(SVC(decision_function_shape="ovo").fit(x, y)), blobs[0])


def test_names_and_faces():
    assert repr(black_box(network(), "labels", 9)) == (
        "black_box(Sequential, bounds=(0, 1), reveal='labels', budget=9)"
    )
    for name in ("white_box", "gray_box", "black_box", "expectation", "bpda"):
        assert callable(getattr(pp.access, name))
    assert white_box(access := black_box(network())) is access
    assert len(SCORES(access, data(0))) == 0
