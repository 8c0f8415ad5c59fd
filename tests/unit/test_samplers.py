"""The loop that runs plans: independence of rows, gradients, trajectories; denoisers that wrap denoisers."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from helpers.samplers import EVERY, F64, LEVELS, PLANS, Drawn, normal
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.schedules import cosine, exponential, flow, karras, linear
from psiphi.samplers import (
    Plan,
    ancestral,
    annealed_langevin,
    classifier_free,
    classifier_guided,
    ddim,
    dpm_solver,
    heun,
    inpainted,
    predictor_corrector,
    trajectory,
    walk,
    walkback,
)
from psiphi.samplers._walk import draws


# ------------------------------------------------------------------------------------------------- the walk
@EVERY
def test_a_row_does_not_depend_on_how_many_walk(name: str):
    """The first 7 of 200 alone, in float64; and rows 64 to 69 of the stream."""
    start = Noise.of(9, 200, dtype=F64).split("start").normal((3,))
    noise = Noise.of(9, 200, dtype=F64)
    many = walk(PLANS[name], normal, start, noise)
    few = walk(PLANS[name], normal, start[:7], Noise.of(9, 7, dtype=F64))
    assert_close(few, many[:7], rtol=1e-12, atol=1e-12)
    part = slice(64, 70)
    assert_close(walk(PLANS[name], normal, start[part], noise.take(part)), many[part], rtol=1e-12, atol=1e-12)


def test_an_exact_walk_does_not_depend_on_how_many_walk():
    plan, start = walkback(0.5, 6, exact=True), torch.zeros(200, 3, dtype=F64)
    many = walk(plan, Drawn(), start, Noise.of(9, 200, dtype=F64))
    few = walk(plan, Drawn(), start[:7], Noise.of(9, 7, dtype=F64))
    assert_close(few, many[:7], rtol=1e-12, atol=1e-12)
    assert float(many.std()) > 0.5


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm_solver", "ancestral", "langevin"])
def test_gradients_through_a_walk_are_those_of_its_unrolled_steps(name: str):
    """Checkpointed evaluations against a loop of our own, for x and for the network's weights."""
    weight = torch.tensor([[1.0, 0.3], [-0.2, 0.8]], dtype=F64, requires_grad=True)
    start = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    noise = Noise.of(2, 4, dtype=F64)

    def bent(x: Tensor, sigma: Tensor) -> Tensor:
        return (x @ weight).tanh() / (1 + sigma[:, None] ** 2)

    def unrolled(x: Tensor) -> Tensor:
        held, seen, xi = x, [], draws(noise, (2,))
        for i, row in enumerate(PLANS[name]):
            seen.insert(0, bent(x, x.new_full((4,), row.sigma)))
            x = row.base * held + sum(w * d for w, d in zip(row.d, seen)) + row.up * xi(i)
            held = x if row.commit else held
        return x

    found = []
    for run in (lambda x: walk(PLANS[name], bent, x, noise), unrolled):
        x = start.clone().requires_grad_()
        out = run(x)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), (x, weight))))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_memory_of_a_gradient_is_that_of_one_evaluation():
    """The network's insides are not kept: evaluations run again in the backward pass."""
    asked = []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(1)
        return normal(x, sigma)

    x = torch.ones(2, 3, requires_grad=True)
    out = walk(ddim(LEVELS), counted, x, Noise.of(0, 2))
    assert len(asked) == 5
    out.sum().backward()
    assert len(asked) == 10
    assert x.grad is not None


def test_trajectories_hold_the_start_and_the_end():
    plan, x, noise = ancestral(LEVELS), torch.ones(3, 2), Noise.of(0, 3)
    every = trajectory(plan, normal, x, noise)
    assert every.shape == (6, 3, 2)
    assert torch.equal(every[0], x)
    assert torch.equal(every[-1], walk(plan, normal, x, noise))
    some = trajectory(plan, normal, x, noise, every=2)
    assert torch.equal(some, every[[0, 2, 4, 5]])
    after = walk(Plan("one", plan.rows[:1]), normal, x, noise)
    assert torch.equal(every[1], after)


def test_a_walk_leaves_its_start_and_the_random_state_alone():
    x = torch.ones(3, 2)
    state = torch.get_rng_state()
    walk(ancestral(LEVELS), normal, x, Noise.of(0, 3))
    assert torch.equal(x, torch.ones(3, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_labels_reach_the_denoiser():
    y = torch.tensor([0, 3, 7])
    out = walk(ddim(exponential(0.01, 20.0), 50), normal, torch.zeros(3, 2), Noise.of(0, 3), y)
    assert_close(out, y[:, None].float().expand(3, 2), rtol=0.0, atol=0.5)


@pytest.mark.parametrize("steps", [1, 10, 20, 1000])
@pytest.mark.parametrize(
    "name", ["ancestral", "ancestral large", "ddim", "heun", "dpm_solver", "pc", "annealed"]
)
def test_no_schedule_makes_nan(name: str, steps: int):
    """float32; linear, cosine, Karras, flow and geometric levels; the last states are of the data's size."""
    build = {
        "ancestral": ancestral, "ancestral large": lambda levels: ancestral(levels, variance="large"), "ddim": ddim,
        "heun": heun, "dpm_solver": dpm_solver, "pc": predictor_corrector,
        "annealed": lambda levels: annealed_langevin(levels, repeats=1),
    }[name]  # fmt: skip
    lines = [linear(steps), cosine(steps)] if steps < 1000 else [cosine(steps)]
    if steps < 1000:
        lines += [karras(), flow(), exponential()]
    for line in lines:
        plan = build(line.sigmas(steps))
        start = sqrt(1 + plan.sigma_max**2) * Noise.of(0, 5).split("start").normal((2,))
        x = walk(plan, normal, start, Noise.of(0, 5))
        assert bool(x.isfinite().all()), line
        assert name == "annealed" or float(x.abs().max()) < 50, line


# ------------------------------------------------------------------------------------------------- wrappers
def test_guidance_needs_labels():
    x, sigma = torch.ones(2, 3), torch.ones(2)
    for guided in (classifier_free(normal, 2.0), classifier_guided(normal, lambda x, s, y: x.sum(1))):
        with pytest.raises(ArgumentError, match="guidance needs labels to guide to: pass y"):
            guided(x, sigma)


def test_guidance_of_weight_one_asks_once():
    asked = []

    def counted(x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        asked.append(len(x))
        return normal(x, sigma, y)

    x, sigma, y = torch.ones(2, 3), torch.ones(2), torch.tensor([1, 2])
    classifier_free(counted, 1.0)(x, sigma, y)
    classifier_free(counted, 2.0)(x, sigma, y)
    assert asked == [2, 4]


def test_inpainting_returns_what_is_known():
    known = torch.tensor([[5.0, 0.0, -3.0]]).expand(6, 3)
    where = torch.tensor([[True, False, True]]).expand(6, 3)
    out = walk(ancestral(LEVELS), inpainted(normal, known, where), torch.zeros(6, 3), Noise.of(0, 6))
    assert torch.equal(out[where], known[where])
    assert float(out[:, 1].std()) > 0
