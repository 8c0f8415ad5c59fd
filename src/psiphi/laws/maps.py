"""Laws 7j, 26e and 26f: images under invertible maps, and the geometry of feature maps, where both are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from psiphi.basis.noise import Noise, generator
from psiphi.formulas.distributions import DiagonalNormal
from psiphi.formulas.features import farthest, normalised, steepest
from psiphi.formulas.flows import Flowed
from psiphi.laws._law import Measured, at_most, equal, law

SEED = 26
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


class _Cubes:
    """z = u³, coordinate by coordinate."""

    @staticmethod
    def call_and_ladj(u: Tensor) -> tuple[Tensor, Tensor]:
        return u**3, (3 * u**2).log().sum(-1)

    @property
    def inv(self) -> _Roots:
        return _Roots()


class _Roots:
    @staticmethod
    def call_and_ladj(z: Tensor) -> tuple[Tensor, Tensor]:
        u = z.sign() * z.abs() ** (1 / 3)
        return u, -(3 * u**2).log().sum(-1)


@law("7j", "the image of a normal under u³: its density, draws and mean")
def images_of_normals() -> list[Measured]:
    """E (μ + σε)³ = μ³ + 3μσ² over draws and their mirror images; densities by the change of variables: to 10⁻⁹."""
    base = DiagonalNormal(_normal(5, 3), 0.3 * _normal(5, 3, name="scale"))
    q, noise = Flowed(base, _Cubes()), Noise.of(SEED, 5, dtype=F64)
    u = base.rsample(noise, 4)
    density = base.log_prob(u) - (3 * u**2).log().sum(-1)
    z, log_q = q.rsample_log_prob(noise, 4)
    squares = Noise.of(0, 32, dtype=F64).normal((3,)).square().mean(0)
    none = Flowed(DiagonalNormal(_normal(0, 3), _normal(0, 3)), _Cubes())
    return [
        equal("draws", u**3, z),
        equal("draws alone", u**3, q.rsample(noise, 4)),
        equal("ln q of draws", density, log_q),
        equal("ln q of given points", density, q.log_prob(u**3), 1e-9),
        equal("its mean, over fixed draws", base.mean**3 + 3 * base.mean * base.log_scale.exp() ** 2 * squares, q.mean),
        equal("of two rows of five", q.mean[[1, 3]],
              Flowed(DiagonalNormal(base.mean[[1, 3]], base.log_scale[[1, 3]]), _Cubes()).mean),
        equal("one draw, unless told", [1, 1], [len(q.rsample(noise)), len(q.rsample_log_prob(noise)[0])]),
        equal("of no rows", 0, none.log_prob(torch.empty(0, 3, dtype=F64)).numel()),
    ]  # fmt: skip


LENGTHS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "a line": (lambda t: t, 0.5, 0.5),
    "a line that ends at ε": (lambda t: t, 1.0, 1.0),
    "one that ends a hair above": (lambda t: t, 1 - 1e-11, 1 - 1e-11),
    "one that ends below": (lambda t: t, 3.0, 1.0),
    "one with ε = 0": (lambda t: t, 0.0, 0.0),
    "a square": (lambda t: t**2, 0.5, 0.5**0.5),
    "a ninth power": (lambda t: t**9, 0.5, 0.5 ** (1 / 9)),
    "a root": (lambda t: 2 * t.sqrt(), 0.5, 0.0625),
    "a jump": (lambda t: (t > 0.7).to(t), 0.5, 0.7),
    "infinite beyond a wall": (lambda t: torch.where(t > 0.7, torch.inf, t), 0.9, 0.7),
}
"""ℓ, ε and the largest t with ℓ(t) ≤ ε."""


@law("26f", "the farthest point by secants: the very points of the method, one row at a time")
def farthest_by_secants() -> list[Measured]:
    """ℓ of known roots, straight, curved, with a jump: the points looked at are those of the scalar method."""
    eps = torch.tensor([each[1] for each in LENGTHS.values()], dtype=F64)
    roots = torch.tensor([each[2] for each in LENGTHS.values()], dtype=F64)
    looked: list[list[float]] = [[] for _ in LENGTHS]

    def length(t: Tensor, rows: Tensor) -> Tensor:
        every = torch.stack([each[0](t) for each in LENGTHS.values()], 1)
        return every.gather(1, rows[:, None]).squeeze(1)

    def watched(t: Tensor, rows: Tensor) -> Tensor:
        for row, at in zip(rows.tolist(), t.tolist()):
            looked[row].append(at)
        return length(t, rows)

    found = farthest(watched, eps)
    points = [list(each) for each in looked]
    coarse, rows = farthest(length, eps, 1e-3), torch.arange(len(eps))
    single = farthest(lambda t, rows: length(t.double(), rows).float(), eps.float())
    turns: list[int] = []
    farthest(lambda t, rows: (turns.append(1), (t > 0.7).to(t))[1], eps[:1], 1e-300)
    return [
        equal("the farthest points", roots, found, 1.1e-10),
        equal("no further than ε", 0 * roots, (length(found, rows) - eps).clamp_min(0)),
        equal("to a tolerance", roots, coarse, 1e-3),
        equal("none beyond its end", 0 * roots, (coarse - roots).clamp_min(0)),
        equal("in single precision", roots, single, 2e-6),
        equal("turns for any tolerance", 1 + 60, len(turns)),
        *(equal(f"points looked at: {name}", _illinois(each[0], each[1]), at, 1e-12)
          for (name, each), at in zip(LENGTHS.items(), points)),
    ]  # fmt: skip


def _illinois(length: Callable[[Tensor], Tensor], eps: float) -> list[float]:
    """Where the scalar method looks: an end that stays twice counts half; each third point halves the interval."""

    def above(t: float) -> float:
        return float(length(torch.tensor(t, dtype=F64))) - eps

    points, a, b, kept = [1.0], 0.0, 1.0, ""
    f, g = -eps, above(1.0)
    while g > 0 and b - a > 1e-10:
        made = len(points) - 1
        middle = made >= 12 or made % 3 == 2
        secant = 0.5 if g == torch.inf else a - f * (b - a) / (g - f)
        t = (a + b) / 2 if middle else min(max(secant, a + 5e-11), b - 5e-11)
        points.append(t)
        value = above(t)
        if value <= 0:
            a, f, g, kept = t, value, g / 2 if kept == "b" else g, "b"
        else:
            b, g, f, kept = t, value, f / 2 if kept == "a" else f, "a"
    return points


@law("26e", "features by a matrix: lengths and the steepest direction")
def features_by_matrices() -> list[Measured]:
    """a/‖a‖ of each place; (JᵀJ + ρI)⁻¹g by solving the equations, a matrix a row."""
    a = _normal(3, 4, 2, 5)
    unit = a / a.square().sum(1, keepdim=True).sqrt() / 10**0.5
    thin = 1e-10 * torch.tensor([[0.6, 0.8]], dtype=F64)
    j, g = _normal(6, 4, 3), _normal(6, 3, name="g")
    g[4], j[5] = 0.0, 0.0
    gram = j.transpose(1, 2) @ j
    found_by = []
    for damping in (0.0, 0.1):
        unit_g = g / g.norm(dim=1, keepdim=True).where(g.norm(dim=1, keepdim=True) > 0, 1)
        rho = damping * (j @ unit_g[..., None]).square().sum((1, 2))
        rho = torch.where((j @ unit_g[..., None]).square().sum((1, 2)) > 0, rho, damping)
        solved = torch.linalg.solve(gram[:4] + rho[:4, None, None] * torch.eye(3), unit_g[:4, :, None])
        seen = (j[:4] @ solved).square().sum((1, 2)).sqrt()
        size = seen.maximum((rho[:4] * solved.square().sum((1, 2))).sqrt())
        found_by.append((solved.squeeze(2) / size[:, None], _steepest(g, j, 3, damping)))
    blind = _steepest(g, j, 3, 0.1)[5]
    first = _steepest(g, j, 1, 0.0)[:4]
    straight = g[:4] / (j[:4] @ g[:4, :, None]).square().sum((1, 2)).sqrt()[:, None]
    return [
        equal("unit vectors of channels", unit, normalised(a), 1e-9),
        equal("of one place", a[:, :, 0, 0] / a[:, :, 0, 0].norm(dim=1, keepdim=True), normalised(a[:, :, 0, 0]), 1e-9),
        equal("of nothing", torch.zeros(2, 4, 3), normalised(torch.zeros(2, 4, 3, dtype=F64))),
        equal("of no rows", 0, normalised(torch.zeros(0, 4, 3)).numel()),
        equal("as thin as what is added to its length", thin / 2e-10, normalised(thin)),
        *(equal(f"the steepest direction, ρ = {rho}", expected, d[:4], 1e-9)
          for rho, (expected, d) in zip((0.0, 0.1), found_by)),
        equal("one step of its solver", straight, first, 1e-9),
        equal("of no gradient", torch.zeros(3), found_by[0][1][4]),
        equal("what J does not see, ‖d‖ = 1/√ρ", g[5] / g[5].norm() / 0.1**0.5, blind, 1e-9),
        equal("and without damping, nothing", torch.zeros(3), _steepest(g, j, 3, 0.0)[5]),
        equal("a gradient of any length", _steepest(g, j, 2, 0.1), _steepest(1e-150 * g, j, 2, 0.1), 1e-9),
        at_most("steepest: no direction of that length gains more", float((g[:4] * found_by[0][0]).sum(1).min()),
                float((g[:4] * found_by[0][1][:4]).sum(1).min()), 1e-9),
    ]  # fmt: skip


def _steepest(g: Tensor, j: Tensor, solves: int, damping: float) -> Tensor:
    def forward(d: Tensor) -> Tensor:
        return (j @ d[..., None]).squeeze(2)

    def backward(u: Tensor) -> Tensor:
        return (j.transpose(1, 2) @ u[..., None]).squeeze(2)

    return steepest(g, forward, backward, solves, damping)
