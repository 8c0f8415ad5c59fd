"""Chains of a model that denoises at one σ: its plan, its walk, and which density the walk draws from."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose, prod, sqrt
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.models._base import check_count, slices
from psiphi.models._walks import begin, plan_of, progress
from psiphi.samplers import Plan, langevin, walk

STEPS = 200


@dataclass(frozen=True)
class _OneLevel:
    """r(x̃) as a denoiser, and draws from the decoder's p(x|x̃)."""

    model: Any

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        return self.model(x)

    def draw(self, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        return self.model.decoder(self.model.encoder(x).mean).rsample(noise)[0]


def chain_plan(model: Any, plan: str | Plan | None, exact: bool) -> Plan:
    """The plan of a walk, all of it at the σ of training."""
    sigma = model.corruption.sigma
    made = langevin(sigma, steps=STEPS, denoise=not exact) if plan is None else plan_of(plan, [sigma])
    for each in set(made.sigmas):
        model._training_sigma(each)
    if made.drawn and model.decoder.measure == "loss-only":
        raise ArgumentError(
            f"an exact walk draws from p(x|x̃), and the loss of this {model.title} is no likelihood: build it with "
            f"loss='gaussian' (pixels of 0 and 1: 'bernoulli'), or walk by the mean, plan='walkback:{len(made)}'."
        )
    return made


@torch.no_grad()
def chain(model: Any, n: int, seed: int, plan: Plan, quiet: bool) -> Tensor:
    """n ends of the walk from N(m, v + σ²), m and v the data's mean and variance: (n, *shape)."""
    noise = Noise.of(seed, check_count(n), model.device, model.dtype)
    parts, done = slices(n, prod(model.shape)), []
    with progress(model.title, plan.evaluations * len(parts), quiet) as watch:
        for rows in parts:
            part = noise.take(rows)
            start = begin(model.statistics.blurred(plan.sigma_max), part)
            done.append(walk(plan, _OneLevel(model), start, part, watch=watch))
    return torch.cat(done)


def density(plan: Plan, sigma: float) -> str:
    """What the ends of a walk are draws from, in words."""
    last = plan.rows[-1]
    if last.up or last.base:
        return _states(plan, sigma)
    if plan.drawn:
        return f"p(x|x̃) at x̃ from {_states(plan, sigma)}: the data's density, where p(x|x̃) is right"
    return f"the means E[x|x̃] of x̃ from {_states(plan, sigma)}"


def _states(plan: Plan, sigma: float) -> str:
    """The density of the noisy states."""
    row = next((row for row in reversed(plan.rows) if row.up), None)
    if row is None:
        return "the start N(m, v + σ²), moved without noise"
    needed = sigma if plan.drawn else sqrt(2 * (1 - row.base)) * sigma
    blurred = f"the data's density blurred by N(0, {sigma:g}²)"
    if not isclose(row.up, needed, rel_tol=1e-6):
        return f"a density of its own: steps of noise {row.up:.3g}, where {blurred} needs {needed:.3g}"
    return blurred if plan.drawn else f"{blurred}, up to the bias of steps of {(1 - row.base) * sigma**2:.3g}"
