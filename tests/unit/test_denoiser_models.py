"""Models that are a denoiser: their units, their average, and what training draws."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from helpers.denoisers import expected_bound, isotropic, points, trained
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.data import toys
from psiphi.formulas import schedules
from psiphi.parts.denoiser import levels
from psiphi.samplers import heun, walk

pytestmark = pytest.mark.filterwarnings("ignore::psiphi.formulas.schedules.ScheduleWarning")


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
    """Of the exact network, samples in float32 are those of the exact denoiser in float64; training stays finite."""
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    exact = lambda x, sigma: mean + 9 / (9 + sigma**2)[:, None] * (x - mean)  # noqa: E731
    steps = 1 if schedule.endswith(":1") else 5
    for parametrisation in ("noise", "edm"):
        model = isotropic(schedule=schedule, parametrisation=parametrisation)
        plans = [
            f"{sampler}:{steps}" for sampler in ("ancestral", "heun", "dpm_solver", "predictor_corrector")
        ]
        for plan in (*map(model.planned, plans), heun(schedules.karras(), 6).scaled(3.0)):
            start = model.start(Noise.of(0, 3), plan.sigma_max).double()
            wanted = walk(plan, exact, start, Noise.of(0, 3))
            assert_close(model.sample(3, plan=plan).double(), wanted, rtol=0, atol=2e-3)  # σ up to 60 000
        model = trained("ddpm", schedule=schedule, parametrisation=parametrisation, steps=3)
        assert all(p.isfinite().all() for p in model.parameters())
        assert all(model.sample(3, plan=plan).isfinite().all() for plan in plans)


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
