"""Batteries: the worst of several attacks on each row, and the standard ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box, expectation, gray_box
from psiphi.attacks import L1, L2, Battery, Linf, Result, Rivals, apgd, auto, ddn, deepfool, fab, pgd, square
from psiphi.basis.errors import AccessError, ArgumentError
from psiphi.basis.noise import generator
from psiphi.laws._asking import Counting


def data(n: int = 24) -> torch.Tensor:
    return torch.rand(n, 1, 6, 6, dtype=torch.float64, generator=generator("auto", n))


def network(k: int = 4, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, k)).double()


class Noisy(nn.Module):
    def __init__(self, sigma: float = 0.3):
        super().__init__()
        self.net, self.sigma = network(), sigma

    def forward(self, x):
        return self.net(x + self.sigma * torch.randn_like(x))


def labelled(k: int = 4) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    net, x = network(k), data()
    return net, x, net(x).argmax(1)


def typical(kind, net, x, y):
    """A radius that about half of the rows stand."""
    return kind(fab(kind(), steps=10)(net, x, y).distance[y == net(x).argmax(1)].median().item())


def small(threat, version="standard"):
    return auto(threat, version, steps=5, queries=20)


def apart(battery, classifier, x, y, **how):
    """Every attack of the battery on every row."""
    return [replace(each, kind="fixed-perturbation")(classifier, x, y, **how) for each in battery.attacks]


# ------------------------------------------------------------------------------------------------ the worst of all
@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_a_row_is_broken_iff_one_of_the_attacks_breaks_it(kind, k):
    net, x, y = labelled(k)
    y[:2] = (y[:2] + 1) % k
    threat = typical(kind, net, x, y)
    battery = small(threat)
    result, each = battery(net, x, y), apart(battery, net, x, y)
    broken = torch.stack([other.success for other in each])
    assert torch.equal(result.success, broken.any(0))
    assert 6 < result.success.sum() < 20
    first = torch.where(result.broken, broken.long().argmax(0), -1)
    assert torch.equal(result.broken_by, first)
    for place, other in enumerate(each):
        mine = result.broken_by == place
        assert_close(result.x[mine], other.x[mine])
    assert_close(result.x[~result.success], each[0].x[~result.success])
    run = torch.stack([torch.ones_like(broken[0]), *(~broken).cumprod(0)[:-1].bool()])
    for name in ("forwards", "backwards"):
        spent = torch.stack([getattr(other, name) for other in each])
        assert torch.equal(getattr(result, name), (spent * run).sum(0))
    assert (threat.distance(result.x, x) <= threat.eps * (1 + 1e-6)).all()
    assert (net(result.x).argmax(1) != y)[result.success].all()


def test_the_order_does_not_change_who_is_broken_and_a_row_broken_first_costs_no_more():
    net, x, y = labelled()
    battery = small(typical(Linf, net, x, y))
    counting = Counting(net)
    one = battery(counting, x, y)
    assert counting.backwards == one.backwards.sum()
    other = Battery(battery.attacks[::-1])(net, x, y)
    assert torch.equal(one.success, other.success)
    first = battery.attacks[0](net, x, y)
    assert first.success.any()
    assert torch.equal(one.forwards[first.success], first.forwards[first.success])
    assert (one.forwards > first.forwards)[~first.success].all()


def test_nothing_depends_on_the_batch():
    net, x, y = labelled()
    battery = small(typical(Linf, net, x, y))
    whole, tiny = battery(net, x, y), battery(net, x, y, batch_size=7)
    parts = [
        battery(net, x[i : i + 13], y[i : i + 13], rows=range(i, min(i + 13, 24))) for i in range(0, 24, 13)
    ]
    streamed = battery(net, iter([(x[:10], y[:10]), (x[10:], y[10:])]))
    for other in (tiny, Result.cat(parts), streamed):
        for name in ("x", "success", "forwards", "backwards", "broken_by"):
            assert_close(getattr(other, name), getattr(whole, name))


def test_misclassified_rows_cost_the_clean_check_unless_all_steps_are_wanted():
    net, x = network(), data()
    y = (net(x).argmax(1) + 1) % 4
    battery = small(Linf(0.05))
    result = battery(net, x, y)
    assert result.already_wrong.all()
    assert (result.forwards == 1).all()
    assert (result.broken_by == -1).all()
    assert torch.equal(result.x, x)
    full = battery(net, x, y, stop_early=False)
    assert torch.equal(
        full.forwards, sum(each.forwards for each in apart(battery, net, x, y, stop_early=False))
    )


def test_each_row_has_its_own_radius():
    net, x = network(), data()
    y = net(x).argmax(1)
    eps = typical(Linf, net, x, y).eps * torch.linspace(0.2, 2, 24)
    together = small(Linf(eps))(net, x, y)
    assert 6 < together.success.sum() < 20
    for i in range(3, 24, 5):
        one = small(Linf(eps[i].item()))(net, x[i : i + 1], y[i : i + 1], rows=range(i, i + 1))
        assert torch.equal(together.success[i : i + 1], one.success)
        assert torch.equal(together.forwards[i : i + 1], one.forwards)
    radii = eps[[4, 9, 20]].tolist()
    curve = small(Linf(0.1)).curve(net, x, y, eps=radii)
    for place, e in enumerate(radii):
        assert torch.equal(curve.robust[:, place], small(Linf(e))(net, x, y).robust)


# --------------------------------------------------------------------------------------------- targets and radius
def test_a_targeted_attack_counts_any_misclassification_and_takes_the_likeliest_classes():
    net, x = network(6), data()
    logits = net(x)
    y = logits.argmax(1)
    threat = typical(Linf, net, x, y)
    rivals = apgd(threat, 8, goal="dlr", targets=Rivals(2))(net, x, y)
    order = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    one = apgd(threat, 8, goal="dlr")
    aimed = [one(net, x, y, target=order[:, place], stop_early=False) for place in range(2)]
    astray = torch.stack([net(each.x).argmax(1) != y for each in aimed]).any(0)
    assert rivals.success[astray].all()
    assert torch.equal(rivals.success, net(rivals.x).argmax(1) != y)
    assert rivals.target is None
    assert not rivals.targeted
    stands = ~rivals.success
    assert (rivals.backwards[stands] == 2 * 8).all()
    assert (rivals.backwards[rivals.success] <= 2 * 8).all()


@pytest.mark.parametrize("attack", [apgd, fab], ids=["apgd", "fab"])
def test_on_the_way_to_one_class_another_one_counts(attack):
    """Logits 0, s − 1, 3s − 2.5, −9: the likeliest rival leads at no s ≤ 1, the next one from s = 5/6 on."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 4)).double().requires_grad_(False)
    net[1].weight[:, 0], net[1].bias[:] = torch.tensor([0, 1, 3, 0.0]), torch.tensor([0, -1, -2.5, -9])
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])
    goal = {"goal": "dlr"} if attack is apgd else {}
    free = Battery([attack(Linf(1), 20, targets=Rivals(1), **goal)])(net, x, y)
    assert free.success.all()
    assert net(free.x).argmax(1) == 2
    assert not Battery([attack(Linf(1), 20, **goal)])(net, x, y, target=1).success.any()


def test_fab_within_a_radius_ends_at_the_first_success_there_and_finds_what_the_full_walk_finds():
    net, x, y = labelled()
    threat = typical(Linf, net, x, y)
    eps = threat.eps * (1 + 1e-6)
    full = fab(threat, steps=20)(net, x, y)
    battery = Battery([fab(threat, steps=20)])
    ends = battery(net, x, y)
    within = full.success & (full.distance <= eps)
    assert torch.equal(ends.success, within)
    assert 0 < within.sum() < len(x)
    assert (ends.forwards[within] < full.forwards[within]).all()
    assert (ends.distance <= eps).all()
    assert ends.kind == "fixed-perturbation"


def test_without_a_radius_the_nearest_of_minimum_norm_attacks_counts():
    net, x, y = labelled()
    attacks = [deepfool(L2()), ddn(steps=10)]
    result = Battery(attacks)(net, x, y)
    each = [attack(net, x, y) for attack in attacks]
    assert_close(result.distance, torch.minimum(each[0].distance, each[1].distance))
    assert result.kind == "minimum-norm"
    assert set(result.broken_by.tolist()) == {0, 1}
    assert torch.equal(result.forwards, each[0].forwards + each[1].forwards)


def test_targets_of_the_call_are_those_of_every_attack():
    net, x, y = labelled()
    target = (y + 1) % 4
    result = small(Linf(2 * typical(Linf, net, x, y).eps))(net, x, y, target=target)
    assert result.targeted
    assert torch.equal(result.success, net(result.x).argmax(1) == target)
    assert 0 < result.success.sum() < len(x)
    own = small(Linf(0.01))(net, x, target=int(y[0]), stop_early=False)
    assert torch.equal(own.already_met, y == y[0])


# ------------------------------------------------------------------------------------------------------- access
def test_of_a_black_box_that_shows_scores_square_alone_runs_and_the_result_says_so():
    net, x, y = labelled()
    counting = Counting(net)
    box, threat = black_box(counting, reveal="scores", budget=20), typical(Linf, net, x, y)
    result = small(threat)(box, x, y)
    alone = square(threat, 20)(black_box(net, budget=20), x, y)
    assert torch.equal(result.x, alone.x)
    assert counting.tracked == 0
    assert result.forwards.max() <= 20
    assert set(result.broken_by.tolist()) <= {-1, 3}
    assert len(result.provenance["left_out"]) == 3
    assert "needs gradient, which black_box" in result.provenance["left_out"][0]
    with pytest.raises(
        AccessError, match=r"no attack of this battery can run: apgd .* needs gradient, .*; square"
    ):
        small(Linf(0.05))(black_box(net, reveal="labels"), x, y)


def test_a_budget_is_one_for_all_attacks():
    net, x, y = labelled()
    squares = [square(Linf(0.03), 12), square(Linf(0.03), 12, goal="cross_entropy")]
    result = Battery(squares)(black_box(net, budget=18), x, y)
    assert result.forwards.max() == 18
    assert (result.forwards[~result.success] == 18).all()


def test_of_a_surrogate_the_oracle_judges_and_shows_labels_only():
    net, x = network(), data(60)
    surrogate = gray_box(network(seed=1), black_box(net, "labels"), x, epochs=30, lr=0.01)
    result = small(Linf(0.08))(surrogate, x[:10], net(x[:10]).argmax(1))
    assert torch.equal(result.success, net(result.x).argmax(1) != net(x[:10]).argmax(1))
    assert (result.backwards == 0).all()


def test_random_classifiers_are_judged_on_other_draws_than_the_worst_was_picked_by():
    x = data(12)
    battery = auto(Linf(0.05), "random", steps=3)
    with torch.no_grad():
        y = network()(x).argmax(1)
    result = battery(Noisy(), x, y)
    assert result.share is not None
    assert battery.draws == 20
    stands = ~result.already_met & (result.share < 1)
    # two attacks, each 100 draws of the clean row, 4 points of 20 draws, 100 of the end; 100 for the pick
    assert (result.forwards[stands] <= 2 * (100 + 4 * 20 + 100) + 100).all()
    assert (result.forwards[stands] > 280 + 100).any()
    assert torch.equal(result.forwards, battery(expectation(Noisy(), 20), x, y).forwards)
    each = torch.stack([attack(expectation(Noisy(), 20), x, y).share for attack in battery.attacks])
    picked = each.amax(0)
    met = result.already_met
    assert (result.share - picked)[~met].abs().max() <= 4 * (0.25 / 100 * 2) ** 0.5
    assert not torch.equal(result.share[~met], picked[~met])


# ----------------------------------------------------------------------------------------------- values and words
def test_batteries_are_values_that_say_what_they_are():
    battery = auto(Linf(0.1))
    assert repr(battery) == "auto(Linf(0.1), version='standard', steps=100, queries=5000)"
    assert battery.names == (
        "apgd (cross_entropy)",
        "apgd (dlr, 9 targets)",
        "fab (9 targets)",
        "square (margin)",
    )
    assert [each.search.restarts for each in auto(L1(5.0)).attacks[:3]] == [5, 1, 1]
    assert auto(L1(5.0)).attacks[1].targets == Rivals(5)
    assert auto(L1(5.0)).attacks[0].search.widths == (3, 2, 1)
    assert len(auto(L2(1.0), "plus").attacks) == 6
    assert repr(Battery([pgd(Linf(0.1)), pgd(Linf(0.1))])).startswith(
        "Battery(Linf(0.1), pgd (cross_entropy), pgd"
    )
    for wrong, said in (
        (lambda: Battery([]), "one at least"),
        (lambda: Battery([pgd(Linf(0.1)), pgd(Linf(0.2))]), "share one threat; got .*0.1.*0.2"),
        (lambda: Battery([pgd(L2(0.1)), ddn()]), "share one threat"),
        (lambda: auto(Linf()), "no radius"),
        (lambda: auto(Linf(0.1), "best"), "'standard', 'random', 'plus'; got 'best'"),
        (lambda: Rivals(0), "at least 1"),
    ):
        with pytest.raises(ArgumentError, match=said):
            wrong()


def test_a_result_tells_who_broke_what_and_keeps_it_on_disk(tmp_path):
    net, x, y = labelled()
    battery = small(typical(Linf, net, x, y))
    result = battery(net, x, y)
    first = int((result.broken_by == 0).sum())
    assert f"apgd (cross_entropy) {first}" in result.summary()
    result.save(tmp_path / "r")
    back = Result.load(tmp_path / "r")
    assert torch.equal(back.broken_by, result.broken_by)
    assert back.provenance["attacks"] == list(battery.names)


def test_progress_rises_to_all_attacks_of_all_rows():
    net, x, y = labelled()
    seen = []
    small(typical(Linf, net, x, y))(net, x, y, on_progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (4 * 24, 4 * 24)
    assert all(of == 96 for _, of in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_wide_walks_in_l1_count_only_what_lies_within():
    net, x, y = labelled()
    eps = typical(L1, net, x, y).eps
    wide = apgd(L1(eps), 10, widths=(3, 2, 1))(net, x, y)
    assert (wide.distance <= eps * (1 + 1e-6)).all()
    assert torch.equal(wide.success, net(wide.x).argmax(1) != y)
    far = apgd(L1(3 * eps), 10)(net, x, y)
    assert far.success.sum() > wide.success.sum() > 0
    with pytest.raises(ArgumentError, match="the last 1"):
        apgd(L1(0.7), widths=(3, 2))
    with pytest.raises(ArgumentError, match="for an L1 threat"):
        apgd(L2(0.7), widths=(3, 2, 1))
