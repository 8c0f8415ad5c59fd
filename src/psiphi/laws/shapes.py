"""Laws 19e, 22a, 22b, 25a and 26d: directions, levels, pixels, windows and turned images, by definition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import inf, pi

import torch
from torch import Tensor

from psiphi.basis.noise import Counted, Noise, generator
from psiphi.formulas import levels
from psiphi.formulas.estimates import directions, pair, square
from psiphi.formulas.geometry import (
    Box,
    blocked,
    l1_norm,
    l1_sparse,
    l1_steepest,
    l1_uniform,
    l2_norm,
    l2_steepest,
    l2_uniform,
    linf_norm,
    linf_steepest,
    linf_uniform,
)
from psiphi.formulas.pixels import changed, first, flat, grid, painted, pixels_project, walls
from psiphi.formulas.warps import turned
from psiphi.formulas.windows import bump, level, lobes, sides
from psiphi.laws._law import Measured, equal, law

SEED = 22
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


def _uniform(*shape: int, name: str = "numbers") -> Tensor:
    return torch.rand(*shape, generator=generator(SEED, name, *shape), dtype=F64)


# -------------------------------------------------------------------------------------- directions
@law("22a", "norms, steepest directions and draws of balls, coordinate by coordinate")
def directions_by_loops() -> list[Measured]:
    """Rows with coordinates at walls, ties, and rows that cannot move at all; draws as maps of the noise: to 10⁻¹⁰."""
    hi = torch.tensor([1.0, 2.0, 1.0, 1.0, 3.0], dtype=F64)
    box = Box(-1.0, hi)
    v, g = _uniform(7, 5) - 0.5, _normal(7, 5)
    v[0, :3], v[1, 1], v[2, 4], v[3, 0] = -1.0, 2.0, 3.0, 1.0
    g[3, 0], g[3, 1:3], g[4] = 4.0, torch.tensor([2.0, -2.0]), 0.0
    v[5], g[5] = -1.0, -g[5].abs()
    g[6, :2], v[6, :2] = torch.tensor([3.0, 0.5]), torch.tensor([-1.0, 0.0])
    v[1, 1], g[1, 1], g[0, :2], g[2, 4] = 2.0, 0.3, torch.tensor([-0.3, 0.0]), 0.0
    stuck = torch.zeros(7, 5, dtype=torch.bool)
    for i in range(7):
        for j in range(5):
            stuck[i, j] = (v[i, j] == hi[j] and g[i, j] > 0) or (v[i, j] == -1 and g[i, j] < 0)
    free = torch.where(stuck, 0, g)
    length = free.square().sum(1, keepdim=True).sqrt()
    pushed = torch.where(length > 0, g / length.where(length > 0, 1), 0).clamp(-1e4, 1e4)
    slow = g.clone()
    slow[0] = torch.tensor([-3.0, 0.0, 0.0, 0.0, 1e-6])
    ahead = torch.where(g > 0, hi - v, torch.where(g < 0, v + 1, 0.0))
    noise, d = Noise.of(SEED, 6, dtype=F64), 5
    eps = torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0, 1.0], dtype=F64)
    u, xi = noise.split("radius").uniform(), noise.split("direction").normal((d,))
    q = noise.split("direction").uniform((d,)) - 0.5
    laplace = -q.sign() * (1 - 2 * q.abs()).log()
    tiny = torch.tensor([[3e-200, 4e-200], [0.0, 0.0]], dtype=F64)
    cube = _normal(3, 2, 2)
    return [
        equal("‖δ‖₁", [sum(abs(a) for a in row) for row in cube.flatten(1).tolist()], l1_norm(cube)),
        equal("‖δ‖₂", [sum(a * a for a in row) ** 0.5 for row in cube.flatten(1).tolist()], l2_norm(cube)),
        equal("‖δ‖_∞", [max(abs(a) for a in row) for row in cube.flatten(1).tolist()], linf_norm(cube)),
        equal("no underflow", [5.0, 0.0], l2_norm(tiny) * 1e200),
        equal("walls in the way", stuck, blocked(g, v, box)),
        equal("how far the wall is", ahead, box.ahead(g, v)),
        equal("the nearest point", torch.minimum(torch.maximum(3 * v, torch.tensor(-1.0, dtype=F64)), hi),
              box.clamp(3 * v)),
        equal("unit box, unless told", [0.0, 1.0], Box()),
        equal("steepest in L∞", torch.where(stuck, 0, g.sign()), linf_steepest(g, v, box)),
        equal("steepest in L2", pushed, l2_steepest(g, v, box)),
        equal("a wall's push is bounded", [-1e4, 0, 0, 0, 1.0], l2_steepest(slow, v, box)[0]),
        equal("steepest in L1", _one(g, ahead), l1_steepest(g, v, box)),
        equal("within a length", _spent(g, ahead, 1.5), l1_steepest(g, v, box, 1.5)),
        equal("within a length of each row", torch.cat([_spent(g[i:i + 1], ahead[i:i + 1],
              0.4 * (i + 1)) for i in range(7)]),
              l1_steepest(g, v, box, 0.4 * torch.arange(1, 8, dtype=F64))),
        *(equal(f"sparse, share {share}", _sparse(g, stuck, share), l1_sparse(g, v, box, share))
          for share in (0.01, 0.4, 0.6, 1.0)),
        equal("a tie with one at a wall", [[2.0, -1.0, 0.0]],
              l1_sparse(torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[1.0, 0.5, 0.5]]), Box(), 0.4)),
        equal("a share of each row", torch.cat([_sparse(g[i:i + 1], stuck[i:i + 1],
              0.2 * (i % 5 + 1)) for i in range(7)]),
              l1_sparse(g, v, box, 0.2 * (torch.arange(7) % 5 + 1).double())),
        equal("uniform in L∞", eps[:, None] * (2 * noise.uniform((d,)) - 1), linf_uniform(noise, (d,), eps)),
        equal("uniform in L2", xi / xi.square().sum(1, keepdim=True).sqrt() * (eps * u ** (1 / d))[:, None],
              l2_uniform(noise, (d,), eps)),
        equal("uniform in L1", laplace / laplace.abs().sum(1, keepdim=True) * (eps * u ** (1 / d))[:, None],
              l1_uniform(noise, (d,), eps)),
    ]  # fmt: skip


def _one(g: Tensor, ahead: Tensor) -> Tensor:
    """All on the largest |g_i| with room, the first of equals; ±2 at walls with at least that |g_i|."""
    d = torch.zeros_like(g)
    for i, row in enumerate(g):
        moving = [j for j in range(len(row)) if ahead[i, j] > 0 and row[j] != 0]
        if moving:
            best = max(moving, key=lambda j: (float(row[j].abs()), -j))
            for j in range(len(row)):
                if ahead[i, j] <= 0 and row[j].abs() >= row[best].abs():
                    d[i, j] = 2 * row[j].sign()
            d[i, best] = row[best].sign()
    return d


def _spent(g: Tensor, ahead: Tensor, length: float) -> Tensor:
    """The length spent in falling |g_i|, each as far as its wall; and 2 for each coordinate moved after it."""
    d = torch.zeros_like(g)
    for i, row in enumerate(g):
        order, left, moved = sorted(range(len(row)), key=lambda j: (-float(row[j].abs()), j)), length, []
        for j in order:
            step = min(left, float(ahead[i, j]))
            moved.append(step > 0)
            d[i, j], left = step / length, left - step
        for place, j in enumerate(order):
            d[i, j] = row[j].sign() * (d[i, j] + 2 * sum(moved[place + 1 :]))
    return d


def _sparse(g: Tensor, stuck: Tensor, share: float) -> Tensor:
    d = torch.zeros_like(g)
    for i, row in enumerate(g):
        size = row.abs()
        count = min(max(int(share * len(row) + 1e-9), 1), len(row))
        least = size.sort(descending=True).values[count - 1]
        free = [j for j in range(len(row)) if not stuck[i, j]]
        best = max((float(size[j]) for j in free), default=0.0)
        moving = [j for j in free if size[j] > 0 and size[j] >= min(float(least), best)]
        for j in moving:
            d[i, j] = row[j].sign() / len(moving)
        for j in range(len(row)):
            if stuck[i, j] and best > 0 and size[j] >= best:
                d[i, j] = 2 * row[j].sign()
    return d


@law("22b", "levels of sums of clipped lines, by bisection")
def levels_by_bisection() -> list[Measured]:
    """Σ min(f t, c) = total and Σ min(max(s − μ, 0), c) = total: eight terms, some flat, some capped at once."""
    slope, cap = _uniform(9, 8) ** 2 * 3, _uniform(9, 8, name="cap")
    slope[0, :4], cap[1, :3], cap[2, :2] = 0.0, 0.0, inf
    reach = torch.where(slope > 0, cap, 0).clamp_max(50)
    total = reach.sum(1, keepdim=True) * torch.linspace(0, 0.97, 9, dtype=F64)[:, None]
    t = levels.rising(slope, cap, total)
    beyond = levels.rising(slope[3:4], cap[3:4], reach[3:4].sum(1, keepdim=True) + 1, most=7.0)
    size = 2 * _uniform(9, 8, name="size")
    size[0, :3], cap = size[0, 0], cap.clamp_max(50)
    whole = size.minimum(cap).sum(1, keepdim=True)
    wanted = whole * torch.linspace(0.02, 1, 9, dtype=F64)[:, None]
    mu = levels.falling(size, cap, wanted)
    steps = torch.tensor([[3.0, 1.0]])
    return [
        equal("a rising sum", _bisected(lambda t: (slope * t).nan_to_num().minimum(cap).sum(1,
              keepdim=True) >= total,
              torch.full_like(total, 1e6)), t, 1e-9),
        equal("its value", total, (slope * t).minimum(cap).sum(1, keepdim=True), 1e-9),
        equal("capped by the most", t.clamp_max(0.3), levels.rising(slope, cap, total, most=0.3), 1e-9),
        equal("what the caps forbid", 7.0, beyond[0, 0], 0.0),
        equal("a falling sum", wanted, (size - mu).clamp_min(0).minimum(cap).sum(1, keepdim=True), 1e-9),
        equal("all of it", whole, (size - levels.falling(size, cap, whole)).clamp_min(0).minimum(cap).sum(1,
              keepdim=True), 1e-9),
        equal("where the sum is flat", 1.0, (steps - levels.falling(steps, torch.ones(1, 2), torch.ones(1, 1))).clamp(
              0, 1).sum()),
        equal("its level", _bisected(lambda m: (size - m).clamp_min(0).minimum(cap).sum(1, keepdim=True) <= wanted,
              torch.full_like(total, 3.0)), mu, 1e-9),
        equal("levels are not below 0", 0.0, mu.clamp_max(0).amin(), 1e-12),
    ]  # fmt: skip


def _bisected(enough, top: Tensor) -> Tensor:
    low, high = torch.zeros_like(top), top
    for _ in range(80):
        middle = (low + high) / 2
        there = enough(middle)
        low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    return high


class _Half(Counted):
    """Draws that are all ½."""

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return torch.full((1, *shape), 0.5, dtype=F64)


@law("19e", "differences of scores: their mean square at walls, by quadrature")
def squares_of_differences() -> list[Measured]:
    """E[(v⁺ − v⁻)²] of one coordinate at ten distances from two walls, for normal and ±1 directions: to 10⁻⁸."""
    lo, hi, sigma = -1.0, 2.0, 0.7
    v = torch.linspace(lo, hi, 10, dtype=F64)[None]
    nodes = torch.linspace(-12, 12, 200_001, dtype=F64)[:, None]
    plus, minus = (v + sigma * nodes).clamp(lo, hi), (v - sigma * nodes).clamp(lo, hi)
    density = (-(nodes**2) / 2).exp() / (2 * pi) ** 0.5
    normal = ((plus - minus) ** 2 * density).sum(0) * 24 / 200_000
    signs = ((v + sigma).clamp(lo, hi) - (v - sigma).clamp(lo, hi)) ** 2
    draws = Noise.of(SEED, 4, dtype=F64).each(torch.arange(4))
    u = _normal(1, 10)
    up, down = pair(v, u, sigma, Box(lo, hi))
    return [
        equal("normal directions", normal[None], square(v, sigma, Box(lo, hi), "gaussian"), 1e-7),
        equal("signs", signs, square(v, sigma, Box(lo, hi), "rademacher")),
        equal("far from walls, normal", 4 * sigma**2, square(v, sigma, Box(-99.0, 99.0), "gaussian").mean()),
        equal("the pair", torch.cat([(v + sigma * u).clamp(lo, hi), (v - sigma * u).clamp(lo, hi)]),
              torch.cat([up, down])),
        equal("normal draws", draws.normal((3,)), directions(draws, (3,), "gaussian")),
        equal("a draw of exactly ½", [[1.0]], directions(_Half(draws.noise, draws.step), (1,), "rademacher")),
        equal("signs drawn", torch.where(draws.uniform((30,)) < 0.5, -1, 1), directions(draws, (30,),
              "rademacher")),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ images
@law("25a", "pixels: the nearest change of k of them by brute force, and paint, position by position")
def pixels_by_brute_force() -> list[Measured]:
    """Colour images of 2 × 3 and flat rows; every choice of k positions is tried."""
    box = Box(
        torch.tensor([0.0, 0.1], dtype=F64).view(1, 2, 1, 1),
        torch.tensor([1.0, 0.8], dtype=F64).view(1, 2, 1, 1),
    )
    x = _uniform(3, 2, 2, 3) * 0.7 + 0.1
    v = x + 0.6 * _normal(3, 2, 2, 3)
    gaps = []
    for k in (0, 1, 2, 6):
        u = pixels_project(v, x, float(k), box)
        least = _nearest_pixels(v, x, box, k)
        gaps.append((least, (u - v).square().flatten(1).sum(1), changed(u, x).sum(1) <= k))
    row = _uniform(2, 4)
    far = row + torch.tensor([[0.1, -0.5, 0.2, 0.0], [0.0, 0.0, 0.3, 0.4]], dtype=F64)
    place = torch.tensor([[0, 5, 0], [2, 2, 1], [3, 4, 5]])
    colour = _uniform(3, 3, 2, name="colour")
    one = painted(x, place, colour)
    expected, fewer = flat(x).clone(), flat(x).clone()
    counts = torch.tensor([1.0, 2.0, 0.0])
    for i in range(3):
        for slot in range(3):
            expected[i, :, place[i, slot]] = colour[i, slot]
            if slot < counts[i]:
                fewer[i, :, place[i, slot]] = colour[i, slot]
    value = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    lo, hi = walls(box, x)
    mixed_k = pixels_project(v, x, torch.tensor([1.0, 2.0, 0.0], dtype=F64), box)
    moved = x.clone()
    moved[0, 1, 0, 2] += 0.1
    moved[1, 0, 1, 1] -= 0.1
    return [
        *(equal(f"distance of k = {k}", least, found) for k, (least, found, _) in zip((0, 1, 2, 6), gaps)),
        equal("k positions at most", torch.ones(4, 3), torch.stack([few for _, _, few in gaps])),
        equal("k of each row", torch.stack([_nearest_pixels(v[i:i + 1], x[i:i + 1], box, k)[0] for i,
              k in enumerate((1, 2, 0))]),
              (mixed_k - v).square().flatten(1).sum(1)),
        equal("of flat rows", torch.tensor([[0, 1, 0, 0], [0, 0, 0, 1]]), pixels_project(far, row, 1.0, Box(-9.0,
              9.0)) != row),
        equal("the k largest, the first of equals", [[0, 1, 1, 0], [1, 0, 0, 0]], first(value,
              torch.tensor([2.0, 1.0]))),
        equal("paint, the later over the earlier", expected.view_as(x), one),
        equal("the first k alone", fewer.view_as(x), painted(x, place, colour, counts)),
        equal("walls of each channel", [[0.0] * 6, [0.1] * 6, [1.0] * 6, [0.8] * 6], torch.cat([lo, hi])),
        equal("positions that differ", [[2], [4]], changed(moved, x)[:2].nonzero()[:, 1:]),
        equal("channels and extents", [2, 2, 3, 1, 4], [grid(x)[0], *grid(x)[1], grid(row)[0], *grid(row)[1]]),
    ]  # fmt: skip


def _nearest_pixels(v: Tensor, x: Tensor, box: Box, k: int) -> Tensor:
    inside, best = flat(box.clamp(v)), torch.full((len(x),), inf, dtype=F64)
    for chosen in combinations(range(6), min(k, 6)):
        u = flat(x).clone()
        u[:, :, list(chosen)] = inside[:, :, list(chosen)]
        best = best.minimum((u - flat(v)).square().flatten(1).sum(1))
    return best


@law("26d", "turned images and windows, pixel by pixel")
def images_by_loops() -> list[Measured]:
    """Bilinear interpolation by a loop over four neighbours, beyond each border; bumps by their sums."""
    x = _uniform(2, 2, 3, 5)
    angle, scale = torch.tensor([0.4, -1.1], dtype=F64), torch.tensor([0.8, 1.7], dtype=F64)
    shift = torch.tensor([[0.6, -1.2], [-0.3, 0.45]], dtype=F64)
    found = [
        equal(f"beyond the edge: {border}", _turned(x, angle, shift, scale, border),
              turned(x, angle, shift, scale, border), 1e-9)
        for border in ("zeros", "border", "reflection")
    ]  # fmt: skip
    for h, w, q in ((3, 3, 2), (5, 4, 1), (1, 6, 2), (2, 2, 2)):
        eta = bump(h, w, q)
        found += [
            equal(f"a bump of {h} × {w}, q = {q}", _bump(h, w, q), eta),
            equal(f"lobes of {h} × {w}, q = {q}", _lobes(h, w, q), lobes(h, w, q)),
        ]
    i = torch.tensor([0, 9, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001, 6001, 8001, 9999])
    passed = [sum(10_000 * int(each) // 5000 > fall for fall in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
              for each in i]  # fmt: skip
    given = [
        (0.8, 28, 28),
        (0.05, 28, 28),
        (0.001, 28, 28),
        (0.3, 1, 20),
        (0.3, 20, 1),
        (0.9, 3, 40),
        (0.9, 40, 3),
    ]
    grown = [(0.1, 10, 10), (0.16, 10, 10), (0.3, 1, 20), (0.001, 28, 28)]
    return [
        *found,
        equal("zeros beyond the edge, unless told", turned(x, angle, shift, scale, "zeros"), turned(x, angle,
              shift, scale)),
        equal("how often p was halved", passed, level(i, 5000)),
        equal("windows", [(25, 25), (6, 6), (1, 1), (1, 6), (6, 1), (3, 36), (36, 3)],
              [sides(*each) for each in given]),
        equal("odd windows", [(3, 3), (5, 5), (1, 7), (3, 3)], [sides(*each, odd=True) for each in grown]),
    ]  # fmt: skip


def _turned(x: Tensor, angle: Tensor, shift: Tensor, scale: Tensor, border: str) -> Tensor:
    out, (h, w) = torch.zeros_like(x), x.shape[2:]

    def beyond(at: float, side: int) -> float:
        if border == "border":
            return min(max(at, 0.0), side - 1.0)
        if border == "reflection":
            at = (at + 0.5) % (2 * side)
            at = min(at, 2 * side - at) - 0.5
            return min(max(at, 0.0), side - 1.0)
        return at

    for b in range(len(x)):
        c, s = float(angle[b].cos()), float(angle[b].sin())
        for i in range(h):
            for j in range(w):
                down = (i - (h - 1) / 2 - float(shift[b, 0])) / float(scale[b])
                right = (j - (w - 1) / 2 - float(shift[b, 1])) / float(scale[b])
                row = beyond(c * down + s * right + (h - 1) / 2, h)
                column = beyond(c * right - s * down + (w - 1) / 2, w)
                top, left = int(row // 1), int(column // 1)
                for m in (top, top + 1):
                    for n in (left, left + 1):
                        if 0 <= m < h and 0 <= n < w:
                            out[b, :, i, j] += x[b, :, m, n] * (1 - abs(row - m)) * (1 - abs(column - n))
    return out


def _bump(h: int, w: int, q: int) -> Tensor:
    eta, last = torch.zeros(h, w, dtype=F64), max(h, w) // 2 + 1
    for i in range(h):
        for j in range(w):
            r = max(abs(i - h // 2), abs(j - w // 2))
            eta[i, j] = sum(k ** (-4 / q) for k in range(r + 1, last + 1))
    return eta / eta.abs().pow(q).sum().pow(1 / q)


def _lobes(h: int, w: int, q: int) -> Tensor:
    def one(h: int, w: int) -> Tensor:
        above = h // 2
        eta = torch.cat(
            [_bump(above, w, q) if above else torch.zeros(0, w, dtype=F64), -_bump(h - above, w, q)]
        )
        return eta / eta.abs().pow(q).sum().pow(1 / q)

    return torch.stack([one(h, w), one(w, h).T])
