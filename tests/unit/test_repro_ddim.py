"""The recipe `ddim2021`: its plans are those of η and σ̂, and a tiny run has the shape."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from helpers.mnist import as_mnist
from psiphi.formulas.schedules import linear
from psiphi.models._walks import plan_of
from psiphi.repro import RECIPES, Job, ddim2021
from psiphi.repro.ddim2021 import DISTANCE, FEW, FLOOR, LARGE, NOISE, Setting, plan
from psiphi.samplers import Plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_mnist(tmp_path_factory.mktemp("data"))


def rows(steps: int, eta: str) -> Plan:
    return plan_of(plan(steps, eta), linear(1000))


def test_eta_1_is_the_reverse_chain_and_sigma_hat_its_other_variance():
    """η = 0 draws no noise; σ̂² = 1 − ᾱ_s/ᾱ_t between levels s and t of a variance-preserving process."""
    assert all(row.up == 0 for row in rows(20, "0"))
    for one, two in zip(rows(20, "1"), plan_of("ancestral:20", linear(1000)), strict=True):
        assert (one.up, one.base) == pytest.approx((two.up, two.base), rel=1e-9)
    bars = [1 / (1 + row.sigma**2) for row in rows(20, LARGE)]
    for row, s, t in zip(rows(20, LARGE), bars, bars[1:]):
        assert row.up * t**0.5 == pytest.approx((1 - s / t) ** 0.5, rel=1e-9)
    assert all(rows(20, eta).evaluations == 20 for eta in ddim2021.PUBLISHED)


@pytest.mark.parametrize("variance", [0.1, 1.0, 10.0])
def test_noise_costs_quality_at_few_steps_and_nothing_at_many(variance):
    """Of normal data D = v x/(v + σ²), so each row maps a variance to another; v is what should come out.

    The ratio found/v is 1 at best: η = 1 is further from it than η = 0, the more so with fewer steps.
    """

    def found(steps: int, eta: str) -> float:
        walk = list(rows(steps, eta))
        spread = variance + walk[0].sigma ** 2
        for row in walk:
            gain = row.base + sum(row.d) * variance / (variance + row.sigma**2)
            spread = gain**2 * spread + row.up**2
        return log(spread / variance)

    few, many = ({eta: found(steps, eta) for eta in ddim2021.PUBLISHED} for steps in (10, 1000))
    assert few["1"] < few["0.5"] < few["0.2"] < few["0"] < 0
    assert few["0"] - few["1"] > 0.1 > many["0"] - many["1"] > 0
    assert few[LARGE] > few["1"]
    assert abs(many[LARGE]) < 0.01


TINY = Setting(
    steps=30, samples=200, counts=(10, 50), etas=("0", "1"), net="mlp", hidden=(32,), classifier=(16,),
    parametrisation="velocity", weighting="edm", lr=4e-3, epochs=2,
)  # fmt: skip


def test_a_tiny_run_gives_every_distance_and_the_ratios_of_them(folder):
    done = replace(ddim2021.RECIPE, quick=TINY).run(folder=folder.parent)
    found = {each.what: each for each in done.found}
    value = {what: each.measured for what, each in found.items()}
    distances = {
        (eta, steps): value[DISTANCE.format(eta=eta, steps=steps)]
        for eta in TINY.etas
        for steps in TINY.counts
    }
    assert value[NOISE] == pytest.approx(distances["1", 10] / distances["0", 10])
    assert value[FEW] == pytest.approx(1.0)  # 50 steps are the most here
    assert value[FLOOR] < min(distances.values())
    assert len(found) == 3 + len(distances)
    assert (found[NOISE].published, found[FEW].published) == pytest.approx((3.07, 1.16), abs=0.01)


def test_the_model_has_the_published_levels(folder):
    """In the full setting the network also predicts the noise, and all levels weigh alike."""
    full = replace(ddim2021.RECIPE.full, steps=1, hidden=(8,), batch_size=8)
    job = Job(folder, 0, lambda sentence: None)
    model = ddim2021.trained(full, job, ddim2021.mnist(job)[0])
    assert (model.schedule.name, len(model.schedule.levels)) == ("linear:1000", 1000)
    assert (repr(model.denoiser.parametrisation), repr(model.weighting)) == ("noise", "simple")


def test_it_is_listed():
    assert RECIPES["ddim2021"] is ddim2021.RECIPE
