"""Laws 16 and 17: chains at one noise level, scores learnt by denoising, and the energy behind a score."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.calculus import ascent_step
from psiphi.formulas.denoising import (
    PARAMETRISATIONS,
    curl,
    denoising_loss,
    explicit_loss,
    noise_of,
    of_noise,
    of_score,
    of_velocity,
    path_energy,
    score_of,
    velocity_of,
)
from psiphi.laws._exact import BOTH, DIMENSIONS, F64, Exact, gaussian, mixture, moments, run
from psiphi.laws._law import Measured, at_most, law
from psiphi.parts import adam
from psiphi.samplers import Plan, langevin, walk, walkback
from psiphi.samplers._walk import draws
from psiphi.training import cosine, fit

SEED = 16
CHAINS = 2500
FAR = 5.0  # how far from the data every chain starts


def _along(data: Exact, x: Tensor) -> Tensor:
    """Variances of the rows of x along the eigenvectors of the data's covariance."""
    return ((x - x.mean(0)) @ data.bases[0]).square().mean(0)


def _chain(what: str, data: Exact, plan: Plan, theory: Tensor, seed: int) -> list[Measured]:
    """Mean and variances of the last state, from far away: by recursion to 1e-9 and by chains within 4 SE."""
    start = data.means[0] + FAR
    found = []
    if not plan.drawn:
        mean, covariance = moments(plan, data, start, torch.zeros_like(data.bases[0]))
        exact = (data.bases[0].T @ covariance @ data.bases[0]).diagonal()
        found = [
            Measured(f"{what}: largest variance ÷ theory, recursion", 1.0, _worst(exact / theory), 1e-9),
            Measured(f"{what}: mean, recursion", 0.0, float((mean - data.means[0]).abs().max()), 1e-6),
        ]
    x = run(plan, data, start.expand(CHAINS, -1), seed)
    pull = ((x.mean(0) - data.means[0]) @ data.bases[0]).abs() / (theory / CHAINS).sqrt()
    return [
        *found,
        Measured(
            f"{what}: farthest variance ÷ theory", 1.0, _worst(_along(data, x) / theory), 4 * sqrt(2 / CHAINS)
        ),
        at_most(f"{what}: mean, in standard errors", 4.0, float(pull.max())),
    ]


def _worst(ratios: Tensor) -> float:
    """The one farthest from 1."""
    return float(ratios[(ratios - 1).abs().argmax()])


@law("16", "a Langevin chain has variance w/(1 − ε/(2w)) for each eigenvalue w = v + σ², from any start")
def langevin_variance() -> list[Measured]:
    """The target of a denoiser is the data blurred by N(0, σ²I). By the linear recursion to 1e-9; by chains in 4 SE."""
    found, sigma = [], 0.8
    for d in DIMENSIONS:
        data = gaussian(d)
        w = data.variances[0] + sigma**2
        for e in (0.5, 1.0):
            steps = 5 + int(16 * float(w.max()) / e)
            plan = langevin(sigma, e, steps)
            found += _chain(f"d = {d}, ε = {e:g}", data, plan, w / (1 - e / (2 * w)), SEED)
    return found


@law("16a", "reconstruct and corrupt: with noise √2 σ a Langevin step of ε = σ², with σ half its variance")
def mean_walk_variance() -> list[Measured]:
    """Noisy state w/(1 − σ²/(2w)), clean state 2v²/(2v + σ²), w = v + σ²; with noise σ exactly half of each."""
    found, sigma = [], 0.8
    for d in DIMENSIONS:
        data = gaussian(d)
        v, w = data.variances[0], data.variances[0] + sigma**2
        noisy, clean = w / (1 - sigma**2 / (2 * w)), 2 * v**2 / (2 * v + sigma**2)
        for what, plan, theory in (
            ("√2 σ, noisy", walkback(sigma, 60, clean=False), noisy),
            ("√2 σ, clean", walkback(sigma, 60), clean),
            ("σ, noisy", walkback(sigma, 60, noise=sigma, clean=False), noisy / 2),
            ("σ, clean", walkback(sigma, 60, noise=sigma), clean / 2),
        ):
            found += _chain(f"d = {d}, {what}", data, plan, theory, SEED + 1)
        step, walked = langevin(sigma, sigma**2, 1).rows[0], walkback(sigma, 1, clean=False).rows[0]
        off = max(abs(step.base - walked.base), abs(step.d[0] - walked.d[0]), abs(step.up - walked.up))
        found.append(Measured(f"d = {d}: row of the walk − Langevin's of ε = σ²", 0.0, off, 1e-12))
    return found


@law("16b", "draws from p(x₀|x) instead of means: the clean state has the data's law")
def exact_walkback() -> list[Measured]:
    """Normals: every variance within 4 SE. Mixtures whose modes overlap: shares of the modes, means and second moments
    within 4 SE of exact draws' own."""
    found, sigma = [], 0.8
    for d in DIMENSIONS:
        data = gaussian(d)
        v = data.variances[0]
        for what, plan, theory in (
            ("clean", walkback(sigma, 45, exact=True), v),
            ("noisy", walkback(sigma, 45, exact=True, clean=False), v + sigma**2),
        ):
            found += _chain(f"d = {d}, {what}", data, plan, theory, SEED + 2)
        blend = mixture(d, reach=1.0)
        x = run(walkback(1.0, 30, exact=True), blend, blend.means[0].expand(CHAINS, -1), SEED + 3)
        zero = torch.zeros(CHAINS, dtype=F64)
        shares = blend._joint(x, zero)[0].softmax(0)
        pull = (shares.mean(1) - blend.log_weights.exp()).abs() / (shares.std(1) / sqrt(CHAINS))
        squares = (x - blend.mean).square().sum(1)
        found += [
            at_most(f"d = {d}, mixture: shares of modes, in SE", 4.0, float(pull.max())),
            Measured(
                f"d = {d}, mixture: total variance",
                float(blend.covariance.trace()),
                float(squares.mean()),
                4 * float(squares.std()) / sqrt(CHAINS),
            ),
        ]
    return found


@law("16c", "on a mixture whose modes overlap a Langevin chain errs by its step alone")
def langevin_on_a_mixture() -> list[Measured]:
    """On the line: the stationary density of the discrete chain by quadrature of its kernel; chains within 4 SE of
    its variance and third moment, and its bias halves with the step (to 5 %)."""
    data, sigma, found, biases = mixture(1, reach=1.0), 0.6, [], []
    grid = torch.linspace(-7, 7, 561, dtype=F64)
    score, cell = data.score(grid[:, None], sigma)[:, 0], float(grid[1] - grid[0])
    true = float(data.covariance) + sigma**2
    for e in (0.1, 0.05, 0.3):
        gap = (grid[None] - (grid + e * score)[:, None]).square() / (4 * e)
        kernel = torch.linalg.matrix_power((-gap).exp() * cell / sqrt(4 * torch.pi * e), 256)
        density = kernel[280] / kernel[280].sum()
        centre = float(density @ grid)
        second, third = (float(density @ (grid - centre) ** k) for k in (2, 3))
        biases.append(second - true)
        if e == 0.3:
            x = run(langevin(sigma, e, 60), data, torch.full((20_000, 1), 5.0, dtype=F64), SEED + 4)[:, 0]
            for what, theory, k in (("variance", second, 2), ("third moment", third, 3)):
                terms = (x - centre) ** k
                se = float(terms.std()) / sqrt(len(x))
                found.append(Measured(f"ε = {e:g}: {what}", theory, float(terms.mean()), 4 * se))
    return [*found, Measured("bias of ε = 0.1 ÷ of 0.05", 2.0, biases[0] / biases[1], 0.1)]


@law("16d", "the step of attacks at temperature 1 and the row of the Langevin plan are one")
def bridge() -> list[Measured]:
    """`ascent_step` along ∇ ln p_σ with noise ξ, and the plan's row on the same ξ: to 1e-12 after 20 steps."""
    found, sigma, e = [], 0.7, 0.2
    for kind, make in BOTH.items():
        for d in DIMENSIONS:
            data, noise = make(d), Noise.of(SEED, 50, dtype=F64)
            start = x = data.sample(50, SEED) + 1
            xi = draws(noise, (d,))
            for i in range(20):
                x = ascent_step(x, data.score(x, sigma), e, noise=xi(i), temperature=1.0)
            off = float((x - walk(langevin(sigma, e, 20), data, start, noise)).abs().max())
            found.append(Measured(f"{kind}, d = {d}: largest difference", 0.0, off, 1e-12))
    return found


# -------------------------------------------------------------------------------------------- scores learnt
LADDER = (0.1, 0.3, 1.0, 3.0)


def _bumps(x: Tensor, sigma: float) -> Tensor:
    """1, x, and Gauss bumps of the width at which p_σ varies, (B, features)."""
    width = sqrt(0.25 + sigma**2)
    centres = torch.arange(-3, 3.01, 0.5, dtype=F64) * max(1.0, width)
    bumps = (-(x - centres).square() / (2 * width**2)).exp()
    return torch.cat([torch.ones_like(x), x, bumps], 1)


@law("17", "denoising score matching finds the score of the blurred data, at every noise level")
def denoising_finds_the_score() -> list[Measured]:
    """On a mixture on the line, D linear in Gauss bumps: the least of the denoising loss on 100 000 draws, by Newton's
    step on the loss itself. Relative error E‖s − ∇ ln p_σ‖²/E‖∇ ln p_σ‖² at most 1 % on fresh draws."""
    data, found = mixture(1), []
    for i, sigma in enumerate(LADDER):
        clean = data.sample(100_000, SEED + i)
        noisy = clean + sigma * Noise.of(SEED + 10 + i, len(clean), dtype=F64).normal((1,))
        features = _bumps(noisy, sigma)
        weights = torch.zeros(features.shape[1], 1, dtype=F64, requires_grad=True)
        denoised = features @ weights
        loss = denoising_loss(clean, denoised, sigma**-2).mean()
        (slope,) = torch.autograd.grad(loss, weights)
        curvature = 2 * sigma**-2 * features.T @ features / len(features)
        weights = -torch.linalg.lstsq(curvature, slope, driver="gelsd").solution
        new = data.sample(5000, SEED + 20 + i, sigma)
        truth = data.score(new, sigma)
        off = score_of(new, _bumps(new, sigma) @ weights, sigma) - truth
        error = float(off.square().mean() / truth.square().mean())
        found.append(at_most(f"σ = {sigma:g}: relative squared error", 0.01, error))
    return found


@law("17a", "a trained score model has the score of a mixture at every noise level", slow=True)
def trained_score_model() -> list[Measured]:
    """Three modes on the line and in the plane: E‖s − ∇ ln p_σ‖²/E‖∇ ln p_σ‖² at most 2 % at σ = 0.1, 0.3, 1, 3."""
    found = []
    for d in (1, 2):
        data = mixture(d)
        model = zoo.score_model(d, sigma_min=0.05, sigma_max=20.0, hidden=(128, 128), seed=SEED)
        fit(
            model,
            data.sample(20_000, SEED).float(),
            steps=6000,
            batch_size=512,
            optimizer=adam(2e-3, schedule=cosine()),
            seed=SEED,
            quiet=True,
        )
        for sigma in LADDER:
            new = data.sample(5000, SEED + 1, sigma)
            truth = data.score(new, sigma)
            with torch.no_grad():
                off = model.score(new.float(), sigma).double() - truth
            error = float(off.square().mean() / truth.square().mean())
            found.append(at_most(f"d = {d}, σ = {sigma:g}: relative squared error", 0.02, error))
    return found


@law("17b", "explicit and denoising score matching differ by a constant, E λ tr Cov[x₀|x]")
def matching_objectives() -> list[Measured]:
    """By 80-point Gauss-Hermite quadrature on the line for three D, to 1e-8; by 20 000 draws within 4 SE for normals
    in 2 and 16 dimensions, where tr Cov[x₀|x] = Σ v σ²/(v + σ²)."""
    import numpy as np

    found = []
    nodes, masses = (torch.tensor(each, dtype=F64) for each in np.polynomial.hermite_e.hermegauss(80))
    masses = masses / masses.sum()
    data = mixture(1)
    width = data.variances.sqrt()
    clean = (data.means + width * nodes).flatten()
    share = (data.log_weights.exp()[:, None] * masses).flatten()
    for sigma in (0.5, 1.5):
        x0, eps = clean.repeat_interleave(len(nodes))[:, None], nodes.repeat(len(clean))[:, None]
        mass = (share[:, None] * masses).flatten()
        x, level = x0 + sigma * eps, torch.full((len(x0),), sigma, dtype=F64)
        best, truth = data(x, level), data.score(x, sigma)
        gaps = []
        for denoised in (best, 0.4 * x, best + 0.5 * (2 * x).sin()):
            weight = 3.0
            explicit = explicit_loss(score_of(x, denoised, sigma), truth, weight * sigma**4)
            gaps.append(float(mass @ (denoising_loss(x0, denoised, weight) - explicit)))
        found.append(Measured(f"σ = {sigma:g}: constant, 0.4 x", gaps[0], gaps[1], 1e-8))
        found.append(Measured(f"σ = {sigma:g}: constant, D + ½ sin 2x", gaps[0], gaps[2], 1e-8))
    sigma = 0.7
    for d in (2, 16):
        normal = gaussian(d)
        v = normal.variances[0]
        constant = float((v * sigma**2 / (v + sigma**2)).sum())
        x0 = normal.sample(20_000, SEED)
        x = x0 + sigma * Noise.of(SEED + 1, len(x0), dtype=F64).normal((d,))
        level = torch.full((len(x),), sigma, dtype=F64)
        for what, denoised in (("0.4 x", 0.4 * x), ("D + ½ sin 2x", normal(x, level) + 0.5 * (2 * x).sin())):
            explicit = explicit_loss(score_of(x, denoised, sigma), normal.score(x, sigma), sigma**4)
            terms = denoising_loss(x0, denoised, 1.0) - explicit
            se = float(terms.std()) / sqrt(len(terms))
            found.append(Measured(f"d = {d}: constant, {what}", constant, float(terms.mean()), 4 * se))
    return found


@law("17c", "one denoiser by every name: noise, score, velocity, and whatever a network gives")
def names_of_a_denoiser() -> list[Measured]:
    """There and back to 1e-12; score and noise of the exact D against ∇ ln p_σ and −σ ∇ ln p_σ; each output against its
    definition, with ᾱ = 1/(1 + σ²)."""
    found = []
    for kind, make in BOTH.items():
        for d in DIMENSIONS:
            data = make(d)
            sigma = torch.logspace(-2, 2, 60, dtype=F64)
            x = data.sample(60, SEED) + sigma[:, None] * Noise.of(SEED, 60, dtype=F64).normal((d,))
            best, s = data(x, sigma), sigma[:, None]
            score = torch.cat([data.score(x[i : i + 1], float(each)) for i, each in enumerate(sigma)])
            bar = 1 / (1 + s**2)
            noise = -s * score
            defined = {
                "denoised": x - s * noise, "noise": noise, "score": s * score, "flow": noise - (x - s * noise),
                "velocity": bar.sqrt() * noise - (1 - bar).sqrt() * (x - s * noise),
            }  # fmt: skip
            defined["edm"] = -defined["velocity"]
            gaps = {
                "score": score_of(x, best, sigma) - score,
                "of score": of_score(x, score, sigma) - best,
                "noise": noise_of(x, best, sigma) - noise,
                "of noise": of_noise(x, noise, sigma) - best,
                "velocity": velocity_of(x, best, sigma) - defined["flow"],
                "of velocity": of_velocity(x, velocity_of(x, best, sigma), sigma) - best,
            }
            for name, each in PARAMETRISATIONS.items():
                output = each.output(x, best, sigma)
                gaps[f"{name}, D again"] = each.denoised(x, output, sigma) - best
                gaps[f"{name}, output"] = output - defined[name]
            unit = 1 + x.abs().max(1, keepdim=True).values * (1 + 1 / s**2)
            worst = max(gaps, key=lambda name: float((gaps[name] / unit).abs().max()))
            off = float((gaps[worst] / unit).abs().max())
            found.append(Measured(f"{kind}, d = {d}: largest difference ({worst})", 0.0, off, 1e-12))
    scaled = PARAMETRISATIONS["edm"].scale_in(torch.tensor([3.0], dtype=F64))
    return [*found, Measured("c_in at σ = 3: variance of the input", 1.0, float(scaled**2 * 10), 1e-12)]


@law("17d", "the energy of a score is −ln p_σ, and a field that turns has none")
def energies() -> list[Measured]:
    """−∫ s along the way from the origin, to 1e-6; curl 0 to 1e-12 for scores, 1 for a rotation, c for x − c R x."""
    found, sigma = [], 0.5
    for kind, make in BOTH.items():
        for d in DIMENSIONS:
            data = make(d)
            x = data.sample(20, SEED, sigma)
            origin = x.new_zeros(d)
            field = functools.partial(data.score, sigma=sigma)
            energy = path_energy(field, x, origin.expand_as(x), nodes=64)
            truth = data.log_prob(origin[None], sigma) - data.log_prob(x, sigma)
            off = float((energy - truth).abs().max())
            found.append(Measured(f"{kind}, d = {d}: energy, nats", 0.0, off, 1e-6))
            turned = float(curl(_jacobian(field, x)).max())
            found.append(Measured(f"{kind}, d = {d}: curl", 0.0, turned, 1e-12))
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)
    x = torch.randn(5, 2, generator=generator(SEED, "turn"), dtype=F64)
    for c in (0.1, 2.0):
        got = curl(_jacobian(lambda z, c=c: -z + c * z @ turn.T, x))
        found.append(Measured(f"−x + {c:g} R x: curl", c, float(got.max()), 1e-12))
    return found


def _jacobian(field: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, d, d)."""
    each: Any = torch.autograd.functional.jacobian(lambda z: field(z).sum(0), x)
    return each.transpose(0, 1)
