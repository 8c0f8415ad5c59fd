"""Laws 17e and 18: what a weighting makes of the loss, what walks draw, what a denoiser says of ln p(x), and what
guidance and inpainting make of both."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, sqrt
from typing import Any

import torch
from torch import Tensor

from psiphi import divergences as dv
from psiphi.basis.noise import Noise
from psiphi.formulas.denoising import PARAMETRISATIONS, WEIGHTINGS, Weighting, min_snr, noise_of, velocity_of
from psiphi.formulas.distributions import DiagonalNormal
from psiphi.formulas.schedules import Schedule, cosine, exponential, flow, karras, ladder, linear
from psiphi.laws._exact import BOTH, DIMENSIONS, F64, Exact, gaussian, mixture, moments, run
from psiphi.laws._law import Measured, at_most, law
from psiphi.parts.denoiser import DenoisingTrace, matching
from psiphi.samplers import (
    ancestral,
    annealed_langevin,
    classifier_free,
    classifier_guided,
    ddim,
    inpainted,
    predictor_corrector,
)
from psiphi.samplers._likelihood import flow_log_prob, log_prob_bound

SEED = 18
REPEATS, ROWS = 6, 250


# -------------------------------------------------------------------------------------------- weightings
UNIT = 2.5  # σ of the data whose losses are weighed


def _loss(weighting: Weighting, s: Tensor, clean: Tensor, off: Tensor, rate: Tensor | None = None) -> Tensor:
    """The term of rows whose D is `off` away from the clean data, all in units of the data's σ: (B,)."""
    x, unit = UNIT * clean, torch.tensor(UNIT, dtype=F64)
    return matching(weighting).value(DenoisingTrace(x, x, unit * s, x + unit * off, unit, rate))


@law("17e", "each weighting makes the loss what its name says, whatever the denoiser")
def weightings() -> list[Measured]:
    """Row by row, relative, to 1e-10: squared errors of noise, of D, of the output of `edm`, of velocity, and the least
    of both sides of min-SNR. `likelihood` with D = x + g(σ) e₁: over the T levels of a discrete schedule its mean is
    −(log_prob_bound + ½ d ln 2πσ₁² + KL); over u of a continuous one ∫ (g/σ)² d ln σ, by 200 000 midpoints, to 1e-5."""
    found = []
    for d in DIMENSIONS:
        noise, s = Noise.of(SEED, 60, dtype=F64), torch.logspace(-2, 2, 60, dtype=F64)
        clean, eps, given = (noise.split(each).normal((d,)) for each in ("clean", "noise", "denoised"))
        u, edm = clean + s[:, None] * eps, PARAMETRISATIONS["edm"]
        errors = {
            "simple": eps - noise_of(u, given, s),
            "denoised": clean - given,
            "edm": edm.output(u, clean, s) - edm.output(u, given, s),
            "flow": eps - clean - velocity_of(u, given, s),
        }
        squares = {name: each.square().sum(1) for name, each in errors.items()}
        for gamma in (1.0, 5.0, 20.0):
            squares[f"min_snr:{gamma:g}"] = torch.minimum(squares["simple"], gamma * squares["denoised"])
        for each in (*WEIGHTINGS.values(), min_snr(1.0), min_snr(20.0)):
            if not each.rated:
                off = float((_loss(each, s, clean, given - clean) / squares[each.name] - 1).abs().max())
                found.append(Measured(f"d = {d}, {each}: largest relative difference", 0.0, off, 1e-10))
    levels = (linear(100), linear(10), cosine(20), exponential(0.02, 30.0, 7), ladder((0.1, 0.5, 2.0)))
    found += [_bound(each, d) for each in levels for d in DIMENSIONS]
    lines = (linear(None), exponential(0.02, 30.0), flow(), karras())
    return [*found, *(each for line in lines for each in _integral(line))]


def _bound(line: Schedule, d: int) -> Measured:
    """The mean loss over u = i/T where g = (1 + ½ sin σ) σ^¾, and what the bound is short of, nats."""
    s = torch.tensor(line.levels, dtype=F64)
    u = torch.arange(1, len(s) + 1, dtype=F64) / len(s)
    x = Noise.of(SEED, 1, dtype=F64).normal((d,))
    first = torch.eye(d, dtype=F64)[:1]

    def off(s: Tensor) -> Tensor:
        return ((1 + 0.5 * s.sin()) * s**0.75)[:, None] * first

    loss = float(_loss(WEIGHTINGS["likelihood"], s, x.expand(len(s), d), off(s), line.rate(u)).mean())
    sigmas, wide = UNIT * s, UNIT**2 * (1 + line.sigma_max**2)
    prior = DiagonalNormal(x.new_zeros(d), x.new_full((d,), log(wide) / 2))
    denoiser: Callable[..., Tensor] = lambda noisy, sigma: UNIT * (x + off(sigma / UNIT))  # noqa: E731
    bound = float(log_prob_bound(denoiser, UNIT * x, sigmas, prior, Noise.of(SEED, 1, dtype=F64)))
    last = float(sigmas[-1]) ** 2
    kl = (float((UNIT * x).square().sum()) / wide + d * (last / wide - 1 + log(wide / last))) / 2
    short = -(bound + d / 2 * log(2 * pi * float(sigmas[0]) ** 2) + kl)
    return Measured(f"likelihood, {line.name}, d = {d}: mean loss, nats", short, loss, 1e-9 * max(1.0, short))


def _integral(line: Schedule) -> list[Measured]:
    """g = σ: ln(σ_max/σ_min), but of normal draws of ln σ, whose tails no grid meets; (g/σ)² a normal density of ln σ:
    its mass between the ends."""
    n = 200_000
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    s, rate = line.draw(u), line.rate(u)
    bell = torch.distributions.Normal(torch.tensor(-0.5, dtype=F64), 1.2)
    ends = line.draw(torch.tensor([0.0, 1.0], dtype=F64)).log()
    low, high = bell.cdf(ends)

    def mean(g: Tensor) -> float:
        return float(
            _loss(WEIGHTINGS["likelihood"], s, torch.zeros(n, 1, dtype=F64), g[:, None], rate).mean()
        )

    mass = mean(s * (bell.log_prob(s.log()) / 2).exp())
    found = [Measured(f"likelihood, {line.name}: mean loss, a bell of ln σ", float(high - low), mass, 1e-5)]
    if line.drawn is None:
        found.append(
            Measured(f"likelihood, {line.name}: mean loss, g = σ", float(ends[1] - ends[0]), mean(s), 1e-5)
        )
    return found


# --------------------------------------------------------------------------------------------- what they draw
def _distances(one: Any, other: Any) -> Tensor:
    pairs = zip(one, other, strict=True)
    return torch.tensor([float(dv.sliced_wasserstein(a, b, directions=24, seed=SEED)) for a, b in pairs])


def _down_to_the_floor(kind: str, data: Exact, plans: dict[str, Any], sigma: float) -> list[Measured]:
    """Sliced W₁ from walked to exact draws, at most that between two exact sets + 4 SE of the difference."""
    fresh = [data.sample(ROWS, SEED + k) for k in range(2 * REPEATS)]
    floor = _distances(fresh[:REPEATS], fresh[REPEATS:])
    start, found = data.sample(REPEATS * ROWS, SEED + 100, sigma), []
    for i, (what, plan) in enumerate(plans.items()):
        off = _distances(run(plan, data, start, SEED + i).chunk(REPEATS), fresh[REPEATS:])
        slack = 4 * sqrt(float(floor.var() + off.var()) / REPEATS)
        found.append(
            at_most(f"{kind}, d = {data.dimension}: {what}", float(floor.mean()), float(off.mean()), slack)
        )
    return found


def _plans() -> dict[str, Any]:
    line = exponential(0.03, 10.0)
    return {
        "ancestral(small)": ancestral(line, 80), "ancestral(large)": ancestral(line, 80, variance="large"),
        "ddim(½)": ddim(line, 80, eta=0.5), "predictor_corrector": predictor_corrector(line, 60),
    }  # fmt: skip


@law("18b", "stochastic samplers draw a normal, down to the sampling floor")
def normals_to_the_floor() -> list[Measured]:
    """Sliced W₁ over 6 pairs of 250 draws, 24 directions, from exact states at σ = 10."""
    return [each for d in DIMENSIONS for each in _down_to_the_floor("Gaussian", gaussian(d), _plans(), 10.0)]


@law("18f", "stochastic samplers draw a mixture, down to the sampling floor")
def mixtures_to_the_floor() -> list[Measured]:
    """As 18b; three modes of unequal weight."""
    return [each for d in DIMENSIONS for each in _down_to_the_floor("mixture", mixture(d), _plans(), 10.0)]


@law("18i", "annealed Langevin dynamics nears the data as each level is walked longer")
def annealing() -> list[Measured]:
    """Normals, 40 levels from σ = 3 to 0.05: by the linear recursion the worst variance is off by at most 110, 10 and
    3 % at 2, 20 and 80 steps a level; a mixture in the plane at 30 steps, down to the sampling floor."""
    found, levels = [], exponential(0.05, 3.0).sigmas(40)
    for d in DIMENSIONS:
        data = gaussian(d)
        for repeats, bound in ((2, 1.1), (20, 0.1), (80, 0.03)):
            plan = annealed_langevin(levels, repeats=repeats)
            start = data.covariance + 9 * torch.eye(d, dtype=F64)
            _, covariance = moments(plan, data, data.mean, start)
            ratios = (data.bases[0].T @ covariance @ data.bases[0]).diagonal() / data.variances[0]
            off = float((ratios - 1).abs().max())
            found.append(at_most(f"d = {d}, {repeats} a level: off by", bound, off))
    plans = {"annealed_langevin": annealed_langevin(exponential(0.05, 3.0), 24, repeats=30)}
    return [*found, *_down_to_the_floor("mixture", mixture(2), plans, 3.0)]


# ------------------------------------------------------------------------------------------------- likelihood
LEVELS = exponential(0.05, 50.0)


@law("18c", "the probability flow's likelihood is the density blurred by the least noise")
def flow_likelihood() -> list[Measured]:
    """|ln p − ln p_σmin| at most 0.01 nat at every point, exact trace; of narrow modes the sharp density is
    farther off. Its gradient by autograd is the score, to 0.01."""
    found, lines = [], LEVELS.sigmas(29)
    for kind, make in BOTH.items():
        for d in DIMENSIONS:
            data = make(d)
            x = data.sample(8, SEED, 0.05)
            with torch.no_grad():
                got = flow_log_prob(data, x, lines, data.prior(50.0))
            off = float((got - data.log_prob(x, 0.05)).abs().max())
            found.append(Measured(f"{kind}, d = {d}: largest error, nats", 0.0, off, 0.01))
    sharp = mixture(2, width=0.1)
    x = sharp.sample(12, SEED, 0.05)
    with torch.no_grad():
        got = flow_log_prob(sharp, x, LEVELS.sigmas(57), sharp.prior(50.0))
    bare = float((sharp.log_prob(x) - sharp.log_prob(x, 0.05)).abs().max())
    found += [
        Measured("narrow modes: largest error, nats", 0.0, float((got - sharp.log_prob(x, 0.05)).abs().max()), 0.01),
        at_most("narrow modes: 0.1 nat ≤ distance to the sharp density", -0.1, -bare),
    ]  # fmt: skip
    data = mixture(1)
    x = data.sample(8, SEED, 0.05).requires_grad_()
    (slope,) = torch.autograd.grad(flow_log_prob(data, x, lines, data.prior(50.0)).sum(), x)
    gap = float((slope - data.score(x.detach(), 0.05)).abs().max())
    return [*found, Measured("mixture, d = 1: gradient − score", 0.0, gap, 0.01)]


@law("18j", "Hutchinson's estimate of the trace leaves the likelihood's mean alone")
def hutchinson() -> list[Measured]:
    """1 000 probes at one point of a correlated normal and of a mixture: mean within 4 SE of the exact trace's."""
    found, lines = [], LEVELS.sigmas(25)
    for kind, data in (("Gaussian", gaussian(16)), ("mixture", mixture(2))):
        x = data.sample(1, SEED + 1, 0.05)
        with torch.no_grad():
            exact = float(flow_log_prob(data, x, lines, data.prior(50.0)))
            many = flow_log_prob(
                data, x.expand(1000, -1), lines, data.prior(50.0), Noise.of(SEED, 1000, dtype=F64)
            )
        se = float(many.std()) / sqrt(len(many))
        found += [
            Measured(f"{kind}, d = {data.dimension}: mean, nats", exact, float(many.mean()), 4 * se),
            at_most(f"{kind}, d = {data.dimension}: the probes spread by more than 0.05", -0.05, -float(many.std())),
        ]  # fmt: skip
    return found


@law("18d", "the variational bound lies below ln p(x), and closes as levels are added")
def variational_bound() -> list[Measured]:
    """E over x of ln p(x) − bound, exact denoisers, σ from 0.02 to 50, 10 to 270 levels. Normals: the closed form
    within 4 SE, to σ = ½ also. Mixtures: at least −4 SE, half of what it was at a third of the levels, at last 0.13 nat
    a value."""
    found = []
    for kind, make in BOTH.items():
        for d in DIMENSIONS:
            data, rows, last = make(d), 300, float("inf")
            x, noise = data.sample(rows, SEED), Noise.of(SEED, rows, dtype=F64)
            for levels, end in ((10, 50.0), (30, 50.0), (90, 50.0), (270, 50.0), (20, 0.5)):
                lines = exponential(0.02, end).sigmas(levels)
                with torch.no_grad():
                    gaps = data.log_prob(x) - log_prob_bound(data, x, lines, data.prior(end), noise)
                gap, slack = float(gaps.mean()), 4 * float(gaps.std()) / sqrt(rows)
                what = f"{kind}, d = {d}, {levels} levels to {end:g}"
                if kind == "Gaussian":
                    found.append(Measured(f"{what}: gap, nats", _gap(data, lines), gap, slack))
                elif end == 50:
                    found.append(at_most(f"{what}: bound − ln p, nats", 0.0, -gap, slack))
                    least = min(last / 2, 0.13 * d if levels == 270 else float("inf"))
                    if least < float("inf"):
                        found.append(at_most(f"{what}: gap, nats", least, gap, slack))
                last = gap
    return found


def _gap(data: Exact, lines: Tensor) -> float:
    """E ln p(x) − E bound of a normal: E‖x − D(x_σ, σ)‖² = Σ v σ²/(v + σ²)."""
    v, sigmas = data.variances[0], lines.flip(0)
    missed = (v * sigmas[:, None] ** 2 / (v + sigmas[:, None] ** 2)).sum(1)
    precision = sigmas**-2
    spent = precision[0] * missed[0] + ((precision[:-1] - precision[1:]) * missed[1:]).sum()
    prior = (data.covariance.diagonal() * precision[-1]).log1p().sum()
    return float(spent + len(v) * (2 * sigmas[0].log() - 1) - v.log().sum() + prior) / 2


# ------------------------------------------------------------------------------------ guidance and inpainting
@law("18g", "guidance: w = 1 is the conditional denoiser, 0 the other, in between a line")
def guidance() -> list[Measured]:
    """To 1e-10: free of a classifier; with the exact classifier ln p(y|x) at noise σ, whose w = 1 is Bayes' rule; a
    walk so guided draws the class: its mean within 4 SE."""
    found = []
    for d in DIMENSIONS:
        data = mixture(d, modes=2, reach=1.0)
        sigma = torch.logspace(-1, 1, 30, dtype=F64)
        x = data.sample(30, SEED) + sigma[:, None] * Noise.of(SEED, 30, dtype=F64).normal((d,))
        y = torch.arange(30) % 2
        told, bare = data(x, sigma, y), data(x, sigma)
        guided = {w: classifier_free(data, w)(x, sigma, y) for w in (0.0, 0.5, 1.0, 3.0)}
        cases = {
            "free, w = 0": (guided[0.0], bare), "free, w = 1": (guided[1.0], told),
            "free, w = ½": (guided[0.5], (bare + told) / 2), "free, w = 3": (guided[3.0], bare + 3 * (told - bare)),
            "by classifier, w = 0": (classifier_guided(data, data.log_label, 0.0)(x, sigma, y), bare),
            "by classifier, w = 1": (classifier_guided(data, data.log_label)(x, sigma, y), told),
            "by classifier, w = 3": (classifier_guided(data, data.log_label, 3.0)(x, sigma, y), guided[3.0]),
        }  # fmt: skip
        for what, (got, wanted) in cases.items():
            off = float((got - wanted).abs().max())
            found.append(Measured(f"d = {d}: {what}", 0.0, off, 1e-10))
    data, rows = mixture(2, modes=2, reach=1.0), 2000
    start = data.means[1] + sqrt(100.25) * Noise.of(SEED, rows, dtype=F64).split("start").normal((2,))
    guided = classifier_guided(data, data.log_label)
    x = run(ancestral(exponential(0.03, 10.0), 60), guided, start, SEED, torch.ones(rows, dtype=torch.long))
    off = ((x.mean(0) - data.means[1]).abs() / (x.std(0) / sqrt(rows))).max()
    return [*found, at_most("walk to class 1: mean, in SE", 4.0, float(off))]


@law("18h", "inpainting by replacement is biased, by as much as the linear recursion says")
def inpainting() -> list[Measured]:
    """Two coordinates of unit variance and correlation 0.9, the first known to be 1.5: exactly mean 1.35, variance
    0.19. Ancestral walks of 50 levels: simulation within 4 SE of exact propagation. Of 500: the mean is 69 % of the
    exact one, the variance 1.86 times it. Four Langevin steps a level take most of that away: within 4 % and 8 %.
    Without correlation the unknown walks as if nothing were known."""
    known, rows, rho = 1.5, 4000, 0.9
    where = torch.tensor([True, False])
    mean, spread = torch.tensor([known, 0.0], dtype=F64), torch.tensor([400.0, 401.0], dtype=F64)

    def filling(data: Exact) -> Callable[..., Tensor]:
        return lambda x, sigma: inpainted(data, torch.full_like(x, known), where.expand_as(x))(x, sigma)

    def after(levels: int, denoiser: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        return moments(ancestral(exponential(0.01, 20.0), levels), denoiser, mean, spread.diag())

    (alone, free), (_, bare) = (after(50, each) for each in (filling(_pair(0.0)), _pair(0.0)))
    mended = predictor_corrector(exponential(0.01, 20.0), 50, corrections=4, ratio=0.5)
    near, close = moments(mended, filling(_pair(rho)), mean, spread.diag())
    (middle, off), (best, least) = (after(levels, filling(_pair(rho))) for levels in (50, 500))
    start = mean + spread.sqrt() * Noise.of(SEED, rows, dtype=F64).split("start").normal((2,))
    x = run(ancestral(exponential(0.01, 20.0), 50), filling(_pair(rho)), start, SEED)
    v = float(off[1, 1])
    return [
        Measured("ρ = 0: mean", 0.0, float(alone[1]), 1e-12),
        Measured("ρ = 0: variance", float(bare[1, 1]), float(free[1, 1]), 1e-12),
        Measured("ρ = 0.9: known value", known, float(x[:, 0].mean()), 1e-12),
        Measured("ρ = 0.9, 50 levels: mean", float(middle[1]), float(x[:, 1].mean()), 4 * sqrt(v / rows)),
        Measured("ρ = 0.9, 50 levels: variance", v, float(x[:, 1].var()), 4 * v * sqrt(2 / rows)),
        Measured("ρ = 0.9, 500 levels: mean ÷ exact", 0.694, float(best[1]) / (rho * known), 1e-3),
        Measured("ρ = 0.9, 500 levels: variance ÷ exact", 1.863, float(least[1, 1]) / (1 - rho**2), 1e-3),
        Measured("ρ = 0.9, 4 corrections: mean ÷ exact", 1.0, float(near[1]) / (rho * known), 0.04),
        Measured("ρ = 0.9, 4 corrections: variance ÷ exact", 1.0, float(close[1, 1]) / (1 - rho**2), 0.08),
    ]


def _pair(rho: float) -> Exact:
    """Two coordinates of unit variance and correlation ρ."""
    basis = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64) / sqrt(2)
    variances = torch.tensor([[1 + rho, 1 - rho]], dtype=F64)
    return Exact(torch.zeros(1, dtype=F64), torch.zeros(1, 2, dtype=F64), basis[None], variances)
