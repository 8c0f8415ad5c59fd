"""Threats: the sets of changes that an attacker may make to an input. `eps` is in the data's units.

Without a radius, `L2()`, there is no limit but the data's box: what minimum-norm attacks start from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.formulas import geometry, halfspaces, projections
from psiphi.formulas.geometry import Box

T = TypeVar("T", bound="_Ball")

__all__ = ["L1", "L2", "Linf", "parse"]


class _Norm(NamedTuple):
    """What a norm brings to a ball."""

    size: Callable[[Tensor], Tensor]
    dual: Callable[[Tensor], Tensor]
    uniform: Callable[..., Tensor]
    project: Callable[..., Tensor]
    steepest: Callable[..., Tensor]
    reach: Callable[[Tensor, Tensor, Tensor, Box], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Ball:
    """A radius: one for all rows, or one a row, (b,); infinite if not given."""

    eps: float | Tensor = inf
    _norm: ClassVar[_Norm]

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
        if not (torch.as_tensor(eps) >= 0).all():
            raise ArgumentError(f"{type(self).__name__} needs a radius of at least 0; got {eps}.")

    def __repr__(self) -> str:
        if isinstance(self.eps, Tensor) and self.eps.ndim:
            return f"{type(self).__name__}({len(self.eps)} radii)"
        return f"{type(self).__name__}({'' if self.eps == inf else f'{float(self.eps):g}'})"

    def expand(self: T, x: Tensor) -> T:
        eps = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device)
        if eps.ndim > 1 or (eps.ndim == 1 and len(eps) != len(x)):
            raise ShapeError(
                f"eps has shape {show(eps.shape)}; one radius or {len(x)}, one a row, are needed."
            )
        return replace(self, eps=eps.expand(len(x)))

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """A uniform draw from the ball, brought into the box, (b, *x)."""
        if not torch.as_tensor(self.eps).isfinite().all():
            name = type(self).__name__
            raise ArgumentError(
                f"{name}() has no radius, so there is no random point to start from: give one, e.g. "
                f"{name}(0.5), or start at the input (random_start=False)."
            )
        return self.project(x + self._norm.uniform(noise, tuple(x.shape[1:]), self.eps), x, box)

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        """The nearest point to `v` of ball ∩ box."""
        return self._norm.project(v, x, self.eps, box)

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """The unit step from `v` that raises a score of gradient `g` most.

        `length`, a number or (b,), is that of the step to come: L1 spends on further coordinates what a wall
        leaves of it.
        """
        return self._norm.steepest(g, v, box, length)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """‖v − x‖, (b,)."""
        return self._norm.size(v - x)

    def dual(self, g: Tensor) -> Tensor:
        """max ⟨g, d⟩ over ‖d‖ ≤ 1, (b,)."""
        return self._norm.dual(g)

    def reach(self, a: Tensor, b: Tensor, x: Tensor, box: Box) -> tuple[Tensor, Tensor]:
        """The least δ with ⟨a, δ⟩ ≥ b and x + δ in the box, whatever eps; where there is none, the corner
        that comes nearest and False, (b,)."""
        return self._norm.reach(a, b, x, box)


@dataclass(frozen=True, repr=False)
class Linf(_Ball):
    """Every coordinate changes by at most eps: ‖v − x‖_∞ ≤ ε."""

    _norm: ClassVar[_Norm] = _Norm(
        geometry.linf_norm,
        geometry.l1_norm,
        geometry.linf_uniform,
        projections.linf_project,
        geometry.linf_steepest,
        halfspaces.linf_reach,
    )


@dataclass(frozen=True, repr=False)
class L2(_Ball):
    """The change's Euclidean length is at most eps: ‖v − x‖₂ ≤ ε."""

    _norm: ClassVar[_Norm] = _Norm(
        geometry.l2_norm,
        geometry.l2_norm,
        geometry.l2_uniform,
        projections.l2_project,
        geometry.l2_steepest,
        halfspaces.l2_reach,
    )


@dataclass(frozen=True, repr=False)
class L1(_Ball):
    """The coordinates' changes add up to at most eps: ‖v − x‖₁ ≤ ε."""

    _norm: ClassVar[_Norm] = _Norm(
        geometry.l1_norm,
        geometry.linf_norm,
        geometry.l1_uniform,
        projections.l1_project,
        geometry.l1_steepest,
        halfspaces.l1_reach,
    )


_NAMES: dict[str, Callable[..., Linf | L2 | L1]] = {"linf": Linf, "l2": L2, "l1": L1}


def parse(text: str) -> Linf | L2 | L1:
    """A threat from the text of a command line: 'linf:0.2', 'l2:1.5', 'l1:12', 'linf:8/255'; 'l2' has no limit."""
    name, colon, number = text.strip().partition(":")
    make = _NAMES.get(name.strip().lower())
    try:
        if make is None:
            raise ValueError
        if not colon:
            return make()
        over, slash, under = number.partition("/")
        return make(float(over) / float(under) if slash else float(over))
    except (ValueError, ZeroDivisionError):
        raise ArgumentError(
            f"no threat can be read from {text!r}; write its name, a colon and a radius of at least 0, "
            f"e.g. linf:0.2 or linf:8/255, or the name alone for no limit. Names: {', '.join(_NAMES)}."
        ) from None
