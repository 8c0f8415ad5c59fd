"""Balls of a norm. `eps` is in the data's units; without it, `L2()`, there is no limit but the data's box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from psiphi.attacks.threats._base import OfInputs, Sized
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import geometry, halfspaces, projections
from psiphi.formulas.geometry import Box


class _Norm(NamedTuple):
    """What a norm brings to a ball."""

    size: Callable[[Tensor], Tensor]
    dual: Callable[[Tensor], Tensor]
    uniform: Callable[..., Tensor]
    project: Callable[..., Tensor]
    steepest: Callable[..., Tensor]
    reach: Callable[[Tensor, Tensor, Tensor, Box], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Ball(OfInputs, Sized):
    """The changes of a norm of at most eps."""

    norm: ClassVar[str]
    _norm: ClassVar[_Norm]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.radius})"

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

    norm: ClassVar[str] = "Linf"
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

    norm: ClassVar[str] = "L2"
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

    norm: ClassVar[str] = "L1"
    _norm: ClassVar[_Norm] = _Norm(
        geometry.l1_norm,
        geometry.linf_norm,
        geometry.l1_uniform,
        projections.l1_project,
        geometry.l1_steepest,
        halfspaces.l1_reach,
    )
