"""Models that are a denoiser: their units, their average, what training draws, and the verbs between them."""

from __future__ import annotations

from math import log, pi

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, FileError, MissingVerb, ShapeError
from psiphi.basis.noise import Noise
from psiphi.data import toys
from psiphi.formulas import schedules
from psiphi.formulas.schedules import ScheduleWarning
from psiphi.parts.denoiser import levels
from psiphi.samplers import heun

pytestmark = pytest.mark.filterwarnings("ignore::psiphi.formulas.schedules.ScheduleWarning")


def points(n: int = 512) -> torch.Tensor:
    gen = torch.Generator().manual_seed(4)
    return torch.randn(n, 2, generator=gen) @ torch.tensor([[1.0, 0.3], [0.0, 0.4]]) + 0.5


def trained(name: str = "edm", x: torch.Tensor | None = None, steps: int = 40, **more):
    fit = {key: more.pop(key) for key in ("ema", "lr", "y") if key in more}
    model = getattr(pp.zoo, name)((2,), hidden=(32, 32), seed=1, **more)
    pp.fit(
        model, points() if x is None else x, fit.pop("y", None), steps=steps, batch_size=64, quiet=True, **fit
    )
    return model


class Exact(nn.Module):
    """The network output, in the parametrisation of a model, that denoises N(m, v) with v = σ_d² exactly."""

    def __init__(self, parametrisation):
        super().__init__()
        self.unused, self.parametrisation = nn.Parameter(torch.zeros(())), parametrisation

    def forward(self, x, c, y=None):
        s = (4 * c).exp()
        u = x * (1 + s**2).sqrt()[:, None]
        return self.parametrisation.output(u, u / (1 + s**2)[:, None], s) + 0 * self.unused


def isotropic(name: str = "ddpm", **more):
    """A model whose denoiser is exact, on N((1, −2), 9)."""
    shell = getattr(pp.zoo, name)((2,), **more)
    model = getattr(pp.zoo, name)((2,), network=Exact(shell.denoiser.parametrisation), **more)
    model.statistics.mean.copy_(torch.tensor([1.0, -2.0]))
    model.statistics.std.fill_(3.0)
    model.statistics.sigma.fill_(3.0)
    model.statistics.measured.fill_(True)
    return model.eval()


# -------------------------------------------------------------------------------------------- its units
@pytest.mark.parametrize("name", ["ddpm", "edm", "score_model"])
def test_a_change_of_units_changes_nothing_else(name):
    """x -> a x + b moves samples alike, leaves the loss, and lowers ln p by d ln a."""
    a, b = 128.0, -3.0
    plan = "heun:6"
    one, other = trained(name), trained(name, a * points() + b)
    first, second = one.sample(20, plan=plan), other.sample(20, plan=plan)
    assert_close(second, a * first + b, rtol=1e-3, atol=1e-2 * a)
    rows = points()[:5]
    assert_close(other.log_prob(a * rows + b), one.log_prob(rows) - 2 * log(a), rtol=1e-3, atol=1e-2)
    assert_close(
        other.denoise(a * rows + b, 0.5 * a), a * one.denoise(rows, 0.5) + b, rtol=1e-3, atol=1e-2 * a
    )
    assert_close(other.score(a * rows + b, 0.5 * a), one.score(rows, 0.5) / a, rtol=1e-3, atol=1e-2 / a)


@pytest.mark.parametrize("parametrisation", ["noise", "velocity", "edm", "flow", "score", "denoised"])
def test_the_exact_network_is_the_exact_denoiser_in_the_data_s_units(parametrisation):
    model, x = isotropic(parametrisation=parametrisation), points()[:7]
    sigma = torch.linspace(0.1, 20, 7)
    mean = torch.tensor([1.0, -2.0])
    assert_close(
        model.denoise(x, sigma), mean + 9 / (9 + sigma**2)[:, None] * (x - mean), rtol=1e-4, atol=1e-4
    )
    assert_close(model.score(x, sigma), -(x - mean) / (9 + sigma**2)[:, None], rtol=1e-3, atol=1e-3)
    assert_close(
        model.score(x), -(x - mean) / (9 + 0.03**2), rtol=0.1, atol=0.2
    )  # σ = 0.01 · 3: float32 over σ²


@pytest.mark.parametrize(
    "plan", ["ancestral", "ancestral:1000,variance=large", "ddim:100", "heun:40", "dpm_solver:40"]
)
def test_the_exact_denoiser_gives_the_data_s_moments(plan):
    x = isotropic().sample(4000, plan=plan, seed=2)
    error = 3 / 4000**0.5
    assert (x.mean(0) - torch.tensor([1.0, -2.0])).abs().max() < 4 * error
    assert (x.std(0) - 3).abs().max() < 4 * error / 2**0.5 + 0.03  # 1 % of bias: steps of finite size


def expected_bound(x, sigmas, v=9.0):
    """The mean over noise of the bound of an exact denoiser of N(m, v): ‖x − D‖² has mean (1−k)²‖x−m‖² + k²σ²d."""
    gap = (x - torch.tensor([1.0, -2.0])).square().sum(1)
    k = [v / (v + s**2) for s in sigmas]
    missed = [(1 - each) ** 2 * gap + each**2 * s**2 * 2 for each, s in zip(k, sigmas)]
    total = -log(2 * pi * sigmas[0] ** 2) - missed[0] / (2 * sigmas[0] ** 2)
    for s, t, each in zip(sigmas, sigmas[1:], missed[1:]):
        total = total - 0.5 * (s**-2 - t**-2) * each
    narrow, wide = sigmas[-1] ** 2, v + sigmas[-1] ** 2
    return total - (narrow / wide + gap / (2 * wide) - 1 + log(wide / narrow))


def test_likelihoods_of_the_exact_denoiser():
    model, x = isotropic().double(), points()[:6].double()
    blurred = torch.distributions.Normal(torch.tensor([1.0, -2.0]).double(), (9 + 0.03**2) ** 0.5)
    truth = blurred.log_prob(x).sum(1)
    assert_close(model.log_prob(x), truth, rtol=0, atol=1e-3)
    with torch.no_grad():
        bounds = model.log_prob(x.repeat(400, 1), bound=True, steps=50).view(400, 6)
    off = bounds.mean(0) - expected_bound(x, model.planned("ancestral:50").sigmas[::-1])
    assert (off.abs() < 4 * bounds.std(0) / 400**0.5).all()
    assert (model.anomaly_score(x + 30) > model.anomaly_score(x)).all()


def test_a_start_has_the_data_s_moments_blurred():
    model = trained()
    model.statistics.std.copy_(torch.tensor([0.5, 2.0]))
    noise = Noise.of(1, 20_000)
    unit = float(model.statistics.sigma) ** 2
    for kind, spread in (("data", (0.5**2 + 9, 2.0**2 + 9)), ("standard", (unit + 9, unit + 9))):
        x = model.start(noise, 3.0, kind)
        wanted = torch.tensor(spread).sqrt()
        assert ((x.std(0) / wanted - 1).abs() < 4 / (2 * 20_000) ** 0.5).all()
    with pytest.raises(ArgumentError, match="a start is 'data'"):
        model.start(noise, 3.0, "zero")


# -------------------------------------------------------------------------------------------- training
def test_a_short_run_s_average_is_not_the_beginning():
    """After 150 steps of decay 0.999 the average has left the first weights as far behind as the last ones have."""
    x = toys.ring(8)(512, Noise.of(1, 512))
    noisy = x + 0.3 * Noise.of(2, 512).normal((2,))

    def error(steps, **more):
        model = trained("edm", x, steps=steps, **more)
        return float((model.denoise(noisy, 0.3).detach() - x).square().sum(1).mean())

    first, last, average = error(1), error(150, ema=0.0, lr=0.01), error(150, ema=0.999, lr=0.01)
    assert last < 0.8 * first
    assert average < last + 0.2 * (first - last)


def test_an_average_leaves_buffers_alone():
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x, c, y=None):
            if self.training:
                self.seen += 1
            return self.inner(x)

    model = trained(network=Counted(), steps=7)
    assert float(model.denoiser.network.seen) == 7


def test_levels_of_a_batch_cover_the_range_evenly_and_are_uniform():
    """128 steps of 1/φ leave gaps of three lengths, φ⁻⁹, φ⁻¹⁰ and φ⁻¹¹ (Steinhaus' three-gap theorem)."""
    u = levels(Noise.of(3, range(640, 768), dtype=torch.float64))
    gaps = u.sort().values.diff()
    golden = (1 + 5**0.5) / 2
    wanted = torch.tensor([golden**-k for k in (9, 10, 11)], dtype=torch.float64)
    assert (gaps[:, None] - wanted).abs().amin(1).max() < 1e-7
    fifth = torch.stack([levels(Noise.of(seed, 8))[5] for seed in range(2000)])
    assert abs(float(fifth.mean()) - 0.5) < 4 * (1 / 12) ** 0.5 / 2000**0.5
    assert abs(float((fifth < 0.25).float().mean()) - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5


def test_a_row_s_level_is_the_same_in_whichever_batch_or_process():
    whole = levels(Noise.of(3, 32))
    assert_close(torch.cat([levels(Noise.of(3, range(16))), levels(Noise.of(3, range(16, 32)))]), whole)
    assert_close(levels(Noise.of(3, 32).take(torch.tensor([7, 30]))), whole[[7, 30]])


def test_the_loss_is_the_published_one():
    """L_simple: the mean over rows of ‖ε − F‖², F the network's output at √ᾱ u + √(1−ᾱ) ε."""
    model, x = trained("ddpm"), points(64)
    noise = Noise.of(5, 64)
    trace = model.trace(x, noise)
    u, s = model.statistics(x), trace.sigma / model.statistics.sigma
    bar = 1 / (1 + s**2)
    epsilon = noise.normal((2,))
    inputs = bar.sqrt()[:, None] * u + (1 - bar).sqrt()[:, None] * epsilon
    output = model.denoiser.network(inputs, s.log() / 4, None)
    wanted = (epsilon - output).square().sum(1).mean()
    from psiphi.parts import END

    assert_close(model.objective(trace, END)["loss"], wanted, rtol=1e-3, atol=1e-4)


SCHEDULES = [f"{kind}:{steps}" for kind in ("linear", "cosine") for steps in (1, 10, 20, 1000)]


@pytest.mark.parametrize("schedule", [*SCHEDULES, "karras", "flow", "exponential:0.01,50", "linear"])
def test_no_schedule_gives_nan(schedule):
    for parametrisation in ("noise", "edm"):
        model = trained("ddpm", schedule=schedule, parametrisation=parametrisation, steps=3)
        steps = 1 if schedule.endswith(":1") else 5
        for sampler in ("ancestral", "heun", "dpm_solver", "predictor_corrector"):
            assert model.sample(3, plan=f"{sampler}:{steps}").isfinite().all(), sampler
        assert all(p.isfinite().all() for p in model.parameters())
    assert model.sample(3, plan=heun(schedules.karras(), 6)).isfinite().all()


def test_weightings_change_what_is_learnt_and_the_bound_is_one_of_them():
    for schedule in ("linear:100", "exponential:0.01,50"):
        model = trained("ddpm", schedule=schedule, weighting="likelihood", steps=2)
        x = points(64)
        total, rows = 0.0, 400
        for seed in range(rows):
            with torch.no_grad():
                trace = model.trace(x, Noise.of(seed, 64))
            s = trace.sigma / trace.unit
            total += (
                float((s**-3 * trace.rate * (x - trace.denoised).square().sum(1) / trace.unit**2).mean())
                / rows
            )
        line = model.schedule.sigmas(100).tolist()[::-1]
        direct = 0.0
        for i, sigma in enumerate(line):
            gain = 0.5 * ((2 / line[0] ** 2 if i == 0 else line[i - 1] ** -2) - sigma**-2)
            unit = float(trace.unit)
            draws = [unit * sigma * Noise.of(seed, 64).at(i).normal((2,)) for seed in range(4)]
            off = [(x - model.denoise(x + each, unit * sigma)).square().sum(1) for each in draws]
            error = torch.stack(off).mean() / unit**2
            direct += float((gain * error).detach()) * (schedule == "linear:100" or i > 0)
        assert abs(total / direct - 1) < 0.1


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
    model, x = isotropic(schedule="linear:1"), points()[:3]
    assert model.sample(3).isfinite().all()
    assert model.anomaly_score(x).isfinite().all()
    assert model.log_prob(x, bound=True).isfinite().all()
    assert model.impute(torch.tensor([[1.0, torch.nan]])).isfinite().all()
    assert model.project(x, 1000.0, steps=1).isfinite().all()
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
    assert model.impute(x, exact=True).isfinite().all()


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
