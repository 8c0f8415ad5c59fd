"""Conformal thresholds by hand and by their law, alone and in the outlier detector."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.estimators import OutlierDetector
from psiphi.formulas import conformal


def test_threshold_is_the_order_statistic():
    scores = torch.arange(1.0, 20.0)[torch.randperm(19, generator=torch.Generator().manual_seed(0))]
    assert conformal.threshold(scores, 0.05) == 19  # ⌈0.95 · 20⌉ = 19
    assert conformal.threshold(scores, 0.1) == 18
    assert conformal.threshold(scores, 0.149) == 18  # ⌊2.98⌋ rows may lie above
    assert conformal.threshold(scores, 0.5) == 10
    assert conformal.threshold(scores[:18], 0.05) == inf


@pytest.mark.parametrize(("alarm", "n"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.3, 3), (0.29, 3)])
def test_least_rows_are_the_first_with_a_threshold(alarm, n):
    assert conformal.least_rows(alarm) == n
    assert conformal.spared(n, alarm) >= 1
    assert n == 1 or conformal.spared(n - 1, alarm) == 0


def test_a_rate_that_is_a_whole_number_of_rows_is_used_up():
    for n, alarm in ((99, 0.29), (99, 0.57), (199, 0.145)):
        assert conformal.spared(n, alarm) == round(alarm * (n + 1))


def test_p_values_count_and_agree_with_the_threshold():
    seen = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert_close(
        conformal.p_values(torch.tensor([0.0, 2.0, 2.5, 9.0]), seen),
        torch.tensor([5, 4, 2, 1], dtype=torch.float64) / 5,
    )
    scores = torch.linspace(0, 10, 41)
    for alarm in (0.2, 0.4, 0.7):
        flags = scores > conformal.threshold(seen, alarm)
        assert torch.equal(flags, conformal.p_values(scores, seen) <= alarm + 1e-12)


def test_the_law_is_scipys_beta():
    from scipy.stats import beta

    found = conformal.rate(99, 0.1)
    assert (found.mean, found.variance) == pytest.approx((beta(10, 90).mean(), beta(10, 90).var()))
    assert found.interval(0.9) == pytest.approx(beta(10, 90).interval(0.9))


def test_a_rate_outside_its_range_and_too_few_rows_are_refused():
    for alarm in (0.0, 1.0, -0.1):
        with pytest.raises(ArgumentError, match="strictly between 0 and 1"):
            conformal.threshold(torch.zeros(5), alarm)
    for alarm in ("0.1", None):
        with pytest.raises(ArgumentError, match="strictly between 0 and 1"):
            conformal.spared(5, alarm)
    with pytest.raises(ArgumentError, match="needs 99 validation rows at least; got 50"):
        conformal.rate(50, 0.01)


# ------------------------------------------------------------------------------------- in OutlierDetector
def alarm_rates(repeats: int, **how) -> np.ndarray:
    """False-alarm rates of detectors of 60 normal rows, on 300 fresh ones each."""
    rates = []
    for seed in range(repeats):
        rows = np.random.default_rng([28, seed]).normal(size=(360, 3))
        found = OutlierDetector("pca", contamination=0.1, random_state=seed, **how).fit(rows[:60])
        rates.append((found.predict(rows[60:]) == -1).mean())
    return np.array(rates)


def test_held_out_rows_keep_the_rate_over_many_repeats():
    rates = alarm_rates(100, held_out=0.5)
    theory = conformal.rate(30, 0.1)  # k = 3 of 31
    spread = theory.variance + theory.mean * (1 - theory.mean) / 300
    assert abs(rates.mean() - theory.mean) < 4 * sqrt(spread / 100)
    assert rates.std(ddof=1) == pytest.approx(sqrt(spread), rel=4 / sqrt(2 * 100))


def test_the_held_out_rows_are_not_learnt_from():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    found = OutlierDetector("pca", held_out=0.4, random_state=3).fit(rows)
    seen = (found.score_samples(rows) < found.offset_).sum()
    assert found.mean_ == pytest.approx(rows.mean(0), abs=0.5)
    assert not np.allclose(found.mean_, rows.mean(0))
    assert 1 <= seen <= 50
    again = OutlierDetector("pca", held_out=0.4, random_state=3).fit(rows)
    assert found.offset_ == again.offset_


def test_too_few_held_out_rows_and_two_ways_at_once_are_refused():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(
        DataError, match=r"contamination=0\.05 needs 19 held-out rows at least.* of 40 rows are 10"
    ):
        OutlierDetector("pca", contamination=0.05, held_out=0.25).fit(rows)
    with pytest.raises(ArgumentError, match="by folds or by held-out rows"):
        OutlierDetector("pca", folds=2, held_out=0.25).fit(rows)
    for share in (1.0, -0.1, "half"):
        with pytest.raises(ArgumentError, match="held_out is a share"):
            OutlierDetector("pca", held_out=share).fit(rows)
