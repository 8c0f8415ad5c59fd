"""Noise schedules: u in [0, 1] -> σ in [σ_min, σ_max], rising, in units of the data's σ.

σ is the noise of variance-exploding coordinates x₀ + σ ε; a variance-preserving schedule ᾱ is σ² = (1−ᾱ)/ᾱ.
A schedule gives the levels of a sampler, `sigmas(n)`, falling and without the 0 that the last step goes to, and the
σ that training draws, `draw(u)` for u ~ U(0, 1).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import cos, exp, inf, log, pi
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.errors import ArgumentError

LARGEST_BETA = 0.999
LEFT = 0.1  # a share of the data in the last state from which on the prior is called wrong
FINEST = 0.1  # a smallest σ above which detail of the data is called missed


class ScheduleWarning(UserWarning):
    """Levels of noise that cannot give good samples."""


Values = Float[Tensor, " n"]


@dataclass(frozen=True)
class Schedule:
    """σ(u) and its inverse; levels: the σ_1 < … < σ_T of a discrete one."""

    name: str
    at: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    levels: tuple[float, ...] = ()
    drawn: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min <= self.sigma_max < float("inf"):
            raise ArgumentError(
                f"the σ of a schedule are above 0 and finite; {self.name} runs from {self.sigma_min:g} to "
                f"{self.sigma_max:g}."
            )

    @cached_property
    def sigma_min(self) -> float:
        return self.levels[0] if self.levels else float(self.at(_time([0.0])))

    @cached_property
    def sigma_max(self) -> float:
        return self.levels[-1] if self.levels else float(self.at(_time([1.0])))

    @property
    def steps(self) -> int | None:
        """T of a discrete schedule."""
        return len(self.levels) or None

    @cached_property
    def _table(self) -> Tensor:
        return _time(self.levels)

    def _place(self, u: Tensor) -> Tensor:
        """Which level, from 0; u = i/T is the i-th, rounding errors aside."""
        return (u * len(self.levels) - 1e-3).ceil().long().clamp(1, len(self.levels)) - 1

    def __call__(self, u: Tensor) -> Tensor:
        """σ of u in [0, 1]; the nearest level from above where the schedule is discrete: u = i/T is σ_i."""
        return self._table.to(u)[self._place(u)] if self.levels else self.at(u)

    def u(self, sigma: Tensor) -> Tensor:
        """u of σ, the inverse of a call (on the levels of a discrete schedule)."""
        if not self.levels:
            return self.inverse(sigma)
        levels = self._table.to(sigma)
        middles = (levels[1:] * levels[:-1]).sqrt()
        return (torch.searchsorted(middles, sigma.contiguous()) + 1).to(sigma.dtype) / len(levels)

    def draw(self, u: Tensor) -> Tensor:
        """The σ that training uses, of u ~ U(0, 1)."""
        return self(u) if self.drawn is None else self.drawn(u)

    def rate(self, u: Tensor) -> Tensor:
        """dσ/du of the σ that `draw` gives; of a discrete schedule ½ T σ_i³ (σ_{i−1}⁻² − σ_i⁻²), σ_0⁻² = 2 σ_1⁻².

        With it E_u σ⁻³ (dσ/du) ‖x₀ − D‖² is the variational bound's integral, or sum.
        """
        if self.levels:
            precision = self._table.pow(-2)
            gained = torch.cat([2 * precision[:1], precision[:-1]]) - precision
            return 0.5 * len(self.levels) * gained.to(u)[self._place(u)] * self(u) ** 3
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            (rate,) = torch.autograd.grad(self.draw(u).sum(), u)
        return rate

    def sigmas(self, steps: int | None = None) -> Values:
        """`steps` levels from σ_max down to σ_min, float64; all T of a discrete schedule unless given.

        Raises `ArgumentError` for more steps than levels.
        """
        steps = self.steps if steps is None else steps
        if not isinstance(steps, Integral) or steps < 1:
            raise ArgumentError(f"{self.name} needs a whole number of steps, at least 1; got {steps!r}.")
        if self.levels:
            if steps > len(self.levels):
                raise ArgumentError(
                    f"{self.name} has {len(self.levels)} levels of noise; {steps} steps were asked for."
                )
            places = [round(i * len(self.levels) / steps) for i in range(steps, 0, -1)]
            return _time([self.levels[i - 1] for i in places])
        if steps == 1:
            return _time([self.sigma_max])
        return self.at(torch.linspace(1, 0, steps, dtype=torch.float64, device="cpu"))

    def even(self, steps: int) -> Values:
        """`steps` levels from σ_max down to σ_min, evenly in ln σ, float64; the one level where they are equal."""
        if self.sigma_min == self.sigma_max:
            return _time([self.sigma_max])
        return exponential(self.sigma_min, self.sigma_max).sigmas(steps)

    def check(self, parametrisation: str | None = None) -> None:
        """Warn of a prior that is not N(0, I), of detail below σ_min, of an end where the network cannot work."""
        left = (1 + self.sigma_max**2) ** -0.5
        if left > LEFT:
            self._warn(
                f"its last state still holds {left:.0%} of the data (σ_max = {self.sigma_max:.3g} times the data's σ), "
                f"so the prior it starts from is wrong: raise σ_max to 20 or more"
            )
        if self.sigma_min > FINEST:
            self._warn(
                f"its σ_min = {self.sigma_min:.3g} times the data's σ, so detail finer than that is lost: lower σ_min"
            )
        if parametrisation in ("noise", "score") and self.sigma_max > 1000:
            self._warn(
                f"at σ_max = {self.sigma_max:.3g} a network that predicts {parametrisation} has its error multiplied "
                f"by as much: use parametrisation='edm' or 'velocity', or lower σ_max"
            )
        if parametrisation == "denoised" and self.sigma_min < 0.01:
            self._warn(
                f"at σ_min = {self.sigma_min:.3g} the score of a network that predicts the clean data has its error "
                f"divided by σ²: use parametrisation='edm' or 'noise', or raise σ_min"
            )

    def _warn(self, why: str) -> None:
        warnings.warn(f"schedule {self.name}: {why}.", ScheduleWarning, stacklevel=6)

    def __repr__(self) -> str:
        return f"{self.name} (σ from {self.sigma_min:.3g} to {self.sigma_max:.3g})"


def _of_betas(name: str, betas: Sequence[float]) -> Schedule:
    """The discrete schedule ᾱ_i = Π_{j ≤ i} (1 − β_j), σ_i² = (1 − ᾱ_i)/ᾱ_i."""
    squared, levels = 0.0, []
    for beta in betas:
        squared = (squared + beta) / (1 - beta)  # no difference of nearly equal numbers
        levels.append(squared**0.5)
    return Schedule(name, torch.zeros_like, torch.zeros_like, tuple(levels))


SLOW, FAST = 0.1, 9.95  # ∫β of the linear schedule of 1000 steps: 0.1 u + 9.95 u²


def linear(steps: int | None = 1000) -> Schedule:
    """Variance preserving: β from 1e-4 to 0.02 in a thousand steps; else ᾱ_i = exp(−(0.1 u + 9.95 u²)), u = i/T.

    steps: T; None: u runs on in [1e-3, 1]. Source: Ho, Jain, Abbeel, 2020, section 4; Song et al., "Score-based
    generative modeling through stochastic differential equations", 2021, eq. 33.
    """
    if steps == 1000:
        return _of_betas("linear:1000", [1e-4 + i * (0.02 - 1e-4) / 999 for i in range(1000)])

    def squared(u: Tensor) -> Tensor:
        return (SLOW * u + FAST * u**2).expm1()

    if steps is not None:
        u = _time([i / steps for i in range(1, _whole(steps) + 1)])
        return Schedule(f"linear:{steps}", squared, squared, tuple(squared(u).sqrt().tolist()))
    first = 1e-3

    def inverse(sigma: Tensor) -> Tensor:
        u = ((SLOW**2 + 4 * FAST * sigma.square().log1p()).sqrt() - SLOW) / (2 * FAST)
        return (u - first) / (1 - first)

    return Schedule("linear", lambda u: squared(first + (1 - first) * u).sqrt(), inverse)


def cosine(steps: int = 1000) -> Schedule:
    """Variance preserving: ᾱ(u) ∝ cos²(½π (u + 0.008)/1.008), every β at most 0.999.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, eq. 17.
    """
    bars = [cos(0.5 * pi * (i / _whole(steps) + 0.008) / 1.008) ** 2 for i in range(steps + 1)]
    return _of_betas(
        f"cosine:{steps}", [min(1 - after / before, LARGEST_BETA) for before, after in pairwise(bars)]
    )


def exponential(sigma_min: float = 0.01, sigma_max: float = 50.0, steps: int | None = None) -> Schedule:
    """Variance exploding: σ = σ_min (σ_max/σ_min)^u, u = (i − 1)/(T − 1) on T levels.

    Source: Song et al., 2021, eq. 30; a ladder of T levels: Song & Ermon, 2019, section 4.2.
    """
    _range(sigma_min, sigma_max)
    ratio = log(sigma_max / sigma_min)
    name = f"exponential:{sigma_min:g},{sigma_max:g}" + (f",{steps}" if steps else "")
    levels: tuple[float, ...] = ()
    if steps is not None:
        gaps = max(1, _whole(steps) - 1)
        levels = tuple(sigma_max * exp(-ratio * (steps - i) / gaps) for i in range(1, steps + 1))
    return Schedule(
        name, lambda u: sigma_min * (ratio * u).exp(), lambda s: (s / sigma_min).log() / ratio, levels
    )


def karras(
    sigma_min: float = 0.004, sigma_max: float = 160.0, rho: float = 7.0, mean: float = -0.5, std: float = 1.2
) -> Schedule:
    """σ^{1/ρ} linear in u; training draws ln σ ~ N(mean, std²).

    The published 0.002, 80 and mean −1.2 are for data with σ 0.5; these are the same in units of the data's σ.
    Source: Karras et al., 2022, eq. 5 and table 1.
    """
    _range(sigma_min, sigma_max)
    if not (0.1 <= rho < inf and 0 < std < inf and abs(mean) < inf):
        raise ArgumentError(
            f"Karras' levels need ρ of at least 0.1 and draws of a finite mean and σ; got {rho:g}, {mean:g}, {std:g}."
        )
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return Schedule(
        f"karras:{sigma_min:g},{sigma_max:g}",
        lambda u: (low + u * (high - low)) ** rho,
        lambda s: (s ** (1 / rho) - low) / (high - low),
        drawn=lambda u: (mean + std * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))).exp(),
    )


def flow(first: float = 0.001, last: float = 0.999) -> Schedule:
    """Rectified flow x_t = (1 − t) x₀ + t ε: σ = t/(1 − t), t from `first` to `last`, so that σ_max is finite.

    Source: Liu, Gong, Liu, 2023, eq. 1.
    """
    if not 0 < first < last < 1:
        raise ArgumentError(f"the time of a flow runs inside (0, 1); got {first:g} to {last:g}.")

    def at(u: Tensor) -> Tensor:
        t = first + (last - first) * u
        return t / (1 - t)

    return Schedule("flow", at, lambda s: (s / (1 + s) - first) / (last - first))


def ladder(sigmas: Sequence[float]) -> Schedule:
    """The levels that are given, in any order."""
    levels = tuple(sorted(float(s) for s in sigmas))
    if not levels:
        raise ArgumentError("a ladder needs at least one σ.")
    return Schedule(f"ladder of {len(levels)}", torch.zeros_like, torch.zeros_like, levels)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear, "cosine": cosine, "exponential": exponential, "karras": karras, "flow": flow,
}  # fmt: skip


def schedule(given: str | Schedule) -> Schedule:
    """The schedule of a text: `linear:1000`, `linear`, `cosine:100`, `exponential:0.01,50`, `karras`, `flow`."""
    if isinstance(given, Schedule):
        return given
    kind, _, rest = str(given).partition(":")
    try:
        numbers = [float(each) for each in rest.split(",")] if rest else []
        if kind == "linear" and not numbers:
            return linear(None)
        whole = 0 if kind in ("linear", "cosine") else 2 if kind == "exponential" else None
        return SCHEDULES[kind](*(_whole(n) if i == whole else n for i, n in enumerate(numbers)))
    except ArgumentError:
        raise
    except (KeyError, ValueError, TypeError):
        raise ArgumentError(
            f"no schedule is called {given!r}; write e.g. linear:1000, linear, cosine:1000, exponential:0.01,50, "
            f"karras:0.004,160 or flow, or pass one of psiphi.samplers.schedules."
        ) from None


def _time(values: Sequence[float]) -> Tensor:
    """float64 on the CPU, wherever models are being built."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _whole(steps: Any) -> int:
    if not 1 <= steps < inf or steps != int(steps):
        raise ArgumentError(f"a schedule has a whole number of steps, at least 1; got {steps!r}.")
    return int(steps)


def _range(low: float, high: float) -> None:
    if not 0 < low < high < float("inf"):
        raise ArgumentError(f"a schedule runs between 0 < σ_min < σ_max; got {low:g} and {high:g}.")
