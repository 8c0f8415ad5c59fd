"""The importance-weighted bound and the sums behind it, on weights computed by hand."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch.testing import assert_close

from psiphi.formulas.bounds import ImportanceSums, log_mean_exp

closely = dict(rtol=1e-12, atol=1e-12)


def log_weights(k: int = 12, b: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(k, b, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_mean_exp():
    log_w = log_weights()
    assert_close(log_mean_exp(log_w), log_w.exp().mean(0).log(), **closely)
    assert_close(log_mean_exp(log_w[:1]), log_w[0], **closely)
    assert_close(log_mean_exp(log_w - 2000), log_w.exp().mean(0).log() - 2000, **closely)
    assert_close(log_mean_exp(log_w + 2000), log_w.exp().mean(0).log() + 2000, **closely)


def test_the_sums_of_hand_computed_weights():
    """w = (1, 2, 3): mean 2, ESS 36/14, SE² = 14/36 − 1/3."""
    sums = ImportanceSums.of(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).log()[:, None])
    for found, wanted in (
        (sums.estimate, log(2)),
        (sums.effective, 36 / 14),
        (sums.standard_error, (14 / 36 - 1 / 3) ** 0.5),
    ):
        assert_close(found, torch.tensor([wanted], dtype=torch.float64), **closely)
    assert sums.samples == 3


@pytest.mark.parametrize("level", [-3000.0, 0.0, 3000.0])
def test_constant_weights_have_no_error_and_count_in_full(level):
    sums = ImportanceSums.of(torch.full((50, 3), level, dtype=torch.float64))
    assert_close(sums.estimate, torch.full((3,), level, dtype=torch.float64), **closely)
    assert_close(sums.effective, torch.full((3,), 50.0, dtype=torch.float64), rtol=1e-9, atol=0)
    assert sums.standard_error.max() < 1e-6


def test_one_weight_that_outweighs_all_counts_once():
    log_w = torch.zeros(100, 1, dtype=torch.float64)
    log_w[17] = 500
    sums = ImportanceSums.of(log_w)
    assert_close(sums.effective, torch.ones(1, dtype=torch.float64), **closely)
    assert_close(sums.standard_error, torch.tensor([0.99], dtype=torch.float64).sqrt(), **closely)


def test_the_standard_error_is_the_spread_over_repetitions():
    """Log-normal weights of σ = ½, K = 400: 3000 repetitions, within four standard errors of their spread."""
    sums = ImportanceSums.of(0.5 * log_weights(400, 3000, seed=1))
    spread, reported = sums.estimate.std(), sums.standard_error.square().mean().sqrt()
    assert abs(spread - reported) < 4 * spread / (2 * 3000) ** 0.5
    assert abs(sums.estimate.mean() - 0.125) < 4 * spread / 3000**0.5 + spread**2 / 2
