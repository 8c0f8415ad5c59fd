"""Law 18k: schedules, energies and weightings by their equations."""

from __future__ import annotations

import warnings
from math import exp, pi

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.noise import generator
from psiphi.formulas import schedules
from psiphi.formulas.denoising import (
    WEIGHTINGS,
    curl,
    denoising_loss,
    explicit_loss,
    min_snr,
    of_energy,
    path_energy,
)
from psiphi.laws._law import Measured, equal, law

SEED = 22
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


@law("18k", "schedules: σ, its inverse, its speed and its levels by their equations")
def schedules_by_equation() -> list[Measured]:
    """Speeds by differences, levels by loops over β; denoising losses, energies and weightings by their equations."""
    u = torch.linspace(0.05, 0.95, 7, dtype=F64)
    h = 1e-5
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64), 0)
    ten = [exp(-(0.1 * i / 10 + 9.95 * (i / 10) ** 2)) for i in range(1, 11)]
    angle = (torch.arange(41, dtype=F64) / 40 + 0.008) / 1.008 * pi / 2
    beta = (1 - angle.cos()[1:] ** 2 / angle.cos()[:-1] ** 2).clamp_max(0.999)
    cosines = torch.cumprod(1 - beta, 0)
    z = torch.special.ndtri(u)
    made = {
        "linear": (schedules.linear(None), ((0.1 * (w := 1e-3 + 0.999 * u) + 9.95 * w**2).exp() - 1).sqrt()),
        "exponential": (schedules.exponential(0.02, 30.0), 0.02 * 1500**u),
        "karras": (schedules.karras(), (0.004 ** (1 / 7) + u * (160 ** (1 / 7) - 0.004 ** (1 / 7))) ** 7),
        "flow": (schedules.flow(), (w := 0.001 + 0.998 * u) / (1 - w)),
    }
    found = []
    for name, (schedule, sigma) in made.items():
        drawn = (schedule.draw(u + h) - schedule.draw(u - h)) / (2 * h)
        found += [
            equal(f"{name}: σ(u), relative", torch.ones(7), schedule(u) / sigma),
            equal(f"{name}: u(σ)", u, schedule.u(sigma), 1e-9),
            equal(f"{name}: dσ/du, relative", torch.ones(7), schedule.rate(u) / drawn, 1e-6),
            equal(f"{name}: σ of training, relative", torch.ones(7),
                  schedule.draw(u) / ((1.2 * z - 0.5).exp() if name == "karras" else sigma)),
            equal(f"{name}: levels", schedule(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=F64)),
                  schedule.sigmas(5), 1e-9),
            equal(f"{name}: one level", schedule.sigma_max, schedule.sigmas(1)[0]),
            equal(f"{name}: its ends", schedule(torch.tensor([0.0, 1.0], dtype=F64)), [schedule.sigma_min,
                  schedule.sigma_max]),
        ]  # fmt: skip
    discrete = {
        "linear:1000": ((1 - bars) / bars).sqrt(),
        "linear:10": torch.tensor([((1 - a) / a) ** 0.5 for a in ten], dtype=F64),
        "cosine:40": ((1 - cosines) / cosines).sqrt(),
        "exponential:0.1,10,5": torch.tensor([0.1 * 100 ** (i / 4) for i in range(5)], dtype=F64),
    }
    for name, sigma in discrete.items():
        schedule, t = schedules.schedule(name), len(sigma)
        every = torch.arange(1, t + 1, dtype=F64) / t
        precision = sigma**-2
        gained = torch.cat([2 * precision[:1], precision[:-1]]) - precision
        middles = (sigma[1:] * sigma[:-1]).sqrt()
        found += [
            equal(f"{name}: levels, relative", torch.ones(t), schedule.sigmas().flip(0) / sigma, 1e-8),
            equal(f"{name}: σ(i/T), relative", torch.ones(t), schedule(every) / sigma, 1e-8),
            equal(f"{name}: between levels, from above", schedule(every), schedule(every - 0.4 / t), 0.0),
            equal(f"{name}: u of a level", every, schedule.u(sigma)),
            equal(f"{name}: the nearest level, in ln σ", every[1:], schedule.u(middles * 1.001)),
            equal(f"{name}: from below", every[:-1], schedule.u(middles * 0.999)),
            equal(f"{name}: rate, relative", torch.ones(t), schedule.rate(every) / (t / 2 * gained * sigma**3),
                  1e-6),
            equal(f"{name}: some levels", schedule.sigmas()[torch.tensor([0, *_skipped(t)])], schedule.sigmas(4)),
            equal(f"{name}: how many", t, schedule.steps or 0),
            equal(f"{name}: its ends", schedule.sigmas()[[-1, 0]], [schedule.sigma_min, schedule.sigma_max]),
        ]  # fmt: skip
    ladder = schedules.ladder([3.0, 0.5, 1.0])
    return [
        *found,
        equal("a ladder in order", [3.0, 1.0, 0.5], ladder.sigmas()),
        equal("even levels", [3.0, 1.5**0.5, 0.5], ladder.even(3)),
        equal("of a single level", [2.0], schedules.ladder([2.0]).even(5)),
        equal("u = 0 is the first level", 0.5, ladder(torch.tensor(0.0, dtype=F64))),
        equal("no steps of a continuous one", 1, schedules.flow().steps is None),
        equal("defaults", [0.01, 50.0, 0.004, 160.0, 1 / 999, 999.0, 1000, 1000],
              [schedules.exponential().sigma_min, schedules.exponential().sigma_max, schedules.karras().sigma_min,
               schedules.karras().sigma_max, schedules.flow().sigma_min, schedules.flow().sigma_max,
               schedules.linear().steps, schedules.cosine().steps], 1e-9),
        equal("another ρ", (0.1**0.5 + 0.25 * (10**0.5 - 0.1**0.5)) ** 2,
              schedules.karras(0.1, 10.0, 2.0)(torch.tensor(0.25, dtype=F64))),
        equal("other draws", (2 * z + 1).exp(), schedules.karras(mean=1.0, std=2.0).draw(u), 1e-9),
        equal("by their texts", [10, 40, 5, 0, 0.1],
              [schedules.schedule("linear:10").steps, schedules.schedule("cosine:40").steps,
               schedules.schedule("exponential:0.1,10,5").steps,
                     int(schedules.schedule("linear").steps is not None),
               schedules.schedule("karras:0.1,10").sigma_min]),
        equal("what is warned of", [0, 1, 1, 1, 0, 1, 0, 2, 1, 0, 0], [
            _warnings(0.01, 50.0), _warnings(0.01, 9.9), _warnings(0.11, 50.0), _warnings(0.01, 1001.0, "noise"),
            _warnings(0.01, 1000.0, "noise"), _warnings(0.009, 50.0, "denoised"), _warnings(0.01, 50.0, "denoised"),
            _warnings(0.11, 9.9), _warnings(0.01, 1001.0, "score"), _warnings(0.01, 1001.0, "edm"),
            _warnings(0.1, 10.0)]),
        *_fields(),
    ]  # fmt: skip


def _warnings(low: float, high: float, parametrisation: str | None = None) -> int:
    """How often a schedule between these levels warns; 9.9 leaves more than a tenth of the data, 10 does not."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        schedules.ladder([low, high]).check(parametrisation)
    return len(told)


def _skipped(t: int) -> list[int]:
    """Places of the last three of four levels among t falling ones."""
    return [t - round(i * t / 4) for i in (3, 2, 1)]


def _fields() -> list[Measured]:
    x, d = _normal(5, 3), _normal(5, 3, name="denoised")
    a = _normal(3, 3)
    symmetric, sigma = a @ a.T, torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0], dtype=F64)
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5], dtype=F64)
    origin = _normal(5, 3, name="origin")

    def energy(at: Tensor) -> Tensor:
        return (at @ symmetric * at).sum(1) / 2

    turning = torch.stack([a, symmetric, a - a.T])
    places, weights = np.polynomial.legendre.leggauss(32)
    sides = weights[places > -0.4].sum() / 2
    gap = (a - a.T).norm() / (a + a.T).norm()
    return [
        equal("denoising loss", weight * (x - d).square().sum(1), denoising_loss(x, d, weight)),
        equal("explicit loss", weight * (x - d).square().sum(1), explicit_loss(x, d, weight)),
        equal("D of an energy", x - sigma[:, None] ** 2 * (x @ symmetric), of_energy(energy, x, sigma)),
        equal("energy along a path", energy(x) - energy(origin), path_energy(lambda at: -at @ symmetric, x,
              origin)),
        equal("how far it is exact", (x.pow(8) - origin.pow(8)).sum(1),
              path_energy(lambda at: -8 * at.pow(7), x, origin, nodes=4), 1e-7),
        equal("32 places, unless told: those beyond a wall", [2 * sides], path_energy(lambda at: -(at > 0.3).to(at),
              torch.full((1, 2), 1.0, dtype=F64), torch.zeros(1, 2, dtype=F64))),
        equal("how a field turns", [gap, 0.0], curl(turning)[:2]),
        equal("a field that turns alone", 1, curl(turning)[2] > 1e12),
        equal("which weightings ask for the speed", [each == "likelihood" for each in WEIGHTINGS],
              [each.rated for each in WEIGHTINGS.values()]),
        equal("min-SNR", [5.0, 1.0, 0.04, 2.0], [*(min_snr().at(torch.tensor([0.2, 1.0, 5.0], dtype=F64), None)),
              min_snr(2.0).at(torch.tensor(0.1), None)]),
    ]  # fmt: skip
