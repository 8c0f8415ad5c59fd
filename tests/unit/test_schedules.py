"""Noise schedules: their ends, levels and texts, what they warn of, what they refuse."""

from __future__ import annotations

import warnings
from contextlib import suppress
from math import exp, isfinite

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from psiphi import zoo
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.schedules import (
    SCHEDULES,
    Schedule,
    ScheduleWarning,
    cosine,
    exponential,
    flow,
    karras,
    ladder,
    linear,
    schedule,
)

TEXTS = [
    "linear:1000", "linear:1", "linear:10", "linear:20", "linear", "cosine:1", "cosine:10", "cosine:20", "cosine:1000",
    "cosine", "exponential", "exponential:0.01,50", "exponential:0.1,5,1", "exponential:0.1,5,12", "karras",
    "karras:0.01,40", "flow", "flow:0.01,0.99",
]  # fmt: skip
CONTINUOUS = ["linear", "exponential", "karras", "flow"]


@pytest.mark.parametrize("text", TEXTS)
def test_levels_fall_and_are_finite(text: str):
    line = schedule(text)
    for steps in (1, 10, 20, 1000):
        if line.steps is not None and steps > line.steps:
            with pytest.raises(ArgumentError, match=f"{line.steps} levels of noise; {steps} steps"):
                line.sigmas(steps)
            continue
        levels = line.sigmas(steps)
        assert levels.dtype == torch.float64
        assert len(levels) == steps
        assert bool(levels.isfinite().all())
        assert bool((levels > 0).all())
        assert bool((levels.diff() < 0).all())
        assert_close(float(levels[0]), line.sigma_max, rtol=1e-12, atol=0.0)
        if line.steps is None and steps > 1:
            assert_close(float(levels[-1]), line.sigma_min, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("text", TEXTS)
def test_training_draws_lie_in_range_and_rise(text: str):
    line = schedule(text)
    u = torch.linspace(0, 1, 400, dtype=torch.float64)
    sigma = line.draw(u)
    assert bool(sigma.isfinite().all())
    assert bool((sigma > 0).all())
    assert bool((sigma.diff() >= 0).all())
    if line.drawn is None:
        assert_close(float(sigma[-1]), line.sigma_max, rtol=1e-9, atol=0.0)
        assert float(sigma[0]) >= line.sigma_min * (1 - 1e-9)


@pytest.mark.parametrize("text", CONTINUOUS)
def test_the_rate_is_the_slope(text: str):
    line, u = schedule(text), torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    h = 1e-6
    slope = (line.draw(u + h) - line.draw(u - h)) / (2 * h)
    assert_close(line.rate(u), slope, rtol=1e-5, atol=1e-8)


def test_the_rate_of_levels_sums_to_the_precision_gained():
    """(1/T) Σ σ_i⁻³ rate_i = ½ (2σ_1⁻² − σ_T⁻²): the bound's weights telescope."""
    line = linear(20)
    u = torch.arange(1, 21, dtype=torch.float64) / 20
    total = (line(u).pow(-3) * line.rate(u)).mean()
    assert_close(float(total), line.sigma_min**-2 - line.sigma_max**-2 / 2, rtol=1e-12, atol=0.0)


def test_published_ends():
    """linear:1000: σ_1² = β_1/(1 − β_1), ᾱ_T = 4.036e-5; any other T: exp(−10.05); flow: 0.999/0.001."""
    assert_close(linear(1000).sigma_min ** 2, 1e-4 / (1 - 1e-4), rtol=1e-12, atol=0.0)
    assert_close(1 / (1 + linear(1000).sigma_max ** 2), 4.036e-5, rtol=1e-3, atol=0.0)
    for steps in (1, 10, 999):
        assert_close(1 / (1 + linear(steps).sigma_max ** 2), exp(-10.05), rtol=1e-12, atol=0.0)
    assert_close(1 / (1 + linear(None).sigma_max ** 2), exp(-10.05), rtol=1e-12, atol=0.0)
    assert_close(flow().sigma_max, 999.0, rtol=1e-9, atol=0.0)
    assert isfinite(cosine(1000).sigma_max)


def test_karras_levels_are_even_in_the_root():
    levels = karras(0.002, 80.0).sigmas(18) ** (1 / 7)
    assert_close(levels.diff(), torch.full((17,), float(levels[1] - levels[0]), dtype=torch.float64))
    assert_close(float(levels[0] ** 7), 80.0)


def test_karras_draws_are_log_normal():
    """Quantiles of ln σ: mean −½, standard deviation 1.2."""
    u = torch.tensor([0.5, 0.8413447460685429], dtype=torch.float64)
    assert_close(karras().draw(u).log(), torch.tensor([-0.5, 0.7], dtype=torch.float64))


def test_a_ladder_is_sorted_and_steps_keep_its_top():
    line = ladder([1.0, 0.1, 3.0, 0.5])
    assert line.levels == (0.1, 0.5, 1.0, 3.0)
    assert line.sigmas().tolist() == [3.0, 1.0, 0.5, 0.1]
    assert line.sigmas(2).tolist() == [3.0, 0.5]
    assert line(torch.tensor([0.25, 0.26, 1.0])).tolist() == pytest.approx([0.1, 0.5, 3.0])


@pytest.mark.parametrize("text", TEXTS)
def test_calls_keep_dtype_and_shape(text: str):
    u = torch.rand(7, generator=torch.Generator().manual_seed(0))
    line = schedule(text)
    for made in (line(u), line.u(line(u)), line.draw(u), line.rate(u)):
        assert made.dtype == u.dtype
        assert made.shape == u.shape


@given(st.floats(1e-3, 1.0), st.floats(1.01, 1e4), st.integers(1, 60))
def test_any_range_is_kept(low: float, ratio: float, steps: int):
    for line in (
        exponential(low, low * ratio),
        karras(low, low * ratio),
        exponential(low, low * ratio, steps),
    ):
        levels = line.sigmas(steps)
        assert len(levels) == steps
        assert_close(float(levels[0]), low * ratio, rtol=1e-9, atol=0.0)
        assert bool((levels >= low * (1 - 1e-9)).all())


def test_a_schedule_passes_through_and_shows_its_range():
    line = exponential(0.1, 5.0)
    assert schedule(line) is line
    assert repr(line) == "exponential:0.1,5 (σ from 0.1 to 5)"
    assert set(SCHEDULES) == {"linear", "cosine", "exponential", "karras", "flow"}


# ------------------------------------------------------------------------------------------------ warnings
@pytest.mark.parametrize(
    ("line", "parametrisation", "says"),
    [
        (exponential(0.01, 5.0), "edm", "still holds 20% of the data"),
        (exponential(0.01, 5.0), "edm", "raise σ_max to 20 or more"),
        (exponential(0.3, 50.0), "edm", "detail finer than that is lost"),
        (linear(10), "noise", "detail finer"),
        (exponential(0.01, 2000.0), "noise", "multiplied"),
        (exponential(0.01, 2000.0), "score", "multiplied"),
        (exponential(0.001, 50.0), "denoised", "divided by σ²"),
    ],
)
def test_what_cannot_give_good_samples_is_said(line: Schedule, parametrisation: str, says: str):
    with pytest.warns(ScheduleWarning, match=says):
        line.check(parametrisation)


@pytest.mark.parametrize(
    ("line", "parametrisation"),
    [
        (linear(1000), "noise"), (linear(None), "noise"), (karras(), "edm"), (exponential(), "score"),
        (flow(), "flow"), (exponential(0.02, 50.0), "denoised"), (exponential(0.01, 2000.0), "velocity"),
    ],
)  # fmt: skip
def test_what_works_is_quiet(line: Schedule, parametrisation: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line.check(parametrisation)


def test_models_say_it_when_they_are_built():
    for build, says in (
        (lambda: zoo.ddpm(2, schedule="exponential:0.01,5"), "prior it starts from is wrong"),
        (lambda: zoo.ddpm(2, schedule="linear:20"), "detail finer"),
        (lambda: zoo.ddpm(2, schedule="karras", parametrisation="denoised"), "divided by σ²"),
        (lambda: zoo.score_model(2, sigma_max=3.0), "raise σ_max"),
        (lambda: zoo.edm(2, schedule="exponential:0.5,50"), "lower σ_min"),
    ):
        with pytest.warns(ScheduleWarning, match=says):
            build()


# ------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sigmoid", "no schedule is called 'sigmoid'; write e.g. linear:1000"),
        ("linear:ten", "no schedule is called 'linear:ten'"),
        ("linear:1,2", "no schedule is called"),
        ("cosine:0", "whole number of steps, at least 1; got 0"),
        ("linear:2.5", "whole number of steps, at least 1; got 2.5"),
        ("linear:-3", "at least 1; got -3"),
        ("linear:inf", "whole number of steps, at least 1; got inf"),
        ("linear:nan", "at least 1; got nan"),
        ("cosine:", None),
        ("exponential:1,0.1", "0 < σ_min < σ_max; got 1 and 0.1"),
        ("exponential:0,1", "0 < σ_min < σ_max"),
        ("exponential:nan,1", "0 < σ_min < σ_max"),
        ("exponential:0.1,inf", "0 < σ_min < σ_max"),
        ("karras:2,1", "0 < σ_min < σ_max"),
        ("karras:0.1,1,0", "ρ of at least 0.1"),
        ("karras:0.1,1,7,0,-1", "finite mean and σ; got 7, 0, -1"),
        ("flow:0,1", "runs inside"),
        ("flow:0.5,0.1", "got 0.5 to 0.1"),
        ("", "no schedule is called ''"),
    ],
)
def test_bad_texts_get_a_sentence(text: str, says: str | None):
    if says is None:
        assert schedule(text).steps == 1000
        return
    with pytest.raises(ArgumentError, match=says):
        schedule(text)


@given(st.text(max_size=12) | st.from_regex(r"(linear|cosine|exponential|karras|flow):[-0-9.,e]{0,12}"))
def test_no_text_raises_anything_else(text: str):
    _, _, numbers = text.partition(":")
    if any(len(each) > 5 or "e" in each for each in numbers.split(",")):
        return  # a million levels take their time
    with suppress(ArgumentError):
        schedule(text)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ladder([]), "at least one σ"),
        (lambda: ladder([0.0, 1.0]), "above 0 and finite; ladder of 2 runs from 0 to 1"),
        (lambda: ladder([1.0, float("inf")]), "finite"),
        (lambda: karras().sigmas(), "needs a whole number of steps"),
        (lambda: karras().sigmas(0), "at least 1; got 0"),
        (lambda: linear(10).sigmas(11), "10 levels of noise; 11 steps"),
    ],
)
def test_bad_arguments_get_a_sentence(make, says: str):
    with pytest.raises(ArgumentError, match=says):
        make()
