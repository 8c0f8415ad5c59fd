"""Law 22c: the least change of a row in a box that reaches a half-space, against linear programs and bisection."""

from __future__ import annotations

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from psiphi.basis.noise import generator
from psiphi.formulas.geometry import Box
from psiphi.formulas.halfspaces import l1_reach, l2_reach, linf_reach
from psiphi.laws._law import Measured, equal, law

SEED = 22
F64 = torch.float64


@law("22c", "the way to a half-space within a box: linear programs, bisection, and the corner where there is none")
def ways_to_halfspaces() -> list[Measured]:
    """min ‖δ‖ with ⟨a, δ⟩ ≥ b in [0, 1]^6: eight rows that reach it, one just, others that are there or cannot; 10⁻⁸."""
    a = torch.randn(12, 6, generator=generator(SEED, "a"), dtype=F64)
    x = torch.rand(12, 6, generator=generator(SEED, "x"), dtype=F64)
    a[2, :3], x[3, :2], a[4] = 0.0, torch.tensor([0.0, 1.0]), 100 * a[4]
    reach = (a.clamp_min(0) * (1 - x) + a.clamp_max(0) * -x).sum(1)
    b = reach * torch.linspace(0.1, 0.95, 12, dtype=F64)
    a[8] = torch.tensor([0.5, -0.5, 0.5, 0.5, -0.5, 0.25])
    x[8], b[8] = 0.5, 0.6
    a[9:11], b[9], b[10], b[11] = 0.0, 0.0, 1.0, -1.0
    b[7] = reach[7] + 0.1
    shape = (12, 2, 3)
    args = (a.view(shape), b, x.view(shape), Box())
    found = {"L∞": linf_reach(*args), "L2": l2_reach(*args), "L1": l1_reach(*args)}
    corner = torch.where(a[7] > 0, 1 - x[7], -x[7])
    there = [i < 7 or i in (8, 9, 11) for i in range(12)]
    return [
        *(equal(f"reached, {name}", there, each[1]) for name, each in found.items()),
        *(equal(f"the corner where it is not, {name}", corner, each[0].flatten(1)[7]) for name, each in found.items()),
        *(equal(f"no way for nothing to go by, {name}", torch.zeros(3, 6), each[0].flatten(1)[9:])
          for name, each in found.items()),
        *(equal(f"⟨a, δ⟩ = b, {name}", b[:7], (a * each[0].flatten(1)).sum(1)[:7], 1e-8)
          for name, each in found.items()),
        equal("the least ‖δ‖_∞", [_least(a[i], b[i], x[i], True) for i in range(7)],
              found["L∞"][0].flatten(1).abs().amax(1)[:7], 1e-8),
        equal("the least ‖δ‖₁", [_least(a[i], b[i], x[i], False) for i in range(7)],
              found["L1"][0].flatten(1).abs().sum(1)[:7], 1e-8),
        equal("clip(λ a)", torch.stack([_clipped(a[i], b[i], x[i]) for i in range(7)]),
              found["L2"][0].flatten(1)[:7], 1e-8),
        equal("clip(t sign a)", torch.stack([_clipped(a[i], b[i], x[i], a[i].sign()) for i in range(7)]),
              found["L∞"][0].flatten(1)[:7], 1e-8),
        equal("ties by index in L1", [0.5, -0.5, 0.2, 0.0, 0.0, 0.0], found["L1"][0].flatten(1)[8]),
    ]  # fmt: skip


def _least(a: Tensor, b: Tensor, x: Tensor, largest: bool) -> float:
    """Its norm by a linear program in δ and what bounds |δ|: one number for all coordinates, or one for each."""
    d = len(a)
    bounds = np.ones((d, 1)) if largest else np.eye(d)
    over = np.block([[np.eye(d), -bounds], [-np.eye(d), -bounds], [-a.numpy()[None], np.zeros((1, bounds.shape[1]))]])
    right = np.concatenate([np.zeros(2 * d), [-float(b)]])
    cost = np.concatenate([np.zeros(d), np.ones(bounds.shape[1])])
    walls = [(-float(v), 1 - float(v)) for v in x] + [(0, None)] * bounds.shape[1]
    return float(optimize.linprog(cost, over, right, bounds=walls).fun)


def _clipped(a: Tensor, b: Tensor, x: Tensor, way: Tensor | None = None) -> Tensor:
    """clip(t w, −x, 1 − x) with ⟨a, ·⟩ = b, t by bisection; w: a itself unless given."""
    way = a if way is None else way
    low, high = 0.0, 1e4
    for _ in range(100):
        t = (low + high) / 2
        short = float(((t * way).clamp(-x, 1 - x) * a).sum() - b) < 0
        low, high = (t, high) if short else (low, t)
    return (high * way).clamp(-x, 1 - x)
