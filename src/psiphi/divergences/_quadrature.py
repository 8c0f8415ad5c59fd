"""Adaptive quadrature on the line, of densities known by their logarithm and their draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

_NODES, _DEPTH, _MOST = 16, 48, 20_000
DRAWS, _EVERY, _REACH = 4096, 16, 2.0**40


def integrate(f: Callable[[Tensor], Tensor], edges: Tensor, tolerance: float) -> tuple[Tensor, float]:
    """∫ f over [edges_0, edges_last], f: (n,) -> (k, n), and the error left: (k,) and a number.

    Gauss and Legendre's rule of 16 nodes on each panel, halved until its halves agree with it within `tolerance`
    in all k integrals; a jump costs one panel a halving.
    """
    nodes, weights = (
        torch.as_tensor(each, dtype=edges.dtype) for each in np.polynomial.legendre.leggauss(_NODES)
    )

    def panels(left: Tensor, right: Tensor) -> Tensor:
        half = (right - left)[:, None] / 2
        at = (left + right)[:, None] / 2 + half * nodes
        return (f(at.flatten()).view(-1, *at.shape) * (half * weights)).sum(2)

    left, right = edges[:-1], edges[1:]
    whole = panels(left, right)
    total, error = whole.new_zeros(len(whole)), 0.0
    off = rough = torch.empty(0)
    for _ in range(_DEPTH):
        middle = (left + right) / 2
        first, second = panels(left, middle), panels(middle, right)
        off = (first + second - whole).abs().amax(0)
        rough = off > tolerance
        total += (first + second)[:, ~rough].sum(1)
        error += float(off[~rough].sum())
        whole = torch.cat([first[:, rough], second[:, rough]], 1)
        if not rough.any() or whole.shape[1] > _MOST:
            break
        left, right = torch.cat([left[rough], middle[rough]]), torch.cat([middle[rough], right[rough]])
    return total + whole.sum(1), error + float(off[rough].sum())


def edges_of(draws: Sequence[Tensor], ends: Sequence[float]) -> Tensor:
    """Panels that see all of the densities drawn from: quantiles of the draws, ends of supports, and tails.

    Neighbouring panels differ in width by at most a factor of 4, so that a rule on one never steps over a peak that
    a draw has seen. The tails reach 2⁴⁰ times as far as the draws.
    """
    points = [torch.as_tensor(list(ends), dtype=torch.float64)]
    for x in draws:
        x = x.flatten().double().sort().values
        span = (x[-1] - x[0]).clamp_min(1e-12)
        points += [x[::_EVERY], x[-1:], x[:1] - _REACH * span, x[-1:] + _REACH * span]
    return _graded(torch.cat(points).unique())


def _graded(edges: Tensor) -> Tensor:
    for _ in range(400):
        width = edges.diff()
        before = torch.nn.functional.pad(width[:-1], (1, 0), value=torch.inf)
        after = torch.nn.functional.pad(width[1:], (0, 1), value=torch.inf)
        wide = width > 4 * torch.minimum(before, after)
        if not wide.any():
            break
        at = torch.where(before < after, edges[:-1] + 2 * before, edges[1:] - 2 * after)
        edges = torch.cat([edges, at[wide]]).unique()
    return edges
