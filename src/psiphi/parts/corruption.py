"""Corruptions x̃ ~ T(x̃|x): callables (x, noise) -> x̃, drawn anew for each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise

Corruption = Callable[[Tensor, Noise], Tensor]


@dataclass(frozen=True)
class Gaussian:
    """x̃ = x + σ ε, σ in the units of the data."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < inf:
            raise ArgumentError(f"Gaussian corruption needs a finite σ > 0; got {self.sigma:g}.")

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        return x + self.sigma * noise.normal(x.shape[1:]).to(x.dtype)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ArgumentError(f"the share of values to corrupt lies between 0 and 1; got {share:g}.")


@dataclass(frozen=True)
class Masking:
    """A share of the values, drawn independently, becomes `value`.

    Source: Vincent et al., "Stacked denoising autoencoders", 2010, section 3.3.
    """

    share: float
    value: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        return x.masked_fill(noise.uniform(x.shape[1:]) < self.share, self.value)


@dataclass(frozen=True)
class SaltAndPepper:
    """A share of the values becomes `low` or `high`, each with probability one half."""

    share: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        u = noise.uniform(x.shape[1:])
        x = x.masked_fill(u < self.share, self.high)
        return x.masked_fill(u < self.share / 2, self.low)


@dataclass(frozen=True)
class Mixture:
    """One of several corruptions for each row, all equally likely."""

    among: tuple[Corruption, ...]

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        choice = noise.split("choice").integers(len(self.among))
        each = torch.stack([corrupt(x, noise.split(f"{i}")) for i, corrupt in enumerate(self.among)])
        return each[choice.to(x.device), torch.arange(len(x), device=x.device)]


KINDS: dict[str, Callable[..., Corruption]] = {
    "gaussian": Gaussian,
    "masking": Masking,
    "salt_and_pepper": SaltAndPepper,
}


def corruption(given: str | Corruption) -> Corruption:
    """The corruption a text stands for: `gaussian:0.3`, `masking:0.25`, `salt_and_pepper:0.1`, or several with `+`.

    A callable (x, noise) -> x̃ is taken as it is.
    """
    if callable(given):
        return given
    parts = str(given).split("+")
    if len(parts) > 1:
        return Mixture(tuple(corruption(part.strip()) for part in parts))
    kind, _, rest = given.partition(":")
    try:
        numbers = [float(number) for number in rest.split(",")]
    except ValueError:
        numbers = []
    if kind not in KINDS or not numbers or len(numbers) > (1, 2, 3)[list(KINDS).index(kind)]:
        raise ArgumentError(
            f"no corruption is called {given!r}; write e.g. gaussian:0.3, masking:0.25, salt_and_pepper:0.1, a sum "
            f"of them such as gaussian:0.3+masking:0.25, or pass a function (x, noise) -> x̃."
        )
    return KINDS[kind](*numbers)
