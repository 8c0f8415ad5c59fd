"""Means to bound a critic's slope, as values: a penalty on its loss, a projection after its step, or a norm of layers.

A penalty is a function (score, q, p, noise, clock) -> (n,), in the critic's units, to be added to its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalised

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.penalties import between, slope_gap, squared_slope
from psiphi.parts.clock import Clock, Weight, at

Score = Callable[[Tensor], Tensor]


class Lipschitz:
    """No means at all; each of the others replaces one of these."""

    def penalty(self, score: Score, q: Tensor, p: Tensor, noise: Noise, clock: Clock) -> Tensor | None:
        """(n,), or None."""
        return None

    def after_step(self, critic: nn.Module) -> None:
        """What is done to the critic's weights after each of its steps."""

    def prepared(self, network: nn.Module) -> nn.Module:
        """The network as the critic is to use it."""
        return network


@dataclass(frozen=True)
class clipping(Lipschitz):
    """Every weight within ±bound: K-Lipschitz with K unknown (Arjovsky, Chintala, Bottou, 2017, algorithm 1)."""

    bound: float = 0.01

    @torch.no_grad()
    def after_step(self, critic: nn.Module) -> None:
        torch._foreach_clamp_min_(list(critic.parameters()), -self.bound)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_clamp_max_(list(critic.parameters()), self.bound)  # pyright: ignore[reportPrivateImportUsage]


@dataclass(frozen=True)
class gradient_penalty(Lipschitz):
    """weight · (‖∇f(x̂)‖ − 1)², x̂ on the segment of each pair (Gulrajani et al., 2017, eq. 3)."""

    weight: Weight = 10.0

    def penalty(self, score: Score, q: Tensor, p: Tensor, noise: Noise, clock: Clock) -> Tensor:
        u = noise.split("between").uniform()[: len(q)]
        return at(self.weight, clock) * slope_gap(score, between(q, p, u))


@dataclass(frozen=True)
class r1(Lipschitz):
    """½γ ‖∇f‖² on samples of the reference (Mescheder, Geiger, Nowozin, 2018, eq. 9)."""

    gamma: Weight = 1.0

    def penalty(self, score: Score, q: Tensor, p: Tensor, noise: Noise, clock: Clock) -> Tensor:
        return at(self.gamma, clock) / 2 * squared_slope(score, q)


@dataclass(frozen=True)
class r2(Lipschitz):
    """½γ ‖∇f‖² on generated samples."""

    gamma: Weight = 1.0

    def penalty(self, score: Score, q: Tensor, p: Tensor, noise: Noise, clock: Clock) -> Tensor:
        return at(self.gamma, clock) / 2 * squared_slope(score, p)


@dataclass(frozen=True)
class r1_r2(Lipschitz):
    """½γ (‖∇f(x_q)‖² + ‖∇f(x_p)‖²): both at once (Huang et al., "The GAN is dead", 2024, eq. 4)."""

    gamma: Weight = 1.0

    def penalty(self, score: Score, q: Tensor, p: Tensor, noise: Noise, clock: Clock) -> Tensor:
        of_q, of_p = squared_slope(score, torch.cat([q, p])).split([len(q), len(p)])
        return at(self.gamma, clock) / 2 * (of_q + of_p)


@dataclass(frozen=True)
class spectral_norm(Lipschitz):
    """Every affine or convolutional layer divided by its largest singular value (Miyato et al., 2018, eq. 8)."""

    def prepared(self, network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                normalised(module)
        return network


@dataclass(frozen=True)
class geometric:
    """A weight that goes from `first` to `last` by equal factors over the first `share` of training."""

    first: float
    last: float
    share: float = 1.0

    def __call__(self, clock: Clock) -> float:
        done = min(1.0, clock.step / (self.share * clock.steps))
        return self.first * (self.last / self.first) ** done


MEANS: dict[str, Callable[..., Lipschitz]] = {
    "none": Lipschitz,
    "clip": clipping,
    "gp": gradient_penalty,
    "r1": r1,
    "r2": r2,
    "r1+r2": r1_r2,
    "spectral": spectral_norm,
}


def lipschitz(name: str) -> Lipschitz:
    """The means a name stands for: `none`, `clip:0.01`, `gp:10`, `r1:1`, `r2:1`, `r1+r2:1`, `spectral`.

    `r1+r2:0.2>0.002` is a weight that falls from 0.2 to 0.002 by equal factors over training; so for gp, r1, r2.
    """
    kind, _, rest = str(name).partition(":")
    first, falls, last = rest.partition(">")
    try:
        numbers = [float(each) for each in (first, last) if each]
        if not all(0 < each < inf for each in numbers) or len(numbers) < 2 * bool(falls):
            raise ValueError
        return MEANS[kind](*([geometric(*numbers)] if falls and kind != "clip" else numbers))
    except (KeyError, TypeError, ValueError):
        raise ArgumentError(
            f"no means to bound a critic's slope is called {name!r}; use none, clip:0.01, gp:10, r1:1, r2:1, r1+r2:1, "
            f"r1+r2:0.2>0.002 or spectral, with numbers above 0."
        ) from None
