"""What a denoiser is asked for: labels and guidance, projection, gaps, plans; and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.denoisers import Exact, expected_bound, isotropic, points, trained
from psiphi.basis.errors import ArgumentError, DataError, FileError, MissingVerb, ShapeError
from psiphi.basis.noise import Noise
from psiphi.data import toys
from psiphi.formulas.schedules import ScheduleWarning

pytestmark = pytest.mark.filterwarnings("ignore::psiphi.formulas.schedules.ScheduleWarning")


# ---------------------------------------------------------------------------------------- labels, guidance
def labelled():
    x = torch.cat([points(256) * 0.2 - 2, points(256) * 0.2 + 2])
    y = torch.arange(2).repeat_interleave(256)
    return trained(x=x, y=y, classes=2, steps=400), x, y


def test_labels_choose_what_is_drawn_and_guidance_presses_further():
    model, x, y = labelled()
    for label in (0, 1):
        drawn = model.sample(64, y=label)
        assert (drawn.mean(0) - x[y == label].mean(0)).abs().max() < 0.5
        near = model.sample(64, y=label, guidance=1.0)
        assert_close(near, drawn, rtol=1e-4, atol=1e-4)
    both = model.sample(200)
    share = float((both.mean(1) > 0).float().mean())
    assert 0.2 < share < 0.8
    mixed = model.sample(4, y=[0, 1, 0, 1])
    assert_close((mixed.mean(1) > 0).long(), torch.tensor([0, 1, 0, 1]))


def test_labels_and_guidance_out_of_place_get_a_sentence():
    model, *_ = labelled()
    for guidance, y in ((2.0, None), (float("nan"), 0)):
        with pytest.raises(ArgumentError, match="guidance is a number, and needs a label"):
            model.sample(2, guidance=guidance, y=y)
    with pytest.raises(ArgumentError, match="labels run from 0 to 1"):
        model.sample(2, y=2)
    with pytest.raises(ArgumentError, match="knows no labels"):
        trained(steps=1).sample(2, y=0)
    with pytest.raises(DataError, match="was built with 2 classes: pass y"):
        trained(classes=2, steps=1)
    with pytest.raises(DataError, match="labels run from 0 to 1, −1 for unknown; got 0 to 2"):
        trained(classes=2, steps=1, y=torch.arange(512) % 3)
    trained(classes=2, steps=1, y=torch.full((512,), -1))


# -------------------------------------------------------------------------------------- projection, gaps
def test_project_goes_to_the_data_and_has_a_gradient():
    data = toys.ring(8)
    model = pp.zoo.edm((2,), hidden=(64, 64), seed=0)
    pp.fit(model, data, steps=400, batch_size=256, quiet=True)
    near = data(50, Noise.of(1, 50))
    off = near + 0.15 * Noise.of(2, 50).normal((2,))
    distance = lambda x: (x[:, None] - data.means.float()).norm(dim=2).amin(1).mean()  # noqa: E731
    assert distance(model.project(off, 0.2)) < 0.5 * distance(off)
    x = off[:3].double().requires_grad_()
    model.double()
    call = lambda x: model.project(x, 0.2, steps=3)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x,), eps=1e-6, atol=1e-4)
    with pytest.raises(ArgumentError, match="project needs a σ above the least"):
        model.project(near, 1e-4)
    assert (model.project(near, 0.2, plan="ancestral") - model.project(near, 0.2)).abs().max() > 0


class Noisy(nn.Module):
    """A network that is another in train mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x, c, y=None):
        return self.layers(x)


def test_the_gradient_of_a_projection_is_that_of_eval_mode_whatever_the_mode():
    model = trained(network=Noisy(), steps=3)
    x = points()[:4].requires_grad_()
    (wanted,) = torch.autograd.grad(model.project(x, steps=3).sum(), x)
    model.train()
    out = model.project(x, steps=3)
    (found,) = torch.autograd.grad(out.sum(), x)
    assert_close(found, wanted)
    assert all(module.training for module in model.modules())
    gan = pp.zoo.gan(
        (2,), 2, generator=nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    )
    pp.fit(gan, points(), steps=3, quiet=True)
    (wanted,) = torch.autograd.grad(gan.project(x, steps=5).sum(), x)
    gan.train()
    (found,) = torch.autograd.grad(gan.project(x, steps=5).sum(), x)
    assert_close(found, wanted)


def test_a_plan_is_in_the_data_s_units_however_it_is_given():
    model = isotropic()
    text = "ddim:5"
    plan = model.planned(text)
    assert plan.sigma_max == pytest.approx(3 * model.schedule.sigma_max)
    assert model.planned(plan) is plan
    assert_close(model.sample(6, plan=type(plan).from_json(plan.to_json())), model.sample(6, plan=text))
    states = model.trajectory(6, plan=text)
    assert states.shape == (6, 6, 2)
    assert_close(states[-1], model.sample(6, plan=text))
    assert_close(states[0], model.start(Noise.of(0, 6), plan.sigma_max))
    assert len(model.trajectory(6, plan="heun:4")) == 5
    assert len(model.trajectory(6, plan="heun:4", every=3)) == 3


def test_one_level_of_noise_is_enough_for_every_verb_but_the_flow():
    """Each is D(x, S) = m + k (x − m) once, k = 9/(9 + S²): of the start, of what is noised, in the bound."""
    model, x = isotropic(schedule="linear:1"), points()[:3]
    mean, high = torch.tensor([1.0, -2.0]), 3 * model.schedule.sigma_max
    shrunk = lambda x, sigma=high: mean + 9 / (9 + sigma**2) * (x - mean)  # noqa: E731
    assert_close(model.sample(3), shrunk(model.start(Noise.of(0, 3), high)), rtol=0, atol=1e-4)
    bound = expected_bound(x, [high])  # without noise in it: that of D is k S = 0.02, beside S = 457
    assert_close(model.log_prob(x, bound=True), bound, rtol=0, atol=1e-3)
    assert_close(model.anomaly_score(x), -bound, rtol=0, atol=1e-3)
    filled = model.impute(torch.tensor([[1.0, torch.nan]]))[0]
    spread = 9 / (9 + high**2) ** 0.5
    assert float(filled[0]) == 1
    assert 0 < abs(float(filled[1]) + 2) < 4 * spread / 10**0.5  # the mean of ten draws
    noise = Noise.of(0, torch.zeros(3, dtype=torch.long)).split("project").normal((2,))
    assert_close(model.project(x, 1000.0, steps=1), shrunk(x + 1000 * noise, 1000.0), rtol=0, atol=1e-3)
    with pytest.raises(ArgumentError, match="the probability flow runs between two levels"):
        model.log_prob(x)


def test_a_model_that_was_always_told_the_label_asks_for_it():
    model = trained(classes=2, drop=0.0, steps=2, y=torch.arange(512) % 2)
    assert model.sample(3, y=1).isfinite().all()
    with pytest.raises(ArgumentError, match=r"was trained with every label \(drop=0\): pass y"):
        model.sample(3)
    with pytest.raises(ArgumentError, match="guidance needs drop above 0"):
        model.sample(3, y=1, guidance=2.0)


def test_values_of_your_own_take_their_place_and_files_say_so(tmp_path):
    from psiphi.formulas.denoising import Weighting

    mine = Weighting("mine", lambda s, _: 0 * s)
    model = trained(weighting=mine, name="ddpm", steps=1)
    assert repr(model.objective) == "matching(mine)"
    model.save(tmp_path)
    with pytest.raises(FileError, match="weighting=Weighting of your own"):
        pp.load(tmp_path)


def test_gaps_are_filled_with_what_fits():
    model = isotropic("edm")
    x = torch.tensor([[4.0, torch.nan], [torch.nan, 0.0], [1.0, 2.0]])
    filled = model.impute(x, samples=100, plan="ancestral:20")
    assert_close(filled[2], x[2])
    assert filled[0, 0] == 4 and filled[1, 1] == 0  # noqa: PT018
    assert abs(float(filled[0, 1]) + 2) < 4 * 3 / 10 and abs(float(filled[1, 0]) - 1) < 4 * 3 / 10  # noqa: PT018
    drawn = model.impute(x[:1].expand(800, 2), exact=True, plan="ancestral:20")
    plan = model.planned("ancestral:20")
    variance = 9 + plan.sigma_max**2  # of one draw, as the rows make it: 20 of them fall short of 9
    for row in plan:
        variance = (row.base + row.d[0] * 9 / (9 + row.sigma**2)) ** 2 * variance + row.up**2
    assert (drawn[:, 0] == 4).all()
    assert abs(float(drawn[:, 1].mean()) + 2) < 4 * (variance / 800) ** 0.5
    assert abs(float(drawn[:, 1].std()) / variance**0.5 - 1) < 4 / 1600**0.5


# ------------------------------------------------------------------------------------------- sentences
def test_bad_arguments_get_a_sentence():
    model = isotropic()
    with pytest.raises(ArgumentError, match="no sampler is called 'huen'; did you mean heun"):
        model.sample(1, plan="huen:4")
    with pytest.raises(ArgumentError, match="heun has no option 'eta'"):
        model.sample(1, plan="heun:4,eta=1")
    with pytest.raises(ArgumentError, match="1000 levels of noise; 2000 steps"):
        model.sample(1, plan="ancestral:2000")
    for sigma in (-1.0, 0.0, float("inf"), float("nan"), "a", [1.0, 2.0, 3.0]):
        with pytest.raises(ArgumentError, match="sigma is a finite noise level above 0"):
            model.denoise(torch.zeros(2, 2), sigma)
    for plan, word in (
        ("langevin:5,levels=log", "no option 'levels'"), ("ddim:50,60", "no option '60'"),
        ("predictor_corrector:5,corrections=-2", "corrections is a whole number"),
        ("ddim:10,eta=abc", "ddim cannot read"),
        ("heun:2.5", "whole number of steps|heun cannot read"),
        ("annealed_langevin:5,repeats=0", "repeats is a whole number"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=word):
            model.sample(1, plan=plan)
    for steps in (0, 2.5):
        with pytest.raises(ArgumentError, match="number of steps must be an integer"):
            model.log_prob(torch.zeros(2, 2), steps=steps)
        with pytest.raises(ArgumentError, match="number of steps must be an integer"):
            model.project(torch.zeros(2, 2), steps=steps)
    for weighting in ("min_snr:-1", "min_snr:nan"):
        with pytest.raises(ArgumentError, match="γ of min_snr is a number above 0"):
            pp.zoo.ddpm((2,), weighting=weighting)
    with pytest.raises(ArgumentError, match="drop is the share of labels to hide"):
        pp.zoo.ddpm((2,), classes=2, drop=1.0)
    with pytest.raises(ArgumentError, match="no schedule is called 'sigmoid'"):
        pp.zoo.ddpm((2,), schedule="sigmoid")
    with pytest.raises(ArgumentError, match="0 < σ_min < σ_max; got 5 and 1"):
        pp.zoo.ddpm((2,), schedule="karras:5,1")
    with pytest.raises(ArgumentError, match="a network gives denoised, noise"):
        pp.zoo.ddpm((2,), parametrisation="epsilon")
    with pytest.raises(ArgumentError, match="no weighting is called"):
        pp.zoo.ddpm((2,), weighting="snr")
    with pytest.raises(ArgumentError, match="ema is the decay"):
        pp.zoo.edm((2,), ema=1.0)
    with pytest.raises(ShapeError, match="images"):
        pp.zoo.edm((2,), net="unet")
    with pytest.raises(ShapeError, match="your network"):
        pp.zoo.edm(
            (3,), network=Exact(model.denoiser.parametrisation).requires_grad_() and nn.Bilinear(2, 2, 2)
        )
    with pytest.raises(MissingVerb, match="noise as large as the data"):
        model.encode(torch.zeros(1, 2))


def test_columns_that_drown_in_the_least_noise_are_named():
    x = points() * torch.tensor([1.0, 1e-4])
    with pytest.warns(
        ScheduleWarning, match=r"1 coordinates \(the first: 1\) vary by less than the least noise"
    ):
        trained(x=x, steps=1)
