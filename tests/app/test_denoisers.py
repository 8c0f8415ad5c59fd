"""Denoisers on the command line and in pictures: plans, guidance, paths, fields, the likelihood of their flow."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import psiphi as pp
from psiphi.app import fields, plots
from psiphi.evaluation import likelihood
from psiphi.samplers import Plan, dpm_solver, heun

TINY = ["--hidden", 16, "--steps", 4, "--quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two diffusions and a score model, trained by `psiphi train` for four steps, and what is none."""
    from tests.app.conftest import call

    folder = tmp_path_factory.mktemp("denoisers")
    grid = ["--data", "grid:n=300"]
    call("train", "ddpm", "--classes", 10, "--set", "schedule=cosine:8", *TINY, "--out", folder / "ddpm")
    call("train", "edm", *grid, *TINY, "--out", folder / "edm")
    call("train", "score_model", *grid, *TINY, "--set", "levels=5", "--out", folder / "score_model")
    call("train", "denoising_ae", *grid, "--latent-dim", 4, *TINY, "--out", folder / "dae")
    call("train", "vae", *grid, "--latent-dim", 1, "--likelihood", "gaussian", *TINY, "--out", folder / "vae")
    return folder


def test_a_unet_is_trained_by_name(psiphi: Any, tmp_path: Path) -> None:
    words = ["train", "ddpm", "--net", "unet", "--hidden", "8,8", "--steps", 1, "--quiet", "--out", tmp_path]
    assert psiphi.ask(*words)["arguments"]["net"] == "unet"
    assert "schedule cosine:8" in psiphi.call(*words, "--set", "schedule=cosine:8").stderr
    said = psiphi.call(*words, "--set", "schedule=nonsense", code=2).stderr
    assert "no schedule is called 'nonsense'" in " ".join(said.split())


def test_samples_are_those_of_python_with_every_option(psiphi: Any, made: Path, tmp_path: Path) -> None:
    words = [
        "-n",
        5,
        "--plan",
        "dpm_solver:4",
        "--guidance",
        2,
        "--label",
        3,
        "--start",
        "standard",
        "--seed",
        2,
    ]
    found = psiphi.ask("sample", made / "ddpm", *words, "--trajectory", "--quiet", "-o", tmp_path / "x.npy")
    wanted = pp.load(made / "ddpm").sample(5, seed=2, y=3, plan="dpm_solver:4", guidance=2, start="standard")
    assert_close(np.load(tmp_path / "x.npy", allow_pickle=False), wanted.numpy())
    assert (found["evaluations"], found["guidance"], found["start"]) == (4, 2, "standard")
    states = np.load(tmp_path / "x-trajectory.npy", allow_pickle=False)
    assert states.shape == (5, 5, 1, 8, 8)
    assert_close(states[-1], wanted.numpy())
    assert "4 evaluations" in psiphi.call("sample", made / "edm", "-n", 3, "--plan", "ddim:4").stdout


@pytest.mark.parametrize("name", ["ddpm", "edm", "dae"])
def test_trajectories_are_pictures(psiphi: Any, made: Path, tmp_path: Path, name: str) -> None:
    words = ["sample", made / name, "-n", 3, "--trajectory", "-o", tmp_path / "x.png"]
    plan = "langevin:6" if name == "dae" else "heun:3"
    assert psiphi.ask(*words, "--plan", plan)["walks"] == 3
    assert min(Image.open(tmp_path / "x-trajectory.png").size) > 200


def test_a_bar_shows_the_walk_unless_it_is_quiet(psiphi: Any, made: Path) -> None:
    words = ["sample", made / "edm", "-n", 3, "--plan", "heun:3"]
    assert "sampling edm" in psiphi.call(*words).stderr
    assert psiphi.call(*words, "--quiet").stderr == ""


def test_a_plan_is_shown_and_read_back(psiphi: Any, made: Path, tmp_path: Path) -> None:
    model = pp.load(made / "edm")
    text = psiphi.call("sample", made / "edm", "--show-plan", "--plan", "heun:3").stdout
    assert "heun: 5 rows, 5 evaluations" in text
    assert "(trial)" in text
    record = psiphi.ask("sample", made / "edm", "--plan-only", "--plan", "heun:3")
    assert record["evaluations"] == 5
    (tmp_path / "plan.json").write_text(json.dumps(record))
    words = ["sample", made / "edm", "-n", 4, "--plan", tmp_path / "plan.json", "-o", tmp_path / "x.npy"]
    assert psiphi.ask(*words)["plan"] == "heun"
    assert_close(np.load(tmp_path / "x.npy"), model.sample(4, plan="heun:3").numpy(), rtol=1e-4, atol=1e-5)
    assert psiphi.ask("sample", made / "dae", "--show-plan")["plan"] == "langevin"


@pytest.mark.parametrize(
    ("run", "words", "sentence"),
    [
        ("vae", ["--plan", "heun:3"], "walks by no plan"),
        ("vae", ["--guidance", 2], "a vae takes no --guidance: leave it out"),
        ("vae", ["--trajectory"], "a vae draws in one step and walks no plan"),
        ("vae", ["--show-plan"], "a vae draws in one step and walks no plan"),
        ("ddpm", ["--guidance", 2], "--guidance needs a label to guide to: name it with --label"),
        ("edm", ["--label", 1], "edm knows no labels"),
        ("ddpm", ["--label", 10], "labels run from 0 to 9"),
        ("edm", ["--plan", "nonsense:3"], "no sampler is called 'nonsense'"),
        ("edm", ["--plan", "heun:3,eta=1"], "heun has no option 'eta'"),
        ("edm", ["--plan", "gone.json"], "there is no plan at gone.json"),
        ("edm", ["--start", "middle"], "a start is 'data'"),
    ],
)
def test_what_a_model_does_not_know_is_a_sentence(
    psiphi: Any, made: Path, run: str, words: list[Any], sentence: str
) -> None:
    said = " ".join(psiphi.call("sample", made / run, *words, code=2).stderr.split())
    assert sentence in said


def test_judgement_says_that_it_is_a_flow(psiphi: Any, made: Path) -> None:
    found = psiphi.ask("evaluate", made / "edm", "--plan", "dpm_solver:3", "--limit", 20)
    judged = found["models"][0]["likelihood"]
    assert (judged["how"], judged["measure"], judged["samples"]) == ("probability flow", "smoothed", 0)
    assert found["generated"]["modes"]["modes"] == 25
    words = ["evaluate", made / "ddpm", "--plan", "dpm_solver:3", "--limit", 8]
    judged = psiphi.ask(*words)["models"][0]["likelihood"]
    assert judged["standard_error"] > 0
    assert judged["effective"] is None
    text = psiphi.call(*words).stdout
    assert "probability flow" in text
    assert "exact" not in text
    said = psiphi.call("evaluate", made / "vae", "--plan", "heun:3", code=2).stderr
    assert "a vae takes no --plan" in said
    text = psiphi.call("compare", made / "edm", made / "dae", made / "vae", "--limit", 20).stdout
    assert "blurred by the least noise" in text


def test_the_error_of_an_estimated_trace_is_that_of_its_draws() -> None:
    class Guess:
        shape, measure, estimates = (1,), "smoothed", True

        def log_prob(self, x: torch.Tensor, seed: int) -> torch.Tensor:
            noise = torch.randn(len(x), generator=torch.Generator().manual_seed(seed % 2**60))
            return x[:, 0] + 0.5 * noise

    x = torch.zeros(4000, 1)
    found = likelihood(Guess(), x)
    # each row's mean of 4 draws has error 0.25; so their mean has 0.25/√4000, and the rows spread as much
    assert found.standard_error == pytest.approx(0.25 / 4000**0.5, rel=0.05)
    assert found.spread == pytest.approx(0.25 / 4000**0.5, rel=0.05)
    assert abs(found.mean) < 4 * found.standard_error
    assert "probability flow, ±" in str(found)
    assert found.bias == 0


def test_rows_are_denoised_and_filled(psiphi: Any, made: Path, tmp_path: Path) -> None:
    model, x = pp.load(made / "ddpm"), pp.data.load("digits").test.x[:4]
    for verb in ("denoise", "score", "project"):
        psiphi.ask("apply", made / "ddpm", verb, "--sigma", 0.4, "--limit", 4, "-o", tmp_path / "y.npy")
        assert_close(np.load(tmp_path / "y.npy"), getattr(model, verb)(x, 0.4).detach().numpy())
    assert "needs --sigma" in psiphi.call("apply", made / "ddpm", "denoise", code=2).stderr
    gaps = x.numpy().copy()
    gaps[:, :, 4:] = np.nan
    np.save(tmp_path / "gaps.npy", gaps)
    words = ["impute", made / "ddpm", tmp_path / "gaps.npy", "--plan", "dpm_solver:4", "--samples", 2]
    assert psiphi.ask(*words, "-o", tmp_path / "full.npy")["filled"] == 4 * 32
    filled = np.load(tmp_path / "full.npy")
    assert_close(filled, model.impute(torch.from_numpy(gaps), plan="dpm_solver:4", samples=2).numpy())
    assert_close(filled[:, :, :4], x.numpy()[:, :, :4], rtol=0, atol=0)


# --------------------------------------------------------------------------------------------- pictures
def test_the_field_of_a_normal_is_a_pull_to_its_mean(made: Path) -> None:
    """D(x, σ) of N(0, 1) is x/(1 + σ²), and its energy ‖x‖²/2(1 + σ²): by the flow, and by the nearest gradient."""

    class Normal:
        shape, title = (2,), "normal"
        statistics = pp.load(made / "edm").statistics

        def score(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
            return -x / (1 + sigma**2)

    found = fields.field(Normal(), torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), 0.5)
    assert_close(found.moved, -found.at * 0.25 / 1.25)
    across, up = torch.meshgrid(found.across, found.up, indexing="xy")
    truth = (across**2 + up**2).double() / 2.5
    assert_close(found.energy, truth - truth.min(), rtol=1e-4, atol=1e-4)


def test_the_energy_of_a_diffusion_is_its_own_density() -> None:
    with pytest.warns(UserWarning, match="lower σ_min"):
        model = pp.zoo.edm(2, schedule="exponential:0.8,20", hidden=(16,))
    pp.fit(model, pp.data.toys.moons(), steps=20, seed=0, quiet=True)
    x = model.sample(50, plan="heun:5")
    least = model.schedule.sigma_min * float(model.statistics.sigma)
    found = fields.field(model, x, least, fine=6)
    log_prob = model.log_prob(fields._lattice(found.across, found.up)).view(6, 6)
    assert_close(found.energy, log_prob.max() - log_prob, rtol=0.02, atol=0.05)


def test_paths_end_at_the_samples_and_start_at_the_spread_of_data(made: Path) -> None:
    model = pp.load(made / "edm")
    found = fields.paths(model, 200, "heun:4", seed=3)
    assert found.x.shape == (5, 200, 2)  # the trial stages of Heun's method are no states
    assert_close(found.x[-1], model.sample(200, plan="heun:4", seed=3))
    ratio = found.at(0).std(0) / model.statistics.std
    assert ((ratio - 1).abs() < 4 / 400**0.5).all()
    assert_close(found.denoised[0], model.denoise(found.x[0], found.sigmas[0]), rtol=1e-4, atol=1e-4)
    drawn = plots.svg(fields.traces(found), "paths", fields.traces_words(found))
    assert drawn.count("<path") >= 60


def test_images_on_their_way_end_at_the_samples(made: Path) -> None:
    model = pp.load(made / "ddpm")
    found = fields.paths(model, 2, "dpm_solver:6", y=1, guidance=1.5)
    page = fields.strip(found, 2, 4)
    assert page.shape == (2 * 2 * 4, 1, 8, 8)
    wanted = model.sample(2, y=1, plan="dpm_solver:6", guidance=1.5)
    assert_close(page[3], wanted[0])
    assert_close(page[7], wanted[0])
    assert "2 samples of ddpm" in fields.strip_words(found, 2, 4)


def test_a_field_is_drawn_in_the_plane(psiphi: Any, made: Path) -> None:
    from psiphi.basis.errors import ArgumentError, MissingVerb

    dae, x = pp.load(made / "dae"), pp.data.load("grid:n=300").train.x
    assert fields.has_field(dae)
    found = fields.field(dae, x, fine=10)
    assert found.sigma == dae.corruption.sigma
    both = fields.side_by_side([fields.arrows(found), fields.arrows(found)])
    drawn = plots.svg(both, "field", fields.words(found))
    assert drawn.count("denoising_ae, σ = 0.3") == 2
    assert "#0102" not in drawn
    with pytest.raises(ArgumentError, match="in the plane"):
        fields.field(pp.load(made / "ddpm"), x)
    with pytest.raises(MissingVerb):
        fields.field(pp.load(made / "vae"), x)


def test_plans_are_drawn_by_their_evaluations(made: Path) -> None:
    schedule = pp.load(made / "edm").schedule
    both: list[Plan] = [heun(schedule, 4), dpm_solver(schedule, 6)]
    assert fields.paths(pp.load(made / "score_model"), 2).plan.evaluations == 26
    drawn = plots.svg(plots.plan(both), "plans", "two plans")
    assert "heun" in drawn
    assert "dpm_solver" in drawn
    assert plots.svg(plots.plan(both[0]), "plan", "one").count("evaluation") >= 1


def test_a_report_shows_the_field_of_a_denoiser_of_one_level_and_of_every_level(made: Path) -> None:
    from psiphi.app.tour import _plane as plane

    found = plane.denoisers(
        {"steps": 2, "hidden": (8,)}, pp.load(made / "edm"), 0, lambda what, why: nullcontext()
    )
    named = {name: words for name, _, words in plane.pairs(found)}
    assert "Arrows of r(x) − x of denoising_ae at noise σ = 0.15" in named["field"]
    assert "langevin with 200 evaluations" in named["field"]
    assert "Arrows of r(x) − x of edm at noise σ" in named["flow"]
    assert found.images.x.shape[1] == 4
