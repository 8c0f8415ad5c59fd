"""Generic convex solvers of the problems that attacks have closed forms for: a row at a time, in float64.

`norm` is "linf", "l2" or "l1". Where the L1 norm is needed, δ = p − q with p, q ≥ 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.formulas.geometry import Box


def nearest(norm: str, eps: Tensor, v: Tensor, x: Tensor, box: Box) -> Tensor:
    """argmin ½‖u − v‖² over ball ∩ box, (b, d)."""
    answers = []
    for low, high, wish, e in _rows(box, x, v - x, eps):
        unfold: Any = np.eye(len(wish))
        inside: tuple[Any, Any] | None = None
        if norm == "linf":
            low, high = np.maximum(low, -e), np.minimum(high, e)
        elif norm == "l2":
            inside = (lambda z, e=e: e**2 - z @ z, lambda z: -2 * z)
        else:
            unfold = np.concatenate((unfold, -unfold), 1)
            low, high = np.zeros(2 * len(wish)), np.concatenate((high, -low))
            inside = (lambda z, e=e: e - z.sum(), lambda z: -np.ones_like(z))
        found = _descend(
            lambda z, w=wish, m=unfold: 0.5 * ((m @ z - w) ** 2).sum(),
            lambda z, w=wish, m=unfold: m.T @ (m @ z - w),
            low,
            high,
            inside,
        )
        answers.append(torch.from_numpy(unfold @ found))
    return x + torch.stack(answers)


def least(norm: str, a: Tensor, b: Tensor, x: Tensor, box: Box) -> Tensor:
    """min ‖δ‖ with ⟨a, δ⟩ ≥ b and x + δ in the box, (b,); NaN where there is no such δ."""
    from scipy.optimize import linprog

    answers = []
    for low, high, normal, bound in _rows(box, x, a, b):
        d = len(normal)
        if norm == "l1":  # min Σ p + q
            bounds = [*((0, h) for h in high), *((0, -w) for w in low)]
            found = linprog(np.ones(2 * d), [[*-normal, *normal]], [-bound], bounds=bounds)
        else:  # min t with |δ_i| ≤ t, whose solution says whether there is one in any norm
            eye, one = np.eye(d), np.ones((d, 1))
            rows = np.block([[eye, -one], [-eye, -one], [-normal, np.zeros((1, 1))]])
            bounds = [*zip(low, high), (0, None)]
            found = linprog([*np.zeros(d), 1], rows, [*np.zeros(2 * d), -bound], bounds=bounds)
        if found.status == 2:
            answers.append(np.nan)
        elif norm == "l2":
            entered = (lambda z, n=normal, b=bound: n @ z - b, lambda z, n=normal: n)
            delta = _descend(lambda z: 0.5 * z @ z, lambda z: z, low, high, entered)
            answers.append(float(np.sqrt(delta @ delta)))
        else:
            answers.append(found.fun)
    return torch.tensor(answers, dtype=torch.float64)


def _rows(box: Box, x: Tensor, *more: Tensor) -> Iterator[tuple[Any, ...]]:
    """lo − x, hi − x and the rest, a row at a time, as arrays."""
    return zip(*(part.numpy() for part in (box.lo - x, box.hi - x, *more)))


def _descend(
    value: Callable[[Any], Any],
    slope: Callable[[Any], Any],
    low: Any,
    high: Any,
    constraint: tuple[Any, Any] | None,
) -> Any:
    """argmin of a value within bounds and with a constraint of at least 0, by sequential quadratic programming."""
    from scipy.optimize import minimize

    found = minimize(
        value,
        np.zeros_like(low),
        jac=slope,
        bounds=list(zip(low, high)),
        constraints=[]
        if constraint is None
        else [{"type": "ineq", "fun": constraint[0], "jac": constraint[1]}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-15},
    )
    return found.x
