"""Threats: the sets of changes that an attacker may make to an input. `eps` is in the data's units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.formulas import geometry
from psiphi.formulas.geometry import Box

T = TypeVar("T", bound="_Ball")

__all__ = ["L2", "Linf", "parse"]


@dataclass(frozen=True)
class _Ball:
    """A radius: one for all rows, or one a row, (b,)."""

    eps: float | Tensor

    def __post_init__(self) -> None:
        eps = self.eps
        if not isinstance(eps, Tensor):
            try:
                eps = float(eps)
            except (TypeError, ValueError):
                raise ArgumentError(
                    f"{type(self).__name__} needs a radius, or a tensor with one a row; got {eps!r}."
                ) from None
            object.__setattr__(self, "eps", eps)
        if not (torch.as_tensor(eps) >= 0).all() or not torch.as_tensor(eps).isfinite().all():
            raise ArgumentError(f"{type(self).__name__} needs a finite radius of at least 0; got {eps}.")

    def __repr__(self) -> str:
        if isinstance(self.eps, Tensor) and self.eps.ndim:
            return f"{type(self).__name__}({len(self.eps)} radii)"
        return f"{type(self).__name__}({float(self.eps):g})"

    def expand(self: T, x: Tensor) -> T:
        eps = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device)
        if eps.ndim > 1 or (eps.ndim == 1 and len(eps) != len(x)):
            raise ShapeError(
                f"eps has shape {show(eps.shape)}; one radius or {len(x)}, one a row, are needed."
            )
        return replace(self, eps=eps.expand(len(x)))


@dataclass(frozen=True, repr=False)
class Linf(_Ball):
    """Every coordinate changes by at most eps: ‖v − x‖_∞ ≤ ε."""

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        return self.project(x + geometry.linf_uniform(noise, tuple(x.shape[1:]), self.eps), x, box)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        return geometry.linf_project(v, x, self.eps, box)

    def steepest(self, g: Tensor, v: Tensor, box: Box) -> Tensor:
        return geometry.linf_steepest(g, v, box)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        return geometry.linf_norm(v - x)


@dataclass(frozen=True, repr=False)
class L2(_Ball):
    """The change's Euclidean length is at most eps: ‖v − x‖₂ ≤ ε."""

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        return self.project(x + geometry.l2_uniform(noise, tuple(x.shape[1:]), self.eps), x, box)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        return geometry.l2_project(v, x, self.eps, box)

    def steepest(self, g: Tensor, v: Tensor, box: Box) -> Tensor:
        return geometry.l2_steepest(g, v, box)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        return geometry.l2_norm(v - x)


_NAMES: dict[str, Callable[[float], Linf | L2]] = {"linf": Linf, "l2": L2}


def parse(text: str) -> Linf | L2:
    """A threat from the text of a command line: 'linf:0.2', 'l2:1.5', 'linf:8/255'."""
    name, colon, number = text.strip().partition(":")
    make = _NAMES.get(name.strip().lower())
    try:
        if make is None or not colon:
            raise ValueError
        over, slash, under = number.partition("/")
        return make(float(over) / float(under) if slash else float(over))
    except (ValueError, ZeroDivisionError):
        raise ArgumentError(
            f"no threat can be read from {text!r}; write its name, a colon and a radius of at least 0, "
            f"e.g. linf:0.2 or linf:8/255. Names: {', '.join(_NAMES)}."
        ) from None
