"""Ascent that may leave the threat, at a price that rises, and returns to it at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs
from psiphi.attacks.searches import _walks
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import ascent_step, per_row
from psiphi.formulas.geometry import Box, l2_norm

_NEAR = 1e-2  # the first step's length, of the box's width: at x itself a distance has no slope


@dataclass(frozen=True)
class _Priced:
    x: Tensor
    v: Tensor
    threat: Any
    box: Box
    step: Tensor
    told: Tensor


@dataclass(frozen=True)
class Penalty:
    """v ← v + α_k u/s, u = ∇(score − λ_k max(0, d(v, x) − ε)) of length 1, s = d(v + h u, v)/h; at last Π(v).

    A step is α_k long as the threat measures it: α falls from `step` to a tenth of it and λ rises from a tenth of
    `price` to it, by equal factors. The walk begins near x, and the points beyond ε on its way are no results.

    steps  of the walk
    step   α in the threat's units; None is ε
    price  λ, what a unit of distance beyond ε costs of the score, at the end
    probe  h, in the data's units

    Source: Laidlaw, Singla, Feizi, "Perceptual adversarial robustness: defense against unseen threat models", 2021,
    appendix A.3 (the fast Lagrangian attack; ours ends with a projection).
    """

    steps: int = 40
    step: float | None = None
    price: float = 10.0
    probe: float = 0.1

    needs: ClassVar[Needs] = "gradient"
    uses: ClassVar = ("slope",)
    roams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        for name in ("step", "price", "probe"):
            value = getattr(self, name)
            if not (name == "step" and value is None) and not 0 < value < float("inf"):
                raise ArgumentError(f"{name} is a finite number above 0; got {value!r}.")

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Priced:
        if not threat.eps.isfinite().all():
            raise ArgumentError(f"{threat!r} has no radius beyond which a distance could cost: give eps.")
        step = threat.eps if self.step is None else x.new_full((len(x),), self.step)
        v = box.clamp(x + _NEAR * (box.hi - box.lo) * noise.normal(tuple(x.shape[1:])))
        return _Priced(x, v, threat, box, step, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def ask(self, s: _Priced, room: int) -> tuple[Tensor, Tensor]:
        return _walks.each(s.v)

    def tell(self, s: _Priced, points: Tensor, owner: Tensor, answer: Answer) -> _Priced:
        assert answer.gradient is not None
        share = s.told.to(points) / self.steps
        price = self.price * 0.1 ** (1 - share) * (s.threat.distance(s.v, s.x) > s.threat.eps)
        uphill = answer.gradient
        if (price > 0).any():
            uphill = uphill - per_row(price, s.v) * s.threat.slope(s.v, s.x)
        size = l2_norm(uphill)
        unit = uphill / per_row(size.where(size > 0, 1), uphill)
        pace = s.threat.distance(s.v + self.probe * unit, s.v) / self.probe
        length = s.step * 0.1**share / (pace + 1e-4)
        v, told = s.box.clamp(ascent_step(s.v, unit, length)), s.told + 1
        if len(last := (told == self.steps).nonzero().squeeze(1)):
            threat = replace(s.threat, eps=s.threat.eps[last])
            v[last] = threat.project(v[last], s.x[last], s.box)
        return replace(s, v=v, told=told)

    def done(self, s: _Priced) -> Tensor:
        return s.told >= self.steps
