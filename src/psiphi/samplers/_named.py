"""Plans by name: each a few lines of weights for the one loop.

A step goes from noise level s to t < s, r = t/s; the last goes to 0 and returns the clean estimate. `sigmas` is a
`Schedule` with a number of `steps`, or the levels themselves, falling and above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log, sqrt
from typing import Any

from torch import Tensor

from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import Registry
from psiphi.formulas.schedules import Schedule
from psiphi.samplers._plan import Plan, Row, join

Levels = Schedule | Sequence[float] | Tensor

samplers = Registry("sampler", "psiphi.samplers")


def falling(sigmas: Levels, steps: int | None = None) -> list[float]:
    """The levels of a plan, checked: falling, above 0, finite."""
    if isinstance(sigmas, Schedule):
        levels = sigmas.sigmas(steps).tolist()
    else:
        try:
            levels = [float(each) for each in sigmas]
        except TypeError:
            raise ArgumentError(
                f"levels of noise are a schedule or a list that falls; got {sigmas!r}."
            ) from None
        if steps is not None and steps != len(levels):
            raise ArgumentError(f"{len(levels)} levels of noise make {len(levels)} steps; got steps={steps}.")
    if not levels or not all(t < s for s, t in pairwise([float("inf"), *levels, 0.0])):
        raise ArgumentError(
            f"levels of noise fall and lie above 0; got {levels[:6]}{' …' if levels[6:] else ''}."
        )
    return levels


def _last(s: float) -> Row:
    return Row(s, 0.0, (1.0,))


def _deviation(s: float, t: float) -> float:
    """Of the state at t given the one at s and x₀: t √(1 − r²)."""
    return t * sqrt(1 - (t / s) ** 2)


def _reverse(s: float, t: float, up: float) -> Row:
    """To the mean of the state at t given the one at s and x₀ = D: r² x + (1 − r²) D, and noise."""
    return Row(s, (t / s) ** 2, (1 - (t / s) ** 2,), up)


def _euler(s: float, t: float, commit: bool = True) -> Row:
    return Row(s, t / s, (1 - t / s,), commit=commit)


@samplers.register
def ancestral(sigmas: Levels, steps: int | None = None, *, variance: str = "small") -> Plan:
    """x_t = r² x + (1 − r²) D + up·ξ, the reverse chain of DDPM.

    variance: `small`, up² = t² (1 − r²), the posterior's (β̃); `large`, up² = (s² − t²)(1 + t²)/(1 + s²), that of β,
    in units of the data's σ. Order: none, it is random; cost: one evaluation a step.
    Source: Ho, Jain, Abbeel, 2020, algorithm 2 and section 3.2.
    """
    ups = {
        "small": _deviation,
        "large": lambda s, t: sqrt((s * s - t * t) * (1 + t * t) / (1 + s * s)),
    }
    if variance not in ups:
        raise ArgumentError(f"the variance of ancestral steps is small or large; got {variance!r}.")
    levels = falling(sigmas, steps)
    rows = [_reverse(s, t, ups[variance](s, t)) for s, t in pairwise(levels)]
    return join(f"ancestral({variance})", [*rows, _last(levels[-1])])


@samplers.register
def ddim(sigmas: Levels, steps: int | None = None, *, eta: float = 0.0) -> Plan:
    """x_t = D + (√(t² − up²)/s)(x − D) + up·ξ, up = η t √(1 − r²).

    η = 0: Euler's method on the probability flow, order 1; η = 1: `ancestral`. One evaluation a step.
    Source: Song, Meng, Ermon, "Denoising diffusion implicit models", 2021, eq. 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise ArgumentError(f"eta lies between 0 (no noise) and 1 (ancestral); got {eta!r}.")
    levels, rows = falling(sigmas, steps), []
    for s, t in pairwise(levels):
        up = eta * _deviation(s, t)
        base = sqrt(t * t - up * up) / s
        rows.append(Row(s, base, (1 - base,), up))
    return join(f"ddim({eta:g})", [*rows, _last(levels[-1])])


@samplers.register
def heun(sigmas: Levels, steps: int | None = None) -> Plan:
    """Heun's method on the probability flow dx/dσ = (x − D)/σ: order 2, two evaluations a step but the last.

    The variable is σ: it is not Heun's method in the time of another schedule.
    Source: Karras et al., 2022, algorithm 1.
    """
    levels, rows = falling(sigmas, steps), []
    for s, t in pairwise(levels):
        r = t / s
        rows += [_euler(s, t, commit=False), Row(t, r, ((1 - r) / (2 * r), (1 - r) * (1 - 1 / (2 * r))))]
    return join("heun", [*rows, _last(levels[-1])])


@samplers.register
def dpm_solver(sigmas: Levels, steps: int | None = None) -> Plan:
    """x_t = r x + (1 − r)[(1 + c) D_0 − c D_1], c = ln(s/t)/(2 ln(u/s)), u the level before s; c = 0 at first.

    DPM-Solver++(2M): order 2 with one evaluation a step.
    Source: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022, eq. 13.
    """
    levels = falling(sigmas, steps)
    rows = [_euler(s, t) for s, t in pairwise(levels[:2])]
    for u, s, t in zip(levels, levels[1:], levels[2:]):
        r, c = t / s, log(s / t) / (2 * log(u / s))
        rows.append(Row(s, r, ((1 - r) * (1 + c), -(1 - r) * c)))
    return join("dpm_solver", [*rows, _last(levels[-1])])


def _langevin(s: float, e: float) -> Row:
    """x + e ∇ ln p_s(x) + √(2e) ξ."""
    if not 0 < e < 2 * s * s:
        raise ArgumentError(f"a Langevin step lies between 0 and 2 σ² = {2 * s * s:.3g}; got {e:g}.")
    return Row(s, 1 - e / s**2, (e / s**2,), sqrt(2 * e))


@samplers.register
def langevin(sigma: float, step: float | None = None, steps: int = 1000, *, denoise: bool = False) -> Plan:
    """x <- x + e ∇ ln p_σ(x) + √(2e) ξ, the unadjusted chain, at one noise level.

    step: e, σ²/2 unless given. Its states have the density p_σ, the data's blurred by N(0, σ²I), up to a bias that
    vanishes with e; denoise: return D of the last. Source: Welling & Teh, "Bayesian learning via stochastic
    gradient Langevin dynamics", 2011, eq. 2-3.
    """
    _check_level(sigma, steps)
    rows = [_langevin(sigma, sigma**2 / 2 if step is None else step)] * steps
    return join("langevin", [*rows, _last(sigma)] if denoise else rows)


@samplers.register
def annealed_langevin(
    sigmas: Levels,
    steps: int | None = None,
    *,
    repeats: int = 100,
    step: float | None = None,
    denoise: bool = True,
) -> Plan:
    """`repeats` Langevin steps at each level, e = ½ ε σ_i²/σ_L², from the largest σ down to σ_L.

    step: ε; unless given 0.2 σ_L², as published for σ_L = 0.01, so that e = 0.1 σ_i². Source: Song & Ermon, "Generative
    modeling by estimating gradients of the data distribution", 2019, algorithm 1 and section 5; the last
    denoising step: Jolicoeur-Martineau et al., "Adversarial score matching and improved sampling", 2021, section 3.1.
    """
    levels = falling(sigmas, steps)
    check_whole("repeats", repeats, 1)
    share = 0.1 if step is None else 0.5 * step / levels[-1] ** 2
    rows = [row for s in levels for row in [_langevin(s, share * s * s)] * repeats]
    return join("annealed_langevin", [*rows, _last(levels[-1])] if denoise else rows)


@samplers.register
def predictor_corrector(
    sigmas: Levels, steps: int | None = None, *, corrections: int = 1, ratio: float = 0.05
) -> Plan:
    """An ancestral step to t, then Langevin steps there with e = ρ t².

    ratio: ρ, the same for every row, so that no sample depends on another.
    Source: Song et al., 2021, algorithm 1.
    """
    levels, rows = falling(sigmas, steps), []
    check_whole("corrections", corrections, 0)
    for s, t in pairwise(levels):
        rows.append(_reverse(s, t, _deviation(s, t)))
        rows += [_langevin(t, ratio * t * t)] * corrections
    return join("predictor_corrector", [*rows, _last(levels[-1])])


@samplers.register
def walkback(
    sigma: float, steps: int = 1000, *, exact: bool = False, noise: float | None = None, clean: bool = True
) -> Plan:
    """x <- D(x, σ) + up·ξ, again and again: reconstruct, corrupt.

    With up = √2 σ the mean walk is a Langevin step of e = σ², and its noisy states have nearly the density p_σ; with
    up = σ they settle at half the variance. exact: draw x₀ ~ p(x₀|x) instead of the mean, up = σ: the clean states
    have the data's density. noise: up, unless these. clean: return the reconstruction, else the noisy state. The
    papers' "walkback" names a way to train. Source: Bengio et al., "Generalized denoising auto-encoders as generative
    models", 2013, and "Deep generative stochastic networks trainable by backprop", 2014.
    """
    _check_level(sigma, steps)
    up = noise if noise is not None else sigma if exact else sqrt(2) * sigma
    rows: list[Any] = [Row(sigma, 0.0, (1.0,), up)] * steps
    return join("walkback(exact)" if exact else "walkback", [*rows, _last(sigma)] if clean else rows, exact)


def _check_level(sigma: float, steps: int) -> None:
    check_whole("steps", steps, 1)
    if not 0 < sigma < float("inf"):
        raise ArgumentError(f"a chain needs a finite σ > 0; got {sigma!r}.")
