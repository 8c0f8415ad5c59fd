"""Poisons: what each may change, and what it does to a model that learns of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.attacks import L2, Linf
from psiphi.basis.errors import ArgumentError, DataError, FileError, ShapeError
from psiphi.formulas import poisons
from psiphi.formulas.intervals import clopper_pearson, student
from psiphi.models import Penultimate
from psiphi.poisoning import Poison, Poisoned, Victim, blend, patch, trials

P = pp.poisoning
SHAPE, CLASSES = (1, 6, 6), 3


def rows(n: int = 120, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in three classes, each bright in a third of its own; the corners are dark."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    x = 0.3 * torch.rand(n, *SHAPE, generator=g)
    for label in range(CLASSES):
        x[y == label, :, 2 * label : 2 * label + 2, :4] += 0.6
    return x, y


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, CLASSES)).eval()


def victim(**recipe) -> Victim:
    return Victim(
        lambda seed: pp.zoo.classifier(SHAPE, CLASSES, hidden=(16,), seed=seed),
        {"epochs": 8, "lr": 2e-2, "batch_size": 32, **recipe},
    )


def every(fraction: float) -> list[Poison]:
    x, _ = rows()
    net = network()
    return [
        P.label_flip(fraction),
        P.label_flip(fraction, source=1, target=2),
        P.label_flip(fraction, target=0),
        P.outliers(fraction, reach=0.8),
        P.backdoor(1, fraction),
        P.backdoor(1, fraction, blend(0.3)),
        P.backdoor(1, fraction, clean_label=True),
        P.feature_collision(Penultimate(net), x[0], 1, fraction, eps=0.2, steps=5),
        P.gradient_matching(net, x[0], 1, eps=0.1, fraction=fraction, steps=5, restarts=2),
    ]


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("fraction", [0.0, 0.009, 0.05, 0.29])
def test_every_constraint_holds_and_all_else_is_untouched(number, fraction):
    x, y = rows()
    poison = every(fraction)[number]
    found = poison(x, y, seed=3).check(x, y)
    assert len(found) <= int(fraction * 120 + 1e-6) == found.budget
    if not len(found):
        assert found.x is x
        assert found.y is y
        return
    assert len(found) == min(found.budget, len(found))
    assert found.distance.max() <= poison.threat.eps + 1e-6
    assert found.is_poison.sum() == len(found)
    assert torch.equal(found.x[~found.is_poison], x[~found.is_poison])
    changed = (found.y != y).nonzero().squeeze(1)
    assert torch.isin(changed, found.rows).all()
    assert (len(changed) == 0) == found.labels_kept
    again = poison(x, y, seed=3)
    assert torch.equal(again.x, found.x)
    assert torch.equal(again.y, found.y)


def test_what_breaks_a_constraint_is_named():
    x, y = rows()
    found = P.backdoor(1, 0.1, clean_label=True)(x, y)
    with pytest.raises(DataError, match="at most 11"):
        replace(found, fraction=0.095).check()
    with pytest.raises(DataError, match=r"at most 0\.1 is allowed"):
        replace(found, norm="Linf", eps=0.1).check()
    with pytest.raises(DataError, match="1 poisons have another label"):
        replace(found, y=found.y.index_put((found.rows[:1],), torch.tensor([0]))).check()
    with pytest.raises(DataError, match=r"leave the box \[0, 0.5\]"):
        replace(found, box=(0.0, 0.5)).check()
    touched = found.x.clone()
    touched[(~found.is_poison).nonzero()[0]] += 0.1
    with pytest.raises(DataError, match="differ from the clean set"):
        replace(found, x=touched).check(x, y)
    with pytest.raises(DataError, match="leave the box"):
        P.backdoor(1, 0.1, lambda x: x + 1.0)(x, y)


def test_flips_go_where_they_should():
    x, y = rows()
    found = P.label_flip(0.2, source=1, target=2)(x, y)
    assert (found.base_y == 1).all()
    assert (found.y[found.rows] == 2).all()
    assert torch.equal(found.x, x)
    any_other = P.label_flip(1.0)(x, y)
    assert (any_other.y != y).all()
    # Both other classes alike: 120 fair coins, within 4 standard errors.
    up = ((any_other.y - y) % CLASSES == 1).double().mean()
    assert abs(float(up) - 0.5) < 4 * 0.5 / 120**0.5
    unknown = y.clone()
    unknown[:60] = -1
    assert P.label_flip(0.5)(x, unknown).rows.min() >= 60


def test_triggers_are_what_they_say():
    x, _ = rows(5)
    marked = patch(2, 0.9)(x)
    assert (marked[..., -2:, -2:] == 0.9).all()
    marked[..., -2:, -2:] = x[..., -2:, -2:]
    assert torch.equal(marked, x)
    pattern = torch.rand(SHAPE)
    assert_close(blend(0.25, pattern)(x), 0.75 * x + 0.25 * pattern)
    table = torch.zeros(4, 7)
    assert patch(3)(table).sum() == 12
    assert torch.equal(blend(seed=1)(x), blend(seed=1)(x))
    assert not torch.equal(blend(seed=1)(x), blend(seed=2)(x))


def test_the_proximal_step_is_the_minimiser_of_what_it_stands_for():
    """p⁺ minimises ½‖p⁺ − (p − λg)‖² + λβ‖p⁺ − b‖²: its gradient is 0 there."""
    g = torch.Generator().manual_seed(1)
    p, slope, base = (torch.randn(4, 5, generator=g, dtype=torch.float64) for _ in range(3))
    found = poisons.forward_backward(p, slope, base, 0.3, 0.7).requires_grad_()
    value = 0.5 * (found - (p - 0.3 * slope)).square().sum() + 0.3 * 0.7 * (found - base).square().sum()
    assert_close(torch.autograd.grad(value, found)[0], torch.zeros_like(p), atol=1e-12, rtol=0)


def test_collision_on_linear_features_has_the_ridge_solution():
    """f(x) = Wx: p = (WᵀW + βI)⁻¹(WᵀW t + βb), in a box that is wide enough."""
    g = torch.Generator().manual_seed(2)
    w = torch.randn(4, 6, generator=g, dtype=torch.float64) / 3
    x = 0.4 + 0.2 * torch.rand(40, 6, generator=g, dtype=torch.float64)
    y = torch.arange(40) % 2
    t = x[0]
    poison = P.feature_collision(lambda v: v @ w.T, t, 1, 0.05, beta=0.5, steps=400)
    found = poison(x, y, bounds=(-9.0, 9.0))
    beta = 0.5 * float((w @ t).square().sum()) / 6
    a = w.T @ w
    exact = torch.linalg.solve(a + beta * torch.eye(6).double(), (a @ t + beta * found.base_x).T).T
    assert_close(found.x[found.rows], exact, atol=1e-5, rtol=0)
    near = ((x[y == 1] - t) @ w.T).square().sum(1)
    assert_close(((found.base_x - t) @ w.T).square().sum(1).sort().values, near.sort().values[:2])


def test_mismatch_is_one_minus_the_cosine():
    a, b = (
        [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])],
        [torch.tensor([0.0, 1.0]), torch.tensor([[2.0]])],
    )
    assert_close(poisons.mismatch(a, b), torch.tensor(1 - 8 / (5 * 5**0.5)))
    assert_close(poisons.mismatch(a, a), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_matched_gradients_agree_more_than_those_of_the_bases():
    x, y = rows()
    net = network()
    target, label = x[0], 1

    def off(images: torch.Tensor) -> float:
        parts = []
        for a, b in ((images, torch.full((len(images),), label)), (target[None], torch.tensor([label]))):
            loss = nn.functional.cross_entropy(net(a), b)
            parts.append(torch.autograd.grad(loss, list(net.parameters())))
        return float(poisons.mismatch(*parts))

    found = P.gradient_matching(net, target, label, eps=0.3, fraction=0.1, steps=60, restarts=1)(x, y)
    more = P.gradient_matching(net, target, label, eps=0.3, fraction=0.1, steps=60, restarts=3)(x, y)
    assert off(found.x[found.rows]) < off(found.base_x) - 0.2
    assert off(more.x[more.rows]) <= off(found.x[found.rows]) + 1e-6
    assert all(p.grad is None for p in net.parameters())


def test_a_zero_budget_poison_gives_the_same_weights_bit_for_bit():
    x, y = rows()
    clean = victim().train(x, y, 5).state_dict()
    for poison in every(0.0):
        tainted = poison(x, y, seed=5)
        model = victim().train(tainted.x, tainted.y, 5)
        assert all(torch.equal(value, clean[name]) for name, value in model.state_dict().items())


def test_trials_measure_success_harm_and_what_a_filter_leaves(tmp_path):
    train, test = rows(240), rows(120, seed=1)
    seen = []
    truth = pp.poisoning.backdoor(1, 0.1)

    class Knows:
        def __init__(self, x):
            self.keep = ~(x[:, 0, -1, -1] == 1.0)

    found = trials(
        truth, victim(), train, test, n=3, filter=lambda x, y, model: Knows(x),
        on_progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert found.success.value > 0.9
    assert found.control.value < 0.2
    assert found.change.value > -0.05
    assert (found.precision.value, found.recall.value) == (1.0, 1.0)
    assert found.filtered_success.value < 0.3
    low, high = student(found.column("success")).interval
    assert found.success.interval == (max(low, 0.0), min(high, 1.0))
    found.save(tmp_path / "t.json")
    assert pp.poisoning.Trials.load(tmp_path / "t.json").lines == found.lines
    (tmp_path / "no.json").write_text(json.dumps({"format": "x"}))
    with pytest.raises(FileError, match="no poisoning trials"):
        pp.poisoning.Trials.load(tmp_path / "no.json")
    again = trials(truth, victim(), train, test, n=1)
    assert again.lines[0].success == found.lines[0].success


def test_one_target_a_trial_is_counted_by_clopper_and_pearson():
    """The target is a row of the class that it is to be taken for, so that clean models do it too."""
    train, test = rows(), rows(30, seed=1)
    seen = []

    def one(trial: int) -> Poison:
        seen.append(trial)
        return P.feature_collision(lambda v: v.flatten(1), test[0][1], 1, 0.05, eps=0.1, steps=2)

    found = trials(one, victim(), train, test, n=3)
    assert seen == [0, 1, 2]
    assert found.success.value == found.control.value == 1.0
    assert found.success.interval == clopper_pearson(3, 3)
    assert not found.is_filtered


def test_a_head_learns_its_last_layer_only():
    x, y = rows()
    body = Penultimate(network())
    before = {name: value.clone() for name, value in body.state_dict().items()}
    model = P.head(body, 12, SHAPE, CLASSES, epochs=10, lr=5e-2).train(x, y, 1)
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert float((model.predict(x) == y).float().mean()) > 0.9
    assert_close(model.network[0](x), body(x))


def test_saved_and_loaded(tmp_path):
    x, y = rows()
    for poison in (P.backdoor(1, 0.1), P.gradient_matching(network(), x[0], 1, eps=0.1, steps=2, restarts=1)):
        found = poison(x, y)
        found.save(tmp_path / "p")
        again = Poisoned.load(tmp_path / "p").check(x, y)
        assert repr(again) == repr(found)
        assert torch.equal(again.x, found.x)
        assert torch.equal(pp.data.load(tmp_path / "p.npz", validation=0, test=0.2).train.x[:0], x[:0])
    (tmp_path / "p.npz").write_bytes(b"no")
    with pytest.raises(FileError, match="SHA-256"):
        Poisoned.load(tmp_path / "p")


def test_uint8_and_other_boxes():
    x, y = rows()
    bytes_ = (255 * x).to(torch.uint8)
    found = P.backdoor(1, 0.1)(bytes_, y).check(bytes_, y)
    assert found.x.dtype == torch.float32
    assert P.backdoor(1, 0.0)(bytes_, y).x is bytes_
    wide = P.outliers(0.1)(10 * x, y, bounds=(0, 10))
    assert wide.x.max() <= 10
    with pytest.raises(DataError, match=r"outside the bounds \[0, 1\]"):
        P.outliers(0.1)(10 * x, y)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda x, y: P.label_flip(1.5), "share of the rows"),
        (lambda x, y: P.label_flip(0.1, 1, 1), "another label than their own"),
        (lambda x, y: P.backdoor(-1, 0.1), "0 or more"),
        (lambda x, y: P.backdoor(9, 0.1, clean_label=True)(x, y), "no row is of class 9"),
        (lambda x, y: P.outliers(0.1, reach=1.0), "between 0 and 1"),
        (lambda x, y: P.backdoor(1, 0.1, patch(7))(x, y), "does not fit"),
        (lambda x, y: blend(0.2, torch.zeros(2))(x), "pattern has shape"),
        (lambda x, y: blend(2.0), "weight of the pattern"),
        (lambda x, y: P.label_flip(0.1)(x, y[:5]), "whole labels"),
        (lambda x, y: P.label_flip(0.1)(x, torch.zeros_like(y)), "two classes"),
        (lambda x, y: P.label_flip(0.1)(x * float("nan"), y), "NaN"),
        (lambda x, y: P.gradient_matching(network(), x[0], 1, steps=0), "steps"),
        (lambda x, y: P.gradient_matching(network().requires_grad_(False), x[0], 1)(x, y), "is trained"),
        (lambda x, y: Poison(0.1, lambda s, n: torch.arange(n), None, None, P.Wrong(), threat="no"), "bounded by"),
        (lambda x, y: Penultimate(nn.Flatten()), "no affine layer"),
        (lambda x, y: trials(P.label_flip(0.1), victim(), (x, y), (x, y), n=0), "number of trials"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_says_so(make, says):
    with pytest.raises((ArgumentError, DataError, ShapeError), match=says):
        make(*rows())


def test_an_outlier_is_a_mixture_with_a_row_of_another_class():
    x, y = rows()
    found = P.outliers(0.2, reach=0.75)(x, y, seed=2)
    other = (found.x[found.rows] - 0.25 * found.base_x) / 0.75
    which = torch.cdist(other.flatten(1).double(), x.flatten(1).double())
    assert which.amin(1).max() < 1e-4
    assert (y[which.argmin(1)] != found.base_y).all()


def test_a_poison_of_your_own_is_its_parts():
    x, y = rows()
    grey = Poison(
        0.1, lambda setting, budget: torch.arange(budget), lambda setting, rows: setting.x[rows] + 0.05, None,
        P.Wrong(), L2(0.5), "grey()",
    )  # fmt: skip
    found = grey(x.clamp(0, 0.9), y)
    assert found.rows.tolist() == list(range(12))
    assert_close(found.distance, torch.full((12,), 0.3))
    with pytest.raises(DataError, match=r"at most 0\.1 is allowed"):
        replace(grey, threat=Linf(0.1), change=lambda setting, rows: setting.x[rows] + 0.2)(
            x.clamp(0, 0.5), y
        )
