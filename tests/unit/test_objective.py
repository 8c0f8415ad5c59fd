"""Objectives: what is written is what is printed, and what is computed."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.distributions import DiagonalNormal
from psiphi.parts import END, Clock, LatentTrace, Objective, batch_term, free_bits, nll, rate, term, warmup
from psiphi.parts.clock import at

START = Clock(0, 0.0, 100)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def trace() -> LatentTrace:
    """K = 3 samples of B = 4 rows with codes of 2 numbers and 5 features."""
    x, q = randn(4, 5), DiagonalNormal(randn(4, 2, seed=1), 0.3 * randn(4, 2, seed=2))
    p = DiagonalNormal(randn(3, 4, 5, seed=4), torch.tensor(0.2).double())
    prior = DiagonalNormal(torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
    return LatentTrace(x, x, q, randn(3, 4, 2, seed=3), p, prior)


@term
def length(trace):
    return trace.z.square().sum((0, 2))


@batch_term
def spread(trace):
    return trace.z.std()


@pytest.mark.parametrize(
    ("objective", "shown"),
    [
        (nll, "nll"),
        (nll + rate, "nll + rate"),
        (nll + 4.0 * rate, "nll + 4.0 * rate"),
        (nll + rate * 4, "nll + 4 * rate"),
        (1.0 * nll, "nll"),
        (0.5 * (nll + 4.0 * rate), "0.5 * nll + 2.0 * rate"),
        (nll + warmup(4.0, 10) * rate, "nll + warmup(value=4.0, epochs=10) * rate"),
        (nll + rate + 0.1 * length, "nll + rate + 0.1 * length"),
        (nll + (rate + spread), "nll + rate + spread"),
        (nll + free_bits(0.5), "nll + free_bits(0.5)"),
    ],
    ids=str,
)
def test_an_objective_reads_as_it_was_written(objective, shown):
    assert repr(objective) == shown


def test_the_parts_are_means_unweighted_and_the_loss_is_their_weighted_sum(trace):
    found = (nll + 4.0 * rate + 0.5 * length + 2.0 * spread)(trace, START)
    assert list(found) == ["loss", "nll", "rate", "length", "spread"]
    gap = (trace.x - trace.p.mean) / trace.p.log_scale.exp()
    each = 0.5 * (gap.square() + 2 * trace.p.log_scale + torch.tensor(2 * torch.pi).log()).sum(-1)
    assert_close(found["nll"], each.mean())
    variance = (2 * trace.q.log_scale).exp()
    cost = 0.5 * (variance + trace.q.mean.square() - 1 - variance.log()).sum(1)
    assert_close(found["rate"], cost.mean())
    assert_close(found["length"], trace.z.square().sum((0, 2)).mean())
    assert_close(found["spread"], trace.z.std())
    weighted = found["nll"] + 4 * found["rate"] + 0.5 * found["length"] + 2 * found["spread"]
    assert_close(found["loss"], weighted)


def test_terms_are_of_each_row_or_of_the_batch(trace):
    assert (nll.value(trace).shape, rate.value(trace).shape, length.value(trace).shape) == ((4,), (4,), (4,))
    assert (length.batch, spread.batch, free_bits(1.0).batch) == (False, True, True)
    assert (length.name, spread.name) == ("length", "spread")


def test_the_reconstruction_sees_observed_coordinates_only(trace):
    where = torch.arange(20).reshape(4, 5) % 3 > 0
    some = LatentTrace(trace.x, trace.x, trace.q, trace.z, trace.p, trace.prior, where)
    assert_close(nll.value(some), -trace.p.log_prob(trace.x, where).mean(0))
    assert (nll.value(some) - nll.value(trace)).abs().min() > 0


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0.0, 0.0), (2.5, 1.0), (5.0, 2.0), (10.0, 4.0), (11.0, 4.0), (inf, 4.0)]
)
def test_a_warm_up_follows_the_clock(trace, epoch, weight):
    clock = Clock(0, epoch, 100)
    rule = warmup(4.0, 10)
    assert rule(clock) == weight
    found = (nll + rule * rate)(trace, clock)
    assert_close(found["loss"], found["nll"] + weight * found["rate"])


def test_weights():
    assert at(3.0, START) == 3.0
    assert at(lambda clock: clock.steps / 2, START) == 50
    assert warmup(4.0, 10)(END) == 4.0
    by_step = lambda clock: float(clock.step)  # noqa: E731
    assert (nll + by_step * rate).parts[1] == (by_step, rate)


def test_a_weight_of_zero_is_logged_and_has_no_say(trace):
    found = (nll + 0.0 * rate)(trace, START)
    assert_close(found["loss"], found["nll"])
    assert found["rate"] > 0


def test_free_bits_by_hand(trace):
    """Coordinate by coordinate: the mean over the batch, never below λ; below it there is no gradient."""
    mean, log_scale = trace.q.mean, trace.q.log_scale
    costs = 0.5 * ((2 * log_scale).exp() + mean.square() - 1 - 2 * log_scale).mean(0)
    low, high = costs.min(), costs.max()
    between = float((low + high) / 2)
    assert_close(free_bits(between).value(trace), between + high)
    assert_close(free_bits(0.0).value(trace), low + high)
    assert_close(free_bits(0.0).value(trace), rate.value(trace).mean())
    assert_close(free_bits(10.0).value(trace), torch.tensor(20.0).double())
    leaf = mean.clone().requires_grad_()
    free = LatentTrace(trace.x, trace.x, DiagonalNormal(leaf, log_scale), trace.z, trace.p, trace.prior)
    (slope,) = torch.autograd.grad(free_bits(between).value(free), leaf)
    assert slope[:, costs.argmin()].abs().max() == 0
    assert_close(slope[:, costs.argmax()], mean[:, costs.argmax()] / 4)


def test_two_terms_of_one_name_are_refused():
    with pytest.raises(ArgumentError, match="different names; got nll, rate, nll"):
        nll + rate + nll
    with pytest.raises(ArgumentError, match=r"free_bits\(0.5\), free_bits\(0.5\)"):
        free_bits(0.5) + free_bits(0.5)
    assert len((free_bits(0.5) + free_bits(0.25)).parts) == 2


@pytest.mark.parametrize("first", [warmup(1.0, 2), 3.0], ids=str)
@pytest.mark.parametrize("second", [warmup(1.0, 2), 3.0], ids=str)
def test_a_function_of_the_clock_is_no_factor_of_another_weight(first, second):
    if first == second == 3.0:
        assert (second * (first * rate)).parts == ((9.0, rate),)
        return
    with pytest.raises(ArgumentError, match=r"rate has the weight .* already; give each term one weight"):
        second * (first * rate)


def test_what_is_no_term_is_refused():
    with pytest.raises(ArgumentError, match=r"3\.0 is no term"):
        nll + 3.0
    with pytest.raises(ArgumentError, match="no term"):
        Objective(((1.0, nll),)) + "rate"
