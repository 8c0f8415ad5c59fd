"""Success and distance against queries, from the trace of a black-box run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box
from psiphi.attacks import L2, Attack, Linf, Result, hop_skip_jump, pgd
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import generator
from psiphi.formulas import goals
from psiphi.formulas.intervals import wilson
from psiphi.laws._asking import RandomSearch

SCORES = Attack(Linf(0.25), goals.margin, RandomSearch(turns=12, each=2))


def data(n: int = 30) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, dtype=torch.float64, generator=generator("queries", n))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double().requires_grad_(False)


def test_what_a_budget_would_have_shown():
    net, x = network(), data(150)
    whole = SCORES(black_box(net), x)
    queries = [1, 2, 4, 6, 8, 9, 25]  # two points a turn: the even ones end within one
    share = [SCORES(black_box(net, budget=q), x).success.double().mean() for q in queries]
    assert_close(whole.success_at(queries), torch.stack(share))
    assert 0 < share[2] < share[-1] < 1
    reached = whole.distance_at(queries)
    assert torch.equal(reached[:, -1].isfinite(), whole.success)


def test_distances_of_a_minimum_norm_run_are_those_of_smaller_budgets():
    net, x = network(), data(8)
    attack = hop_skip_jump(initial=30)
    whole = attack(black_box(net, "labels", budget=220), x)
    for q in (1, 4, 60, 131, 220):
        part = attack(black_box(net, "labels", budget=q), x)
        nearest = part.distance.where(part.success, torch.inf)
        assert_close(whole.distance_at([q])[:, 0], nearest, atol=0, rtol=0)
    eps = float(whole.distance.median())
    share = whole.success_at([60, 220], eps)
    assert_close(share, (whole.distance_at([60, 220]) <= eps).double().mean(0))
    assert share[0] < share[1] < 1


def test_a_curve_rises_where_rows_succeed_with_intervals():
    result = SCORES(black_box(network()), data())
    queries, share, interval = result.query_curve()
    assert_close(share[-1], result.success.double().mean())
    assert (share.diff() > 0).all()
    assert result.success_at([int(queries[0]) - 1])[0] == 0
    assert_close(interval[-1], torch.tensor(wilson(int(result.success.sum()), 30)).double())
    few, same, _ = result.query_curve([3, 9])
    assert few.tolist() == [3, 9]
    assert_close(same, result.success_at([3, 9]))


def test_rows_whose_goal_held_before_count_for_nothing():
    net, x = network(), data()
    y = net(x).argmax(1)
    wrong = torch.arange(30) % 3 == 0
    result = SCORES(black_box(net), x, torch.where(wrong, (y + 1) % 3, y))
    clean = SCORES(black_box(net), x)
    assert_close(result.success_at([25]), clean.success[~wrong].double().mean()[None])
    assert (result.distance_at([25])[wrong] == 0).all()


def test_parts_files_and_batches_keep_the_trace(tmp_path):
    net, x = network(), data()
    whole = SCORES(black_box(net), x)
    parts = [SCORES(black_box(net), x[k::2], rows=torch.arange(k, 30, 2), batch_size=3) for k in (1, 0)]
    assert_close(Result.cat(parts).trace, whole.trace, atol=0, rtol=0)
    whole.save(tmp_path / "result")
    assert torch.equal(Result.load(tmp_path / "result").trace, whole.trace)


def test_all_targets_count_on():
    net, x = network(), data(6)
    attack = Attack(Linf(0.25), goals.margin, RandomSearch(turns=12, each=2), targets="all")
    result = attack(black_box(net), x)
    most = result.trace[:, 1].long()
    assert (most <= result.forwards[result.trace[:, 0].long()]).all()
    assert_close(result.success_at([10_000])[0], result.success.double().mean())
    late = result.forwards > 2 + 24
    assert (result.distance_at([26])[late & result.success].isinf()).all()


def test_a_radius_leaves_no_success_beyond_it_in_the_trace():
    net, x = network(), data(8)
    free = hop_skip_jump(initial=30)(black_box(net, "labels", budget=150), x)
    radius = float(free.distance.median())
    bound = hop_skip_jump(L2(radius), initial=30)(black_box(net, "labels", budget=150), x)
    assert bound.trace[:, 2].max() <= radius * (1 + 1e-6)
    assert torch.equal(bound.distance_at([150])[:, 0].isfinite(), bound.success)


def test_without_a_trace_there_is_a_sentence():
    with pytest.raises(ArgumentError, match=r"no trace of queries: it is kept of a run on black_box"):
        pgd(Linf(0.1))(network(), data()).success_at([10])
    with pytest.raises(ArgumentError, match="queries are whole numbers of at least 0"):
        SCORES(black_box(network()), data()).success_at([])
    empty = SCORES(black_box(network()), data(0))
    assert empty.query_curve()[1].isnan().all()
