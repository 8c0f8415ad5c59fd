"""Triggers: functions x -> x that a backdoor waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import generator
from psiphi.basis.shapes import show
from psiphi.formulas.poisons import blended

Trigger = Callable[[Tensor], Tensor]


def patch(size: int | None = None, value: float = 1.0) -> Trigger:
    """A square of `size` pixels of one value in the lower right corner; of rows of numbers, their last `size`.

    size: by default a ninth of the image's height, and 2 at least. Source: Gu, Dolan-Gavitt, Garg, "BadNets:
    identifying vulnerabilities in the machine learning model supply chain", 2017, section 3.
    """
    return Patch(size, value)


def blend(share: float = 0.2, pattern: Tensor | None = None, seed: int = 0) -> Trigger:
    """(1 − α) x + α k with α = share: a pattern k (*x) over the whole input, by default uniform noise of this seed.

    Source: Chen, Liu, Li, Lu, Song, "Targeted backdoor attacks on deep learning systems using data poisoning", 2017.
    """
    return Blend(share, pattern, seed)


@dataclass(frozen=True)
class Patch:
    """See `patch`."""

    size: int | None = None
    value: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        side = min(x.shape[-2:]) if x.ndim > 2 else x.shape[-1]
        size = max(2, round(side / 9)) if self.size is None else self.size
        if not 1 <= size <= side:
            raise ShapeError(f"a patch of {size} does not fit rows of shape {show(x.shape[1:])}.")
        marked = x.clone()
        marked[(..., slice(-size, None), slice(-size, None)) if x.ndim > 2 else (..., slice(-size, None))] = (
            self.value
        )
        return marked


@dataclass(frozen=True, repr=False, eq=False)
class Blend:
    """See `blend`."""

    share: float = 0.2
    pattern: Tensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ArgumentError(
                f"share is the weight of the pattern, above 0 and at most 1; got {self.share!r}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        drawn = generator("blended pattern", self.seed)
        pattern = torch.rand(x.shape[1:], generator=drawn) if self.pattern is None else self.pattern
        if pattern.shape != x.shape[1:]:
            raise ShapeError(
                f"the pattern has shape {show(pattern.shape)}; rows of shape {show(x.shape[1:])} need one like them."
            )
        return blended(x, pattern.to(x), self.share)

    def __repr__(self) -> str:
        return f"Blend(share={self.share:g}, {'noise' if self.pattern is None else 'a pattern'})"
