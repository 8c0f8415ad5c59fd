"""Law 18: plans reach their order, and are their papers' updates on their papers' levels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.formulas.denoising import noise_of, velocity_of
from psiphi.formulas.schedules import Schedule, cosine, exponential, flow, karras, ladder, linear
from psiphi.laws._exact import BOTH, DIMENSIONS, F64, Exact, mixture, run
from psiphi.laws._law import Measured, at_most, law
from psiphi.samplers import (
    Plan,
    ancestral,
    ddim,
    dpm_solver,
    heun,
    walk,
)
from psiphi.samplers._walk import draws

SEED = 18
LOW, HIGH = 0.1, 10.0
STEPS = (40, 64)


# ------------------------------------------------------------------------------------------------- orders
def _scaled(data: Exact, x: Tensor) -> Tensor:
    """The exact map of a normal: √((λ + σ_min²)/(λ + σ_max²)) along each eigenvector."""
    ratio = ((data.variances[0] + LOW**2) / (data.variances[0] + HIGH**2)).sqrt()
    return data.means[0] + ((x - data.means[0]) @ data.bases[0] * ratio) @ data.bases[0].T


def _below(data: Exact, x: Tensor, sigma: float) -> Tensor:
    """The distribution function of a mixture on the line, (B, 1) -> (B, 1)."""
    z = (x - data.means[:, 0]) / (data.variances[:, 0] + sigma**2).sqrt()
    return (data.log_weights.exp() * torch.special.ndtr(z)).sum(1, keepdim=True)


def _matched(data: Exact, x: Tensor) -> Tensor:
    """The exact map on the line: F_σmin⁻¹(F_σmax(x)), by bisection to the last digit."""
    level = _below(data, x, HIGH)
    low, high = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        under = _below(data, middle, LOW) < level
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    return (low + high) / 2


def _integrated(data: Exact, x: Tensor) -> Tensor:
    """The map by Dormand and Prince's method of order 8 in ln σ, at 1e-12."""
    from scipy.integrate import solve_ivp

    def field(time: float, state: Any) -> Any:
        at = torch.from_numpy(state).view_as(x)
        return (at - data(at, torch.full((len(x),), float(np.exp(time)), dtype=F64))).flatten().numpy()

    ends = (np.log(HIGH), np.log(LOW))
    solved: Any = solve_ivp(field, ends, x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(solved.y[:, -1].copy()).view_as(x)


def _order(build: Callable[[Any], Plan], levels: Callable[[int], Any], data: Exact, x: Tensor, end: Tensor):
    """−slope of ln error on ln n, the last row, into σ = 0, left out."""
    errors = []
    for n in STEPS:
        plan = build(levels(n + 1))
        plan = Plan(plan.name, plan.rows[:-1])
        errors.append(float((run(plan, data, x, SEED) - end).square().mean().sqrt()))
    return -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])


@law("18", "deterministic samplers reach their order: ddim 1, heun and dpm_solver 2")
def orders() -> list[Measured]:
    """Within 0.15, from 40 and 64 steps of σ from 10 to 0.1 against the exact map: in closed form for normals, by
    matching distribution functions on the line, else by a method of order 8 at 1e-12."""
    spaced, curved = exponential(LOW, HIGH), karras(LOW, HIGH)
    cases = [
        ("ddim", ddim, spaced, 1), ("heun", heun, spaced, 2), ("dpm_solver", dpm_solver, spaced, 2),
        ("heun, Karras' levels", heun, curved, 2), ("dpm_solver, Karras' levels", dpm_solver, curved, 2),
    ]  # fmt: skip
    found = []
    for kind, make in BOTH.items():
        for d in DIMENSIONS:
            data = make(d)
            x = data.sample(6, SEED, HIGH)
            end = (_scaled if kind == "Gaussian" else _matched if d == 1 else _integrated)(data, x)
            for what, build, line, order in cases[: 5 if d < 16 else 3]:
                got = _order(build, line.sigmas, data, x, end)
                found.append(Measured(f"{kind}, d = {d}: order of {what}", order, got, 0.15))
    return found


# ------------------------------------------------------------------------------------- as their papers put it
def _bars(which: str, steps: int) -> Tensor:
    """ᾱ_1, …, ᾱ_T as published, float64."""
    i = torch.arange(0, steps + 1, dtype=F64) / steps
    if which == "cosine":
        bars = ((i + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
        return (1 - (1 - bars[1:] / bars[:-1]).clamp(max=0.999)).cumprod(0)
    if steps == 1000:
        return (1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64)).cumprod(0)
    return (-(0.1 * i + 9.95 * i**2)[1:]).exp()


def _published(step: Callable[..., Tensor], data: Exact, bars: Tensor, x: Tensor, noise: Noise) -> Tensor:
    """Walk x_T = √ᾱ_T x down to x_0 by `step(i, x, ε̂, ᾱ, ᾱ before, ξ)`, in variance-preserving coordinates."""
    x, xi = x * bars[-1].sqrt(), draws(noise, x.shape[1:])
    down = [*bars.flip(0).tolist(), 1.0]
    for row, (bar, before) in enumerate(pairwise(down)):
        sigma = torch.full((len(x),), sqrt((1 - bar) / bar), dtype=F64)
        exploded = x / sqrt(bar)
        eps = noise_of(exploded, data(exploded, sigma), sigma)
        x = step(x, eps, bar, before, xi(row) * (before < 1))
    return x


def _ddpm(variance: str) -> Callable[..., Tensor]:
    """x_{t−1} = (x_t − (1−α_t)/√(1−ᾱ_t) ε̂)/√α_t + σ_t ξ."""

    def step(x: Tensor, eps: Tensor, bar: Any, before: Any, xi: Tensor) -> Tensor:
        alpha = bar / before
        beta = 1 - alpha
        squared = beta if variance == "large" else (1 - before) / (1 - bar) * beta
        return (x - beta / (1 - bar) ** 0.5 * eps) / alpha**0.5 + squared**0.5 * xi

    return step


def _each_row(plan: Plan, step: Callable[..., Tensor], data: Exact, bars: Tensor) -> float:
    """Largest difference of the two, every step of the chain at once, each from a state of its own."""
    rows, noise = len(bars), Noise.of(SEED, len(bars), dtype=F64)
    bar = bars.flip(0)[:, None]
    before = torch.cat([bar[1:], torch.ones(1, 1, dtype=F64)])
    sigma = ((1 - bar) / bar).sqrt()
    x = data.sample(rows, SEED) + sigma * noise.normal((data.dimension,))
    clean, xi = data(x, sigma[:, 0]), noise.split("ξ").normal((data.dimension,))
    weights = torch.tensor([[row.base, row.d[0], row.up] for row in plan], dtype=F64)
    ours = weights[:, :1] * x + weights[:, 1:2] * clean + weights[:, 2:] * xi
    theirs = step(x * bar.sqrt(), noise_of(x, clean, sigma[:, 0]), bar, before, xi * (before < 1))
    return float((ours - theirs / before.sqrt()).abs().max())


def _ddim(eta: float) -> Callable[..., Tensor]:
    """Song, Meng, Ermon, 2021, eq. 12 with σ_t of eq. 16."""

    def step(x: Tensor, eps: Tensor, bar: float, before: float, xi: Tensor) -> Tensor:
        sigma = eta * sqrt((1 - before) / (1 - bar) * (1 - bar / before))
        clean = (x - sqrt(1 - bar) * eps) / sqrt(bar)
        return sqrt(before) * clean + sqrt(max(0.0, 1 - before - sigma**2)) * eps + sigma * xi

    return step


def _dpm_solver(data: Exact, bars: Tensor, x: Tensor) -> Tensor:
    """x_i = (σ_i/σ_{i−1}) x_{i−1} − α_i (e^{−h_i} − 1)[(1 + 1/2r) D_{i−1} − D_{i−2}/2r], r = h_{i−1}/h_i; then D."""
    alpha, sigma = bars.sqrt().flip(0), (1 - bars).sqrt().flip(0)
    half, before, last_h = (alpha / sigma).log(), None, torch.ones((), dtype=F64)
    x = x * alpha[0]
    for i in range(len(bars)):
        level = (sigma[i] / alpha[i]).expand(len(x))
        clean = data(x / alpha[i], level)
        if i + 1 == len(bars):
            return clean
        h = half[i + 1] - half[i]
        mixed = clean
        if before is not None:
            r = last_h / h
            mixed = (1 + 1 / (2 * r)) * clean - before / (2 * r)
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * torch.expm1(-h) * mixed
        before, last_h = clean, h
    return x


def _heun(data: Exact, levels: Tensor, x: Tensor) -> Tensor:
    """Karras et al., 2022, algorithm 1 without churn: d = (x − D)/σ, then the mean of d at both ends."""
    for s, t in pairwise([*levels, torch.zeros((), dtype=F64)]):
        slope = (x - data(x, s.expand(len(x)))) / s
        ahead = x + (t - s) * slope
        if t > 0:
            slope = (slope + (ahead - data(ahead, t.expand(len(x)))) / t) / 2
        x = x + (t - s) * slope
    return x


def _flow_euler(data: Exact, times: Tensor, x: Tensor) -> Tensor:
    """x_{t'} = x_t + (t' − t) v(x_t, t) down to t = 0, x_t = (1 − t) x."""
    x = (1 - times[0]) * x
    for t, after in pairwise([*times, torch.zeros((), dtype=F64)]):
        sigma, exploded = (t / (1 - t)).expand(len(x)), x / (1 - t)
        x = x + (after - t) * velocity_of(exploded, data(exploded, sigma), sigma)
    return x


@law("18a", "each plan is its paper's update in the paper's own coordinates")
def published_updates() -> list[Measured]:
    """DDPM with both variances, DDIM at η = 0, ½, 1, DPM-Solver++(2M), on the same noise from x_T to x_0; Heun; Euler
    in flow time: largest difference at most 1e-8. DDIM at η = 1 is DDPM row by row, to 1e-12."""
    data, found = mixture(2), []
    for which, steps in (("linear", 20), ("cosine", 50)):
        line = linear(steps) if which == "linear" else cosine(steps)
        bars, noise = _bars(which, steps), Noise.of(SEED, 8, dtype=F64)
        x = data.sample(8, SEED, line.sigma_max)
        pairs = {
            "ancestral(small)": (ancestral(line), _ddpm("small")),
            "ancestral(large)": (ancestral(line, variance="large"), _ddpm("large")),
            **{
                f"ddim({eta:g})": (ddim(line, eta=eta), _ddim(eta)) for eta in (0.0, 0.5, 1.0) if steps < 1000
            },
        }
        for what, (plan, step) in pairs.items():
            ours, theirs = walk(plan, data, x, noise), _published(step, data, bars, x, noise)
            off = float((ours - theirs).abs().max())
            found.append(Measured(f"{which}, T = {steps}: {what}", 0.0, off, 1e-8))
        off = float((walk(dpm_solver(line), data, x, noise) - _dpm_solver(data, bars, x)).abs().max())
        found.append(Measured(f"{which}, T = {steps}: dpm_solver", 0.0, off, 1e-8))
        rows = zip(ddim(line, eta=1.0), ancestral(line), strict=True)
        worst = max(
            max(abs(a.base - b.base), abs(a.d[0] - b.d[0]), abs(a.up - b.up) / b.sigma) for a, b in rows
        )
        found.append(Measured(f"{which}, T = {steps}: ddim(1) − ancestral, rows", 0.0, worst, 1e-12))
    for variance in ("small", "large"):
        off = _each_row(
            ancestral(linear(1000), variance=variance), _ddpm(variance), data, _bars("linear", 1000)
        )
        found.append(Measured(f"linear, T = 1000: ancestral({variance}), each step", 0.0, off, 1e-8))
    levels, noise = karras().sigmas(30), Noise.of(SEED, 8, dtype=F64)
    x = data.sample(8, SEED, float(levels[0]))
    off = float((walk(heun(levels), data, x, noise) - _heun(data, levels, x)).abs().max())
    found.append(Measured("heun", 0.0, off, 1e-8))
    times = torch.linspace(0.999, 0.001, 60, dtype=F64)
    levels = times / (1 - times)
    x = data.sample(8, SEED, float(levels[0]))
    off = float((walk(ddim(levels), data, x, noise) - _flow_euler(data, times, x)).abs().max())
    spaced = float((flow().sigmas(60) / levels - 1).abs().max())
    return [
        *found,
        Measured("Euler in flow time", 0.0, off, 1e-8),
        Measured("levels of a flow, relative", 0.0, spaced, 1e-9),
    ]


# --------------------------------------------------------------------------------------------------- schedules
@law("18e", "every schedule's way to σ and back is the identity, and its levels are the published ones")
def schedules() -> list[Measured]:
    """u(σ(u)) = u and σ(u(σ)) = σ to 1e-9; ᾱ to 1e-12 relative; β of the cosine at most 0.999; finite at any T."""
    u = torch.linspace(0, 1, 501, dtype=F64)
    found = []
    lines: list[Schedule] = [
        linear(None), linear(1000), linear(17), cosine(1000), cosine(10), exponential(), exponential(0.01, 50.0, 30),
        karras(), flow(), ladder([0.3, 2.0, 0.1]),
    ]  # fmt: skip
    for line in lines:
        at = u if line.steps is None else torch.arange(1, line.steps + 1, dtype=F64) / line.steps
        sigma = line(at)
        there = float((line.u(sigma) - at).abs().max())
        back = float((line(line.u(sigma)) / sigma - 1).abs().max())
        found.append(Measured(f"{line.name}: u(σ(u)) − u", 0.0, there, 1e-9))
        found.append(Measured(f"{line.name}: σ(u(σ))/σ − 1", 0.0, back, 1e-9))
    for which, steps in [
        ("linear", 1000), ("linear", 1), ("linear", 10), ("linear", 20), ("cosine", 1), ("cosine", 10), ("cosine", 20),
        ("cosine", 1000),
    ]:  # fmt: skip
        line = linear(steps) if which == "linear" else cosine(steps)
        bars = 1 / (1 + torch.tensor(line.levels, dtype=F64) ** 2)
        wanted = _bars(which, steps)
        off = float((bars / wanted - 1).abs().max())
        found.append(Measured(f"{line.name}: ᾱ, relative", 0.0, off, 1e-9))
        if which == "cosine":
            betas = 1 - bars / torch.cat([torch.ones(1, dtype=F64), bars[:-1]])
            found.append(at_most(f"{line.name}: largest β", 0.999, float(betas.max()), 1e-12))
        sane = all(0 < s < float("inf") for s in line.levels) and line.steps == steps
        found.append(Measured(f"{line.name}: T levels, finite", 1.0, float(sane), 0.0))
    return found
