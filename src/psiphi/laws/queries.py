"""Laws of attacks that ask for scores alone: estimates of a gradient, and random search with windows."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import black_box
from psiphi.attacks import L1, L2, Attack, Linf, square
from psiphi.attacks.searches import Estimated, Steepest
from psiphi.basis.noise import generator
from psiphi.formulas import goals, windows
from psiphi.formulas.geometry import Box
from psiphi.laws._law import Measured, at_most, law


class _Scored(nn.Module):
    """Logits (0, s(x)) of a score s, so that the margin of class 0 is s; keeps what it is sent, and what it says."""

    def __init__(self, score: Callable[[Tensor], Tensor]):
        super().__init__()
        self.score, self.sent, self.said = score, [], []
        self.register_buffer("kind", torch.zeros((), dtype=torch.double))

    def forward(self, x: Tensor) -> Tensor:
        s = self.score(x)
        self.sent.append(x.clone())
        self.said.append(s.clone())
        return torch.stack((torch.zeros_like(s), s), 1)


def _estimates(score: Callable[[Tensor], Tensor], x: Tensor, samples: int, sigma: float, kind: str) -> Tensor:
    """The gradients that one step is taken along, (n, d), at rows of the same kind with draws of their own."""
    found: list[Tensor] = []

    def told(gradient: Tensor, v: Tensor, box: Box, length: Any) -> Tensor:
        found.append(gradient.clone())
        return torch.zeros_like(v)

    climb = Steepest(1, 0.1, random_start=False, direction=told)
    attack = Attack(Linf(0.1), goals.margin, Estimated(climb, samples, sigma, kind))
    y = torch.zeros(len(x)).long()
    attack(black_box(_Scored(score)), x, y, batch_size=(samples + 1) * len(x), stop_early=False)
    return found[0]


@law("19b", "differences of scores estimate the gradient")
def estimated(rows: int = 2000, d: int = 12, samples: int = 16) -> list[Measured]:
    """ĝ = (1/m) Σ u uᵀg of a linear score: E ĝ = g, E‖ĝ − g‖² = (d + 1)/m ‖g‖² of normal u, (d − 1)/m ‖g‖² of u_i = ±1.

    For E‖u uᵀg‖² = E[(uᵀg)²‖u‖²] = (d + 2)‖g‖² and d‖g‖². A quadratic score has the same differences as its tangent.
    """
    draw, m, measured = generator("law 19b"), samples // 2, []
    g, other, root = (torch.randn(shape, generator=draw, dtype=torch.double) for shape in (d, d, (d, d)))
    curve, middle = root @ root.T, torch.full((rows, d), 0.5, dtype=torch.double)
    far, near = 0.05, torch.tensor([0.0, 1.0, 0.3 * 0.05, 1 - 0.8 * 0.05, 1.4 * 0.05, 0.5]).double().repeat(2)

    def quadratic(x: Tensor) -> Tensor:
        return (x @ curve * x).sum(1) / 2 + x @ other

    cases = {
        "linear": (lambda x: x @ g, middle, g, far),
        "quadratic, σ = 0.02": (quadratic, middle, middle[0] @ curve + other, 0.02),
        "linear, at walls": (lambda x: x @ g, near.expand(rows, d), g, far),
    }
    for kind, factor in (("gaussian", d + 1), ("rademacher", d - 1)):
        for name, (score, x, gradient, sigma) in cases.items():
            found = _estimates(score, x.clone(), samples, sigma, kind)
            off = (found - gradient).square().sum(1)
            bias = float((found.mean(0) - gradient).norm() / (off.mean() / rows).sqrt())
            measured.append(at_most(f"{kind}, {name}: ‖mean − g‖, in standard errors", 4.0, bias))
            if name != "linear, at walls":
                theory = factor / m * float(gradient.square().sum())
                error = 4 * float(off.std()) / sqrt(rows)
                measured.append(Measured(f"{kind}, {name}: E‖ĝ − g‖²", theory, float(off.mean()), error))
    return measured


_HALVED = {
    0: 0, 10: 0, 11: 1, 50: 1, 51: 2, 200: 2, 201: 3, 500: 3, 501: 4, 1000: 4, 1001: 5, 2000: 5, 2001: 6,
    4000: 6, 4001: 7, 6000: 7, 6001: 8, 8000: 8, 8001: 9, 9999: 9,
}  # fmt: skip
_SIDES = (25, 18, 13, 9, 6, 4, 3, 2, 2, 1)  # of 28 × 28, p = 0.8


@law("19c", "random search: the table of p, one window a query, the optimum of a linear score")
def searched() -> list[Measured]:
    """Of each query the window is read off the points sent: what differs from the best point before it."""
    i, halved = (torch.tensor([*each]) for each in (_HALVED.keys(), _HALVED.values()))
    off = float((windows.level(i, 10_000) - halved).abs().sum())
    off += float((windows.level(i // 10, 1000) - windows.level(i // 10 * 10, 10_000)).abs().sum())
    sides = [windows.sides(0.8 / 2**k, 28, 28) for k in range(10)]
    wrong = sum(found != (side, side) for found, side in zip(sides, _SIDES, strict=True))
    return [
        Measured("halvings of p, off the published table", 0.0, off, 0.0),
        Measured("sides of windows of 28 × 28 pixels, off round √(784 p)", 0.0, float(wrong), 0.0),
        *_optimum(),
        *_walked(),
    ]


def _optimum(rows: int = 24, eps: float = 0.2, queries: int = 300) -> list[Measured]:
    """Σ_i max of w_i δ_i over ball and box: ε‖w‖₁ away from the walls."""
    draw, measured = generator("law 19c"), []
    for shape in ((16,), (2, 3, 3)):
        w = torch.randn(shape, generator=draw, dtype=torch.double)
        x = torch.rand(rows, *shape, generator=draw, dtype=torch.double)
        x[: rows // 2] = 0.3 + 0.4 * x[: rows // 2]

        def score(x: Tensor, w: Tensor = w) -> Tensor:
            return (x * w).flatten(1).sum(1) - 100

        room = torch.where(w > 0, 1 - x, x).clamp_max(eps)
        result = square(Linf(eps), queries)(black_box(_Scored(score)), x, torch.zeros(rows).long())
        gap = result.score - score(x) - (w.abs() * room).flatten(1).sum(1)
        named = " × ".join(map(str, shape))
        measured += [
            Measured(f"Linf, {named}: Σ|w_i| room_i", 0.0, float(gap.abs().max()), 1e-12),
            Measured(f"rows sent, {named}", rows * (1 + queries), float(result.forwards.sum()), 0),
        ]
    inside = eps * float(w.abs().sum()) - float((result.score - score(x))[: rows // 2].mean())
    return [*measured, Measured("of them inside: ε‖w‖₁", 0.0, inside, 1e-12)]


def _walked(rows: int = 20, queries: int = 80) -> list[Measured]:
    """Three norms on a curved score; what is sent in turn k of a run is one point a row."""
    draw, measured = generator("law 19c, walked"), []
    shape = (2, 9, 9)
    a, b = (torch.randn(*shape, generator=draw, dtype=torch.double) for _ in range(2))
    x = torch.rand(rows, *shape, generator=draw, dtype=torch.double).mul(1.6).sub(0.3).clamp(0, 1)

    def score(x: Tensor) -> Tensor:
        return torch.sin((x * a).flatten(1).sum(1)) + (x * b).flatten(1).sum(1) / 10 - 100

    for threat in (Linf(0.2), L2(1.5), L1(6.0)):
        net = _Scored(score)
        result = square(threat, queries)(black_box(net), x, torch.zeros(rows).long())
        points, scores = torch.stack(net.sent[1:]), torch.stack(net.said[1:])
        beyond = max(float((threat.distance(v, x) - threat.eps).max()) for v in points)
        outside = float(torch.maximum(-points, points - 1).max())
        lost = float((scores.max(0).values - result.score).abs().max())
        name = type(threat).__name__
        measured += [
            at_most(f"{name}: beyond ε, at most", 0.0, beyond, 1e-12),
            at_most(f"{name}: outside the box, at most", 0.0, outside),
            Measured(f"{name}: the best score sent, off the score returned", 0.0, lost, 1e-11),
        ]
        if threat.norm == "Linf":
            measured += _windows(points, scores, queries)
    return measured


def _windows(points: Tensor, scores: Tensor, queries: int) -> list[Measured]:
    """Rows and columns that a point differs in from the best one before it, beside the side of the table."""
    h, w = points.shape[-2:]
    side = torch.tensor([windows.sides(0.8 / 2**k, h, w)[0] for k in range(10)])
    side = side[windows.level(torch.arange(queries - 1), queries)]
    best = scores[:-1].cummax(0).indices
    before = points.gather(0, best.view(*best.shape, 1, 1, 1).expand(-1, -1, *points.shape[2:]))
    changed = (points[1:] != before).any(2)
    spans = []
    for axis in (2, 3):
        lines = changed.any(5 - axis)
        n = lines.shape[2]
        first = lines.long().argmax(2)
        last = n - 1 - lines.flip(2).long().argmax(2)
        spans.append(torch.where(lines.any(2), last - first + 1, 0))
    too_wide = sum(float((span > side[:, None]).sum()) for span in spans)
    idle = float((~changed.flatten(2).any(2)).double().mean())
    full = float(torch.stack([span == side[:, None] for span in spans]).double().mean())
    return [
        Measured("Linf: windows larger than the table says", 0.0, too_wide, 0.0),
        at_most("Linf: share of queries that change nothing", 0.0, idle),
        at_most("Linf: half, less the share of windows that span their side", 0.0, 0.5 - full),
    ]
