"""Laws of the attacks that look for the least change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psiphi.attacks import L1, L2, Attack, Linf
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import generator
from psiphi.basis.registry import attacks
from psiphi.laws._law import Measured, at_most, law

_BALLS = {"linf": Linf, "l2": L2, "l1": L1}
_FEWER = {"carlini_wagner": {"steps": 24, "bisections": 2}, "ddn": {"steps": 40}, "fab": {"steps": 8}}
_INTERIOR_ONLY = {"deepfool"}
_SLACK = 1.05


class _Case(NamedTuple):
    """Rows of a linear classifier z = W x + c, W (K, d)."""

    name: str
    w: Tensor
    c: Tensor
    x: Tensor

    @property
    def y(self) -> Tensor:
        return self(self.x).argmax(1)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.w.T + self.c

    def least(self, norm: str) -> Tensor:
        """The least norm of a change within [0, 1] that makes another class at least as likely, (n,); NaN for none."""
        logits, y = self(self.x), self.y
        best = torch.full((len(y),), torch.inf, dtype=torch.float64)
        for row, own in enumerate(y.tolist()):
            for other in range(len(self.c)):
                if other != own:
                    a, b = self.w[other] - self.w[own], logits[row, own] - logits[row, other]
                    best[row] = min(best[row], _LEAST[norm](a, b, self.x[row]))
        return torch.where(best.isinf(), torch.nan, best)


def _by_bisection(a: Tensor, b: Tensor, x: Tensor, direction: Tensor) -> Tensor:
    """δ = clip(t · direction) with ⟨a, δ⟩ = b, by bisection over t; infinite where no t is enough."""
    low, high = 0.0, 1e9

    def change(t: float) -> Tensor:
        return (x + t * direction).clamp(0, 1) - x

    if a @ change(high) < b:
        return torch.full_like(x, torch.inf)
    for _ in range(200):
        middle = (low * high) ** 0.5 if low > 1e-12 else (low + high) / 2
        low, high = (middle, high) if a @ change(middle) < b else (low, middle)
    return change(high)


def _least_l1(a: Tensor, b: Tensor, x: Tensor) -> float:
    """The fractional knapsack: coordinates to their wall in falling |a_i| until b is paid."""
    missing, spent = float(b), 0.0
    for slope, place in sorted(zip(a.tolist(), x.tolist()), key=lambda pair: -abs(pair[0])):
        room = (1 - place) if slope > 0 else place
        used = min(room, missing / abs(slope)) if slope else 0.0
        missing, spent = missing - used * abs(slope), spent + used
        if missing <= 1e-12:
            return spent
    return float("inf")


_LEAST: dict[str, Any] = {
    "linf": lambda a, b, x: float(_by_bisection(a, b, x, a.sign()).abs().max()),
    "l2": lambda a, b, x: float(_by_bisection(a, b, x, a).norm()),
    "l1": _least_l1,
}


def _cases() -> Iterator[_Case]:
    """Logits tens apart, so that the cross-entropy follows one rival; a margin that the box cannot close."""
    for classes in (2, 4):
        draw = generator("law 23", classes)
        w = 50 * torch.randn(classes, 8, generator=draw, dtype=torch.float64)
        kinds = torch.rand(2, 8, 8, generator=draw, dtype=torch.float64)
        inside, wide = 0.3 + 0.4 * kinds[0], (1.6 * kinds[1] - 0.3).clamp(0, 1)
        low = -5000 - w @ torch.full((8,), 0.5, dtype=torch.float64)
        yield _Case(f"K = {classes}, interior", w, low + 5000, inside)
        yield _Case(f"K = {classes}, a third of the pixels on the walls, all logits negative", w, low, wide)
        if classes == 2:  # at the corner that class 1 likes best it is 1 short of class 0
            corner = (w[1] - w[0]).clamp_min(0).sum()
            yield _Case("K = 2, out of reach", w, torch.stack((corner + 1, 0 * corner)), wide[:3])


def _attacks(norm: str) -> Iterator[tuple[str, Attack]]:
    """Every registered attack of kind minimum-norm that follows gradients and takes this norm; of labels, law 19d."""
    for entry in attacks:
        settings = _FEWER.get(entry.name, {})
        try:
            made = entry.build(threat=_BALLS[norm](), **settings)
        except (ArgumentError, TypeError):
            made = None
        if made is None and norm == "l2":
            try:
                made = entry.build(**settings)
            except (ArgumentError, TypeError):
                continue
        if made is not None and made.kind == "minimum-norm" and made.search.needs in ("gradient", "jacobian"):
            yield entry.name, made


@law("23", "minimum-norm attacks reach the closed forms of linear models")
def minimum_norm() -> list[Measured]:
    """Every attack's distances over the least ones, its failures against those out of reach; three norms.

    K > 2: the least over j ≠ y.
    """
    measured, found = [], {"deepfool": 0, "ddn": 0, "fab": 0}
    for case in _cases():
        for norm in _BALLS:
            theory = case.least(norm)
            within = theory.isfinite()
            for name, attack in _attacks(norm):
                found[name] = found.get(name, 0) + 1
                what = f"{name}, {norm}, {case.name}"
                result = attack(case, case.x, case.y)
                wrong = (result.success != within).sum()
                measured.append(
                    Measured(f"{what}: successes out of reach, and failures within", 0.0, float(wrong), 0.0)
                )
                if not within.any() or (name in _INTERIOR_ONLY and "interior" not in case.name):
                    continue
                ratio = (result.distance / theory)[within]
                measured += [
                    at_most(f"{what}: largest distance over the least", _SLACK, float(ratio.max())),
                    at_most(f"{what}: least over the smallest distance", 1.0, float(1 / ratio.min()), 1e-9),
                ]
    missing = sum(count == 0 for count in found.values())
    return [*measured, Measured("attacks that no case ran", 0.0, float(missing), 0.0)]
