"""Two-sample tests: their level under the null, their power, and the statistic that they permute."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from psiphi import divergences as dv
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.evaluation import TwoSample, two_sample
from psiphi.formulas import kernels


def draws(seed: int, n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("test", ["mmd", "energy"])
def test_the_statistic_is_the_divergence(test):
    x, y = draws(1, 60, 3), draws(2, 45, 3) + 0.4
    found = two_sample(x, y, test=test, permutations=50, scales=(1.0, 3.0))
    wanted = dv.energy(x, y) if test == "energy" else dv.mmd(x, y, scales=(1.0, 3.0))
    assert found.statistic == pytest.approx(wanted.value, rel=1e-4)
    assert found.rows == (60, 45)


@pytest.mark.parametrize("test", ["mmd", "energy"])
def test_few_rows_against_every_split_there_is(test):
    """Of 5 + 3 rows there are 56 splits: the p-value of many random ones is the exact share, within 4 SE."""
    x, y = draws(3, 5, 2), draws(4, 3, 2) + 1.5
    z, kernel = torch.cat([x, y]).double(), kernels.negative_distance
    if test == "mmd":
        kernel = kernels.inverse_multiquadratic((1.0,))
    values = []
    for first in combinations(range(8), 5):
        rest = [i for i in range(8) if i not in first]
        values.append(float(kernels.mmd2(z[list(first)], z[rest], kernel)))
    exact = sum(v >= values[0] - 1e-9 for v in values) / len(values)
    n = 4000
    found = two_sample(x, y, test=test, permutations=n, scales=(1.0,))
    assert abs(found.p_value - exact) <= 4 * sqrt(exact * (1 - exact) / n) + 1 / n
    assert found.null is not None
    off = (found.null[:, None] - torch.tensor(values)).abs().amin(1)
    assert off.max() < 1e-5  # every permutation is one of the 56 splits


@pytest.mark.parametrize("test", ["mmd", "energy", "classifier"])
def test_p_values_are_uniform_under_the_null(test):
    """Of 60 tests of equal distributions: mean p of ½, and not too many of them low, within 4 SE."""
    n = 60
    p = torch.tensor([
        two_sample(draws(i, 30, 2), draws(1000 + i, 25, 2), test=test, permutations=99).p_value for i in range(n)
    ])  # fmt: skip
    assert (p <= 0.1).float().mean() <= 0.1 + 4 * sqrt(0.1 * 0.9 / n)
    if test != "classifier":  # of a binomial, which is discrete, p is larger
        assert abs(p.mean() - 0.5) <= 4 / sqrt(12 * n)


@pytest.mark.parametrize("test", ["mmd", "energy", "classifier"])
def test_a_shift_is_found(test):
    found = two_sample(draws(5, 200, 4), draws(6, 200, 4) + 1, test=test, permutations=1999)
    assert found.p_value <= 5e-4 if test != "classifier" else found.p_value < 1e-6
    assert found.statistic > found.quantile_999


def test_codes_against_prior_draws():
    """As for codes of a model: 359 draws of N(0, I) in 8 dimensions stay below the quantile, N(0.3, I) does not."""
    z, prior = draws(7, 359, 8), draws(8, 359, 8)
    assert (same := two_sample(z, prior)).statistic <= same.quantile_999
    assert (other := two_sample(z + 0.3, prior)).statistic > other.quantile_999


def test_the_null_is_keyed_by_permutation():
    x, y = draws(9, 20, 2), draws(10, 30, 2)
    few, more = (two_sample(x, y, permutations=n, scales=(1.0,)) for n in (100, 300))
    assert few.null is not None
    assert more.null is not None
    assert torch.isin(few.null, more.null).float().mean() > 0.95
    again = two_sample(x, y, permutations=100, scales=(1.0,))
    assert few == again
    assert torch.equal(few.null, again.null)
    assert two_sample(x, y, permutations=100, scales=(1.0,), seed=1).null.equal(few.null) is False


def test_the_bandwidth_does_not_know_which_rows_are_x():
    """x and y swapped, at equal sizes and the same pooled rows, is the same test."""
    x, y = draws(11, 40, 2), draws(12, 40, 2) * 3
    one, other = two_sample(x, y, permutations=10), two_sample(y, x, permutations=10)
    assert one.how == other.how
    assert one.statistic == pytest.approx(other.statistic, rel=1e-4)


def test_quantiles_and_the_add_one_rule():
    null = torch.arange(1000).float()
    found = TwoSample("mmd", 2000.0, 1 / 1001, 1000, (5, 5), "by hand", null)
    assert found.quantile_999 == 998
    assert found.quantile(0.5) == 499
    assert two_sample(draws(13, 50, 1), draws(14, 50, 1) + 9, permutations=99).p_value == 1 / 100
    coin = TwoSample("classifier", 0.9, 0.01, 0, (5, 5), "by hand")
    assert coin.quantile_999 == 0.9  # P(X ≤ 9) = 1 − 1/1024
    assert coin.quantile(0.5) == 0.5
    assert "null" not in found.as_dict()
    assert str(coin) == "held-out accuracy 0.9, 99.9 % of the null below 0.9, p = 0.01 (by hand)"


def test_a_classifier_of_your_own():
    own = LogisticRegression()
    found = two_sample(draws(15, 100, 2), draws(16, 80, 2) + 1, test="classifier", classifier=own)
    assert found.rows == (40, 40)
    assert found.statistic > 0.65
    assert "LogisticRegression" in found.how
    assert not hasattr(own, "coef_")


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: two_sample(x, x, test="ks"), ArgumentError, "mmd, energy, classifier"),
        (lambda x: two_sample(x, x, permutations=0), ArgumentError, "permutations"),
        (lambda x: two_sample(x, x[:1]), DataError, "y has shape"),
        (lambda x: two_sample(x, x[:7], test="classifier"), DataError, "at least 8 rows"),
        (lambda x: two_sample(x, x, kernel="cubic"), ArgumentError, "imq, rbf"),
        (lambda x: two_sample(x, x, test="energy", permutations=9).quantile(1), ArgumentError, "level"),
        (lambda x: two_sample(x.repeat(1001, 1), x.repeat(1001, 1)), ArgumentError, "20000 rows"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(draws(0, 10, 2))
