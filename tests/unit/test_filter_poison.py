"""Filters of training rows: their scores in closed form, and what each finds and misses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.defenses import filter_poison, filters
from psiphi.formulas import outlying

METHODS = ("spectral", "clustering", "reconstruction", "neighbours")


def planted(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three Gaussian classes in 8 dimensions and 18 rows of class 2 that are labelled 0."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(300) % 3
    centres = 3 * torch.eye(3, 8)
    x = 0.5 * torch.randn(300, 8, generator=g) + centres[y]
    truth = torch.zeros(300, dtype=torch.bool)
    truth[(y == 2).nonzero().squeeze(1)[:18]] = True
    return x, torch.where(truth, 0, y), truth


@pytest.mark.parametrize("method", METHODS)
def test_planted_rows_are_found(method):
    x, y, truth = planted()
    found = filter_poison(x, y, method, features=lambda v: v, fraction=0.06, truth=truth)
    assert found.recall >= 0.9
    assert 0 <= found.score[~truth].median() < found.score[truth].median()
    hits = int((~found.keep & truth).sum())
    assert found.precision == hits / found.removed
    assert found.recall == hits / 18
    again = filter_poison(x, y, method, features=lambda v: v, fraction=0.06)
    assert torch.equal(again.keep, found.keep)


def test_neighbours_and_clusters_remove_next_to_nothing_of_clean_rows():
    x, y, truth = planted()
    clean = torch.where(truth, 2, y)
    for method in ("neighbours", "clustering"):
        assert filter_poison(x, clean, method, features=lambda v: v, truth=truth).removed <= 3 * 35
    assert filter_poison(x, clean, "neighbours", features=lambda v: v).removed == 0


def test_counts_of_the_cuts():
    x, y, _ = planted()
    for make in (filters.spectral, filters.reconstruction):
        each = filter_poison(x, y, make(), features=lambda v: v, fraction=0.02)
        assert each.removed == 3 * round(1.5 * 0.02 * 300)
        whole = filter_poison(x, y, make(across=True), features=lambda v: v, fraction=0.02)
        assert whole.removed == round(1.5 * 0.02 * 300)
    assert filter_poison(x, y, "spectral", features=lambda v: v, fraction=0.0).removed == 0


def test_the_spectral_score_is_the_first_singular_vectors():
    r = torch.randn(30, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    centred = r - r.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    assert_close(outlying.spectral(r), (u[:, 0] * s[0]).square())


def test_neighbours_by_brute_force():
    g = torch.Generator().manual_seed(2)
    r, y = torch.randn(40, 3, generator=g, dtype=torch.float64), torch.randint(3, (40,), generator=g)
    near = torch.cdist(r, r).fill_diagonal_(torch.inf).argsort(1)[:, :5]
    assert torch.equal(outlying.neighbours(r, 5).sort(1).values, near.sort(1).values)
    other = torch.stack([(y[near[i]] != y[i]).double().mean() for i in range(40)])
    assert_close(outlying.disagreement(r, y, 5), other)
    for i, out in enumerate(outlying.outvoted(r, y, 5).tolist()):
        votes = torch.bincount(y[near[i]], minlength=3)
        assert out == bool(votes.max() > votes[y[i]])


def test_features_are_those_of_the_model_given_or_of_one_trained_here():
    x, y, truth = planted()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.Identity(), nn.Linear(8, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(8))
        net[0].bias.zero_()
    by_model = filter_poison(x, y, "spectral", model=net, fraction=0.06)
    assert_close(by_model.score, filter_poison(x, y, "spectral", features=lambda v: v, fraction=0.06).score)
    own = filter_poison(x, y, "neighbours", truth=truth, seed=1)
    assert own.recall >= 0.9
    state = torch.get_rng_state()
    assert torch.equal(filter_poison(x, y, "neighbours", seed=1).keep, own.keep)
    assert torch.equal(state, torch.get_rng_state())


def test_a_backdoor_in_digits_is_found_by_reconstruction():
    data = pp.data.load("digits")
    tainted = pp.poisoning.backdoor(0, 0.02)(*data.train, seed=1)
    found = filter_poison(tainted.x, tainted.y, "reconstruction", fraction=0.02, truth=tainted.is_poison)
    assert found.recall >= 0.9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "no"}, "no filter is called"),
        ({"fraction": 1.0}, "share of poisons"),
        ({"truth": torch.zeros(3, dtype=torch.bool)}, "a bool for each"),
        ({"method": lambda seen: (seen.y.double(), seen.y[:2] > 0)}, "a score and a bool"),
        ({"features": lambda v: v[:1]}, "one each is needed"),
        ({"method": filters.neighbours(k=300)}, "smaller k"),
    ],
)
def test_what_has_no_meaning_says_so(change, says):
    x, y, _ = planted()
    with pytest.raises((ArgumentError, DataError), match=says):
        filter_poison(x, y, **{"features": lambda v: v, **change})
    with pytest.raises(DataError, match="two rows"):
        filter_poison(x, y[:4])
    with pytest.raises(ArgumentError, match="truth"):
        filter_poison(x, y, features=lambda v: v).recall  # noqa: B018
