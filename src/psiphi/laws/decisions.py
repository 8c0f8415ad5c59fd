"""Laws of walks along a decision boundary, where the boundary is a plane."""

from __future__ import annotations

from math import exp, lgamma, pi, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import black_box
from psiphi.attacks import L2, Linf, hop_skip_jump
from psiphi.attacks._protocols import Answer
from psiphi.attacks.searches._hop import HOP, LEAP, Hops
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box, l1_norm, l2_norm
from psiphi.laws._asking import Counting
from psiphi.laws._law import Measured, at_most, law

_BOX = Box(-10.0, 10.0)


class Plane(nn.Module):
    """Logits (0, ⟨w, x⟩ + c)."""

    def __init__(self, dims: int, offset: float = -1.5):
        super().__init__()
        w = torch.randn(dims, generator=generator("law 19d", dims), dtype=torch.float64)
        self.w, self.c = w / w.norm(), offset

    def margin(self, x: Tensor) -> Tensor:
        return x @ self.w + self.c

    def forward(self, x: Tensor) -> Tensor:
        margin = self.margin(x)
        return torch.stack((torch.zeros_like(margin), margin), 1)


def inputs(rows: int, dims: int) -> Tensor:
    return 0.3 * torch.randn(rows, dims, generator=generator("law 19d", "x", rows), dtype=torch.float64)


def until(search: Hops, s: Any, plane: Plane, phase: int) -> Any:
    """Rows that a plane answers until each has come to the phase for the first time."""
    reached: dict[int, Any] = {}
    while len(reached) < len(s.x):
        for row in (s.phase == phase).nonzero().squeeze(1).tolist():
            reached.setdefault(row, {"v": s.v[row], "high": s.high[row], "normal": s.normal[row]})
        points, owner = search.ask(s, 10_000)
        margin = plane.margin(points)
        s = search.tell(s, points, owner, Answer(margin.sign(), margin > 0, label=(margin > 0).long()))
    rows = [reached[row] for row in range(len(s.x))]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def fresh(search: Hops, x: Tensor, threat: Any) -> Any:
    noise = Noise.of(0, len(x), dtype=x.dtype).split("law 19d")
    return search.start(x, torch.zeros(len(x)).long(), threat.expand(x), _BOX, noise)


@law("19d", "walks by labels reach a plane's distance, within their budget")
def walks() -> list[Measured]:
    """Two linear classes of 10 dimensions in a wide box: bisection, direction, distance, count, and no start."""
    dims, rows, hops = 10, 100, 100
    plane, x, measured = Plane(dims), inputs(rows, dims), []
    search = Hops(initial=hops)
    for threat in (L2(), Linf()):
        at = until(search, fresh(search, x, threat), plane, HOP)
        inside, beyond = plane.margin(x), plane.margin(at["v"])
        crossing = at["high"] * inside / (inside - beyond)
        wide = search.tolerance(at["v"], x, at["high"], threat)
        measured.append(at_most(f"{threat!r}: bisected on the wrong side", 0, int((beyond <= 0).sum())))
        if threat.norm == "L2":  # whose way back is a straight line
            off = float(((at["high"] - crossing) / wide).max())
            measured.append(at_most("bisected beyond the plane, in tolerances", 1, off, 1e-9))
    at = until(search, fresh(search, x, L2()), plane, LEAP)
    ray = (at["v"] - x) / per_row(l2_norm(at["v"] - x), x)
    tangent = plane.w - per_row(ray @ plane.w, x) * ray
    cosine = (at["normal"] * tangent).sum(1) / l2_norm(tangent)
    mean = exp(lgamma((dims - 1) / 2) - lgamma(dims / 2)) / sqrt(pi)  # E|r₁| on the sphere across the ray
    theory = hops * mean / sqrt(hops + hops * (hops - 1) * mean**2)
    slack = 4 * float(cosine.std()) / sqrt(rows) + 1 / hops
    measured.append(
        Measured(f"mean cosine of {hops} hops with the plane", theory, float(cosine.mean()), slack)
    )

    x = inputs(8, dims)
    for threat, size in ((L2(), l2_norm), (Linf(), l1_norm)):
        closed = plane.margin(x).abs() / float(size(plane.w[None]))
        result = hop_skip_jump(threat)(black_box(plane, "labels", budget=1000, bounds=_BOX), x)
        ratio = result.distance / closed
        what = f"{threat!r}: distance after 1000 queries, of |margin|/‖w‖"
        measured += [
            at_most(f"{what}, most", 1.05, float(ratio.max())),
            at_most(f"{what}, less 1, below", 0, float((1 - ratio).max())),
        ]
    for budget in (1, 2, 150):
        counting = Counting(plane)
        result = hop_skip_jump()(black_box(counting, "labels", budget=budget, bounds=_BOX), x)
        spent = int((result.forwards - budget).abs().max())
        measured.append(Measured(f"budget {budget}: rows of a sample, off the budget", 0, spent, 0))
        measured.append(Measured(f"budget {budget}: rows sent", int(result.forwards.sum()), counting.sent, 0))
    counting = Counting(Plane(dims, -1000))
    result = hop_skip_jump(tries=7)(black_box(counting, "labels", bounds=_BOX), x)
    moved = float((result.x - x).abs().max()) + int(result.success.sum())
    measured.append(Measured("no start: successes and change", 0, moved, 0))
    return [*measured, Measured("no start: rows sent", len(x) * 8, counting.sent, 0)]
