"""Plans: what they cost, their weights, files and texts, refusals."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from helpers.samplers import EVERY, F64, LEVELS, PLANS, normal
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.basis.noise import Noise
from psiphi.formulas.schedules import exponential, karras, linear
from psiphi.models._walks import plan_of
from psiphi.samplers import (
    Plan,
    Row,
    ancestral,
    annealed_langevin,
    ddim,
    dpm_solver,
    heun,
    langevin,
    predictor_corrector,
    samplers,
    trajectory,
    walk,
    walkback,
)
from psiphi.samplers._walk import draws


# ---------------------------------------------------------------------------------------------- bookkeeping
@pytest.mark.parametrize(
    ("name", "rows", "evaluations", "memory"),
    [
        ("ancestral", 5, 5, 1), ("ddim", 5, 5, 1), ("heun", 9, 9, 2), ("dpm_solver", 5, 5, 2), ("langevin", 6, 6, 1),
        ("langevin denoised", 7, 7, 1), ("annealed_langevin", 16, 16, 1), ("predictor_corrector", 13, 13, 1),
        ("walkback", 6, 6, 1), ("walkback noisy", 5, 5, 1),
    ],
)  # fmt: skip
def test_a_plan_knows_what_it_costs(name: str, rows: int, evaluations: int, memory: int):
    asked = []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma[0]))
        return normal(x, sigma)

    plan = PLANS[name]
    walk(plan, counted, torch.ones(3, 2), Noise.of(0, 3))
    assert (len(plan), plan.evaluations, plan.memory) == (rows, evaluations, memory)
    assert len(asked) == evaluations
    assert asked == pytest.approx([row.sigma for row in plan if row.d])
    assert plan.sigma_max == plan.sigmas[0] == pytest.approx(asked[0])


def test_a_row_without_evaluation_costs_none():
    plan = Plan("noise", (Row(1.0, 1.0, (), 2.0), Row(1.0, 0.0, (1.0,))))
    assert plan.evaluations == 1
    noise = Noise.of(3, 4)
    seen = trajectory(plan, normal, torch.zeros(4, 2), noise)
    assert_close(seen[1], 2 * draws(noise, (2,))(0))
    assert_close(seen[2], seen[1] / 2)


@EVERY
def test_every_row_keeps_a_constant(name: str):
    """Where D(x, σ) = x for all σ and nothing is random, no row moves x."""
    still = Plan(name, tuple(replace(row, up=0.0) for row in PLANS[name]))
    x = torch.linspace(-50, 50, 12, dtype=F64).view(6, 2)
    assert_close(walk(still, lambda x, sigma: x, x, Noise.of(0, 6)), x, rtol=1e-12, atol=1e-12)


def test_the_last_row_goes_to_the_clean_estimate():
    for name in ("ancestral", "ddim", "heun", "dpm_solver", "predictor_corrector", "annealed_langevin"):
        assert PLANS[name].rows[-1] == Row(0.1, 0.0, (1.0,))


@settings(max_examples=60)
@given(
    st.floats(-3, 3), st.lists(st.floats(-3, 3), max_size=3), st.floats(-1, 1).filter(lambda e: abs(e) > 1e-9)
)
def test_weights_of_a_row_add_up_to_one(base: float, d: list[float], off: float):
    total = base + sum(d)
    Row(1.0, base + 1 - total, tuple(d))
    with pytest.raises(ArgumentError, match="weights of a row add up to 1"):
        Row(1.0, base + 1 - total + off, tuple(d))


def test_rows_and_plans_that_mean_nothing_are_refused():
    nan = float("nan")
    for make, says in (
        (lambda: Row(0.0, 1.0), "finite σ > 0 and up ≥ 0; got 0 and 0"),
        (lambda: Row(1.0, 1.0, up=-0.1), "up ≥ 0"),
        (lambda: Row(nan, 1.0), "σ > 0"),
        (lambda: Row(1.0, nan), "add up to 1"),
        (lambda: Plan("empty", ()), "at least one row"),
        (
            lambda: Plan("early", (Row(1.0, 0.0, (0.5, 0.5)),)),
            "row 0 of early uses 2 evaluations; there were 1",
        ),
        (lambda: walkback(1.0, 2) + walkback(1.0, 2, exact=True), "cannot be joined"),
    ):
        with pytest.raises(ArgumentError, match=says):
            make()


def test_weights_of_the_named_steps():
    """From σ = 2 to 1, as the formulas give them: r = ½."""
    two = [2.0, 1.0]
    assert ancestral(two).rows[0] == Row(2.0, 0.25, (0.75,), sqrt(0.75))
    assert ancestral(two, variance="large").rows[0].up == pytest.approx(sqrt(3 * 2 / 5))
    assert ddim(two).rows[0] == Row(2.0, 0.5, (0.5,))
    assert heun(two).rows[:2] == (Row(2.0, 0.5, (0.5,), commit=False), Row(1.0, 0.5, (0.5, 0.0)))
    solver = dpm_solver([4.0, 2.0, 1.0]).rows
    assert solver[0] == Row(4.0, 0.5, (0.5,))
    assert solver[1] == Row(2.0, 0.5, (0.75, -0.25))
    assert langevin(2.0, 1.0, 1).rows == (Row(2.0, 0.75, (0.25,), sqrt(2)),)
    assert langevin(2.0, steps=1).rows == (Row(2.0, 0.5, (0.5,), 2.0),)
    assert predictor_corrector(two, ratio=0.02).rows[1] == Row(1.0, 0.98, (0.02,), 0.2)
    assert walkback(2.0, 1).rows[0] == Row(2.0, 0.0, (1.0,), 2 * sqrt(2))
    assert walkback(2.0, 1, exact=True).rows[0].up == 2.0
    assert walkback(2.0, 1, noise=0.5).rows[0].up == 0.5


def test_annealed_steps_are_the_published_ones():
    """e_i = ½ ε σ_i²/σ_L²; ε = 2e-5 at σ_L = 0.01 unless given."""
    for step in (2e-5, None, 5e-5):
        plan = annealed_langevin([1.0, 0.1, 0.01], repeats=2, step=step, denoise=False)
        assert plan.sigmas == (1.0, 1.0, 0.1, 0.1, 0.01, 0.01)
        for row in plan:
            e = 0.5 * (step or 2e-5) * row.sigma**2 / 0.01**2
            assert row.up == pytest.approx(sqrt(2 * e))
            assert row.d[0] == pytest.approx(e / row.sigma**2)


def test_plans_scale_join_and_show_themselves():
    plan = ancestral(LEVELS)
    doubled = plan.scaled(2.0)
    assert doubled.sigmas == tuple(2 * s for s in LEVELS)
    x, noise = torch.ones(4, 3, dtype=F64), Noise.of(1, 4, dtype=F64)
    halved = walk(doubled, lambda x, sigma: 2 * normal(x / 2, sigma / 2), 2 * x, noise) / 2
    assert_close(halved, walk(plan, normal, x, noise), rtol=1e-12, atol=1e-12)

    both = ddim(LEVELS) + langevin(0.1, steps=3)
    assert both.name == "ddim(0) + langevin"
    assert len(both) == 8
    assert list(both)[5:] == list(langevin(0.1, steps=3))
    assert repr(both) == "ddim(0) + langevin: 8 rows, 8 evaluations, σ from 8 to 0.1"
    table = both.table().split("\n")
    assert len(table) == 1 + 5 + 1
    assert table[-1].startswith("   3 × σ = 0.1")
    assert "(trial)" in heun(LEVELS).table()
    assert "D1" in dpm_solver(LEVELS).table()


# ---------------------------------------------------------------------------------------------------- files
@EVERY
def test_json_is_exact(name: str):
    plan = PLANS[name].scaled(1 / 3)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    x = torch.ones(5, 2)
    assert torch.equal(walk(again, normal, x, Noise.of(0, 5)), walk(plan, normal, x, Noise.of(0, 5)))


def test_json_keeps_whether_draws_are_asked_for():
    assert Plan.from_json(walkback(1.0, 3, exact=True).to_json()).drawn is True


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "3", '"plan"', "{}", '{"plan": "x", "drawn": false}',
        '{"plan": "x", "drawn": false, "rows": []}',
        '{"plan": "x", "drawn": false, "rows": [1]}', '{"plan": "x", "drawn": false, "rows": [[1, 0, [1], 0]]}',
        '{"plan": "x", "drawn": false, "rows": [["a", 0, [1], 0, true]]}',
        '{"plan": "x", "drawn": false, "rows": [[1, 0, 1, 0, true]]}',
        '{"plan": "x", "drawn": false, "rows": [[1, 0, [0.5], 0, true]]}',
        '{"plan": "x", "drawn": false, "rows": [[NaN, 0, [1], 0, true]]}',
        '{"plan": "x", "drawn": false, "rows": [[1, 0, [1], Infinity, true]]}',
        '{"plan": "x", "drawn": false, "rows": [[Infinity, 0, [1], 0, true]]}',
        '{"plan": "x", "drawn": false, "rows": [[1' + "0" * 400 + ', 0, [1], 0, true]]}',
        "[" * 20_000,
    ],
)  # fmt: skip
def test_bad_json_gets_a_sentence(text: str):
    with pytest.raises((FileError, ArgumentError)) as caught:
        Plan.from_json(text)
    assert str(caught.value).endswith(".")


@settings(max_examples=60)
@given(st.data())
def test_no_json_raises_anything_else(data: st.DataObject):
    text = ddim(LEVELS).to_json()
    cut = data.draw(st.integers(0, len(text)))
    text = (
        text[:cut] + data.draw(st.sampled_from(["", "]", "null", "1e999", '"', "{}", "-5"])) + text[cut + 1 :]
    )
    with suppress(FileError, ArgumentError):
        Plan.from_json(text)


def test_a_recipe_says_how_a_plan_was_made():
    assert ddim(LEVELS, eta=0.5).recipe["sampler"] == "ddim"  # pyright: ignore
    assert {each.name for each in samplers} == {
        "ancestral", "ddim", "heun", "dpm_solver", "langevin", "annealed_langevin", "predictor_corrector", "walkback",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ddim([]), "fall and lie above 0; got"),
        (lambda: ddim([1.0, 2.0]), "fall and lie above 0"),
        (lambda: ddim([2.0, 2.0]), "fall and lie above 0"),
        (lambda: heun([1.0, 0.0]), "fall and lie above 0"),
        (lambda: heun([float("nan"), 1.0]), "fall and lie above 0"),
        (lambda: heun([float("inf"), 1.0]), "fall and lie above 0"),
        (lambda: ancestral(LEVELS, 4), "5 levels of noise make 5 steps; got steps=4"),
        (lambda: ancestral(karras()), "needs a whole number of steps"),
        (lambda: ancestral(linear(10), 20), "10 levels of noise; 20 steps"),
        (lambda: ancestral(LEVELS, variance="medium"), "small or large; got 'medium'"),
        (lambda: ddim(LEVELS, eta=1.5), "between 0 .* and 1 .*; got 1.5"),
        (lambda: ddim(LEVELS, eta=-0.1), "eta lies between"),
        (lambda: langevin(0.0), "a finite σ > 0"),
        (lambda: langevin(1.0, steps=0), "steps is a whole number of at least 1"),
        (lambda: langevin(1.0, 2.0), "between 0 and 2 σ² = 2; got 2"),
        (lambda: langevin(1.0, 0.0), "between 0 and 2"),
        (lambda: langevin(1.0, -1.0), "between 0 and 2"),
        (lambda: langevin(1.0, float("nan")), "between 0 and 2"),
        (lambda: annealed_langevin(LEVELS, repeats=0), "repeats is a whole number"),
        (lambda: annealed_langevin(LEVELS, step=1.0), "between 0 and 2 σ²"),
        (lambda: predictor_corrector(LEVELS, ratio=2.0), "between 0 and 2 σ²"),
        (lambda: walkback(-1.0), "σ > 0"),
        (lambda: walkback(float("nan")), "σ > 0"),
        (lambda: walkback(1.0, noise=-1.0), "up ≥ 0"),
        (
            lambda: walk(ddim(LEVELS), normal, torch.ones(3, 2), Noise.of(0, 4)),
            "3 points need noise of as many",
        ),
        (
            lambda: walk(walkback(1.0, 1, exact=True), normal, torch.ones(1, 2), Noise.of(0, 1)),
            "has no `draw.*use the mean walk",
        ),
        (lambda: samplers["hein"], "did you mean heun"),
        (lambda: plan_of("heun:18,rho=7", karras()), "no option 'rho'"),
        (lambda: plan_of("nosuch:3", karras()), "no sampler is called"),
        (lambda: plan_of("heun:0", karras()), "at least 1; got 0"),
        (lambda: plan_of("ddim:20,eta=2", karras()), "eta lies between"),
        (lambda: plan_of("ancestral:2000", linear(1000)), "1000 levels of noise; 2000"),
    ],
)
def test_bad_arguments_get_a_sentence(make, says: str):
    with pytest.raises(ArgumentError, match=says):
        make()


@pytest.mark.parametrize(
    ("text", "rows", "name"),
    [
        ("heun:18", 35, "heun"), ("ddim:20,eta=0.5", 20, "ddim(0.5)"),
        ("ancestral:12,variance=large", 12, "ancestral(large)"),
        ("langevin:7,step=0.00001", 7, "langevin"), ("walkback:4", 5, "walkback"), ("dpm_solver:9", 9, "dpm_solver"),
        ("annealed_langevin:5,repeats=3,denoise=false", 15, "annealed_langevin"),
    ],
)  # fmt: skip
def test_plans_by_text(text: str, rows: int, name: str):
    plan = plan_of(text, karras())
    assert len(plan) == rows
    assert plan.name == name


@given(
    st.from_regex(
        r"(heun|ddim|ancestral|langevin|walkback|annealed_langevin):[-0-9a-z.,=]{0,8}", fullmatch=True
    )
)
def test_no_text_of_a_plan_raises_anything_else(text: str):
    if any(len(each) > 4 for each in text.replace("=", ",").partition(":")[2].split(",")):
        return  # a million steps take their time
    with suppress(ArgumentError):
        plan_of(text, exponential(0.01, 50.0))
