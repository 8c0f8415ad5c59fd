"""Laws of the threats that are no balls: rotations and shifts, windows, columns, and one after the other."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import white_box
from psiphi.attacks import L1, L2, Attack, Linf, pgd, spatial
from psiphi.attacks.searches import Grid
from psiphi.attacks.threats import Chain, Columns, Patch, Spatial
from psiphi.basis.noise import generator
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box
from psiphi.laws import _convex
from psiphi.laws._law import Measured, at_most, law


def _images(key: str, rows: int, side: int) -> Tensor:
    return torch.rand(rows, 2, side, side, generator=generator(key), dtype=torch.float64)


def _network(key: str, dims: int, classes: int = 3, width: int = 0) -> nn.Sequential:
    """A linear classifier, or one with a hidden layer of tanh."""
    layers = [nn.Linear(dims, width), nn.Tanh(), nn.Linear(width, classes)] if width else []
    net, draw = nn.Sequential(nn.Flatten(), *(layers or [nn.Linear(dims, classes)])).double(), generator(key)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64))
    return net.requires_grad_(False)


def _shifted(x: Tensor, rows: int, columns: int) -> Tensor:
    """By whole pixels, zeros coming in: slices alone."""
    out, (h, w) = torch.zeros_like(x), x.shape[2:]
    out[..., max(rows, 0) : h + min(rows, 0), max(columns, 0) : w + min(columns, 0)] = x[
        ..., max(-rows, 0) : h - max(rows, 0), max(-columns, 0) : w - max(columns, 0)
    ]
    return out


def _changed(threat: Spatial, change: list[float], x: Tensor) -> Tensor:
    u = torch.tensor(change, dtype=x.dtype).expand(len(x), -1)
    return threat.expand(x).decode(u, x, Box())


@law("26", "the worst of a grid is each image's own, and no change is the identity")
def worst_of_grid() -> list[Measured]:
    """Quarter turns and whole-pixel shifts by slicing, every image through every one of them, against `spatial`."""
    side, bright = 5, torch.linspace(0.02, 1, 24, dtype=torch.float64)  # dim ones stand
    x = _images("law 26", 24, side) * bright.view(-1, 1, 1, 1)
    net = _network("law 26, net", 2 * side * side, width=12)
    y = net(x).argmax(1)
    moves = list(product((-1, 0, 1), range(-2, 3), range(-2, 3)))
    every = torch.stack([_shifted(x.rot90(k, (2, 3)), r, c) for k, r, c in moves])
    logits = net(every.flatten(0, 1)).unflatten(0, (len(moves), len(x)))
    loss = torch.stack([goals.cross_entropy(each, y, None) for each in logits])
    stands = logits.argmax(2) == y
    worst = torch.where(stands.all(0) | ~stands, loss, -torch.inf).amax(0)
    threat: Any = Spatial(degrees=90, pixels=2)
    result = spatial(threat, counts=(3, 5, 5), goal="cross_entropy")(net, x, y, stop_early=False)
    early = Attack(threat, goals.margin, Grid((3, 5, 5)))(net, x, y)
    one = float(stands.sum(1).min())
    measured = [
        Measured("rows that stand, as by hand", float(stands.all(0).sum()), float(result.robust.sum()), 0.0),
        Measured(
            "rows that stand, stopping early", float(stands.all(0).sum()), float(early.robust.sum()), 0.0
        ),
        Measured("loss of each row's worst", 0.0, float((result.score - worst).abs().max()), 1e-9),
        Measured("queries of a row", 2.0 + len(moves), float(result.forwards.max()), 0.0),
        at_most("rows that stand, below the worst one move for all", one - 1, float(result.robust.sum())),
        at_most("one less the rows that stand", 0.0, 1 - float(result.robust.sum())),
    ]
    for border in ("zeros", "border", "reflection"):
        large = Spatial(degrees=90, pixels=(2, 3), scale=0.5, border=border)
        same = (_changed(large, [0, 0, 0, 0], x) - x).abs().max()
        measured.append(Measured(f"no change, {border}", 0.0, float(same), 0.0))
        inner = _changed(large, [0, 0.5, -2 / 3, 0], x)[..., 1:, :-2] - x[..., :-1, 2:]
        measured.append(Measured(f"whole pixels, {border}, within", 0.0, float(inner.abs().max()), 0.0))
        turned = _changed(large, [1, 0, 0, 0], x) - x.rot90(1, (2, 3))
        measured.append(Measured(f"a quarter turn, {border}", 0.0, float(turned.abs().max()), 1e-12))
    return measured


def _brute(
    v: Tensor, x: Tensor, eps: float, low: Tensor, high: Tensor, whole: list[int], held: list[int]
) -> Tensor:
    """The nearest point in L∞: of a whole column by trying every whole value, of others by a clamp."""
    near = v.maximum((x - eps).maximum(low)).minimum((x + eps).minimum(high))
    values = torch.arange(-20.0, 21.0, dtype=x.dtype)
    for column in whole:
        fits = ((values - x[:, column, None]).abs() <= eps) & (values >= low[column])
        fits &= values <= high[column]
        far = (values - v[:, column, None]).abs().where(fits, torch.inf)
        near[:, column] = values[far.argmin(1)]
    near[:, held] = x[:, held]
    return near


@law("26a", "windows and columns: the nearest point that is allowed")
def constrained() -> list[Measured]:
    """A window against a clamp pixel by pixel; columns against brute force over whole values, and convex solvers."""
    draw = generator("law 26a")
    x, box = _images("law 26a, images", 6, 5), Box()
    v = x + torch.randn(x.shape, generator=draw, dtype=torch.float64)
    near = Patch((2, 3), (1, 0), eps=0.3).project(v, x, box)
    hand = x.clone()
    for row, column in product(range(1, 3), range(3)):
        low, high = (x - 0.3).clamp_min(0), (x + 0.3).clamp_max(1)
        hand[..., row, column] = v[..., row, column].clamp(low[..., row, column], high[..., row, column])
    measured = [Measured("window: distance to the point by hand", 0.0, float((near - hand).abs().max()), 0.0)]
    d, rows = 6, 12
    x = 4 * torch.rand(rows, d, generator=draw, dtype=torch.float64)
    x[:, 4:] = x[:, 4:].round()
    v = x + 2 * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    x[0, 4], v[0, 4] = 4.0, 9.0  # a whole value beyond the range would be near
    ranges = {2: (-0.5, 4.25), 4: (-0.6, 4.6)}
    low, high = torch.full((d,), -3.0).double(), torch.full((d,), 6.0).double()
    box = Box(low.clone(), high.clone())
    low[2], high[2], low[4], high[4] = -0.5, 4.25, -0.6, 4.6
    for eps in (0.4, 1.0, 2.3):
        table = Columns(Linf(eps), immutable=(0,), integers=(4, 5), ranges=ranges)
        off = table.project(v, x, box) - _brute(v, x, eps, low, high, [4, 5], [0])
        measured.append(Measured(f"columns, L∞ {eps}: by brute force", 0.0, float(off.abs().max()), 1e-12))
    held = torch.arange(d) == 0
    walls = torch.where(held, x, low), torch.where(held, x, high)
    for ball, norm, eps in ((L2, "l2", 1.5), (L1, "l1", 2.0)):
        table, radii = Columns(ball(eps), immutable=(0,), ranges=ranges), torch.full((rows,), eps).double()
        near, theory = table.project(v, x, box), _nearest(norm, radii, v, x, *walls)
        gap = ((near - v).norm(dim=1) - (theory - v).norm(dim=1)).abs().max()
        measured.append(
            Measured(f"columns, {ball.__name__}: distance as the solver's", 0.0, float(gap), 1e-6)
        )
        counted = Columns(ball(eps), immutable=(0,), integers=(4, 5), ranges=ranges)
        near = counted.project(v, x, box)
        outside = torch.maximum(low - near, near - high).amax()
        broken = (near - near.round())[:, 4:].abs().amax() + (near - x)[:, 0].abs().amax()
        what = f"columns, {ball.__name__} with integers"
        measured += [
            at_most(
                f"{what}: leaves the ball by", 0.0, float((ball().distance(near, x) - eps).amax()), 1e-12
            ),
            at_most(f"{what}: leaves the ranges by", 0.0, float(outside), 0.0),
            Measured(f"{what}: not whole, or not held", 0.0, float(broken), 0.0),
        ]
    return measured


def _nearest(norm: str, radii: Tensor, v: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The solver's, row by row, since each row has walls of its own."""
    each = [
        _convex.nearest(norm, radii[i : i + 1], v[i : i + 1], x[i : i + 1], Box(low[i], high[i]))
        for i in range(len(x))
    ]
    return torch.cat(each)


@law("26b", "a rotation of no angle, then a ball, is the ball")
def chained() -> list[Measured]:
    """Chains whose first part cannot move, step by step beside the ball: curved where no wall is near, else linear."""
    x = _images("law 26b", 8, 4)
    nothing = Spatial(degrees=0, pixels=0)
    measured = []
    for ball in (Linf(0.2), L2(0.5), L1(1.5)):
        for width, bounds in ((12, (-9.0, 9.0)), (0, (0.0, 1.0))):
            if not width and not isinstance(ball, Linf):
                continue
            net = white_box(_network("law 26b, net", x[0].numel(), width=width), bounds=bounds)
            for steps in (1, 12):
                how = {"steps": steps, "random_start": False, "goal": "margin"}
                alone = pgd(ball, **how)(net, x, stop_early=False)
                both = pgd(Chain(nothing, ball), **how)(net, x, stop_early=False)
                what = f"{ball!r}, {'curved' if width else 'linear, at walls'}, {steps} steps"
                measured.append(Measured(what, 0.0, float((both.x - alone.x).abs().max()), 1e-12))
    moved = pgd(Chain(nothing, Linf(0.2)), steps=4)(
        _network("law 26b, net", x[0].numel()), x, stop_early=False
    )
    assert moved.change is not None
    measured.append(Measured("changes of the rotation", 0.0, float(moved.change[:, :3].abs().max()), 0.0))
    return measured
