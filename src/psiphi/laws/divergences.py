"""Laws 11 and 13: divergences of densities, and transport between samples."""

from __future__ import annotations

from math import gamma, inf, log, pi, sqrt
from typing import Any

import torch
from torch import Tensor

from psiphi import divergences as dv
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.distributions import FullNormal
from psiphi.formulas.divergences import bures, directions, sliced_transport, transport_1d
from psiphi.formulas.mixtures import NormalMixture
from psiphi.laws._law import Measured, law

SEED = 13
DRAWS = 40_000


def _gaussians(dimension: int) -> tuple[FullNormal, FullNormal]:
    """Two correlated normals that overlap, float64."""
    gen = generator(SEED, "gaussians", dimension)

    def one(scale: float) -> FullNormal:
        mean = torch.randn(dimension, generator=gen, dtype=torch.float64) / 2
        mixed = torch.randn(dimension, dimension, generator=gen, dtype=torch.float64) / 4
        eye = torch.eye(dimension, dtype=torch.float64)
        return FullNormal(mean, torch.linalg.cholesky(scale * eye + mixed @ mixed.T))

    return one(1.0), one(1.5)


def _torch(p: FullNormal) -> torch.distributions.MultivariateNormal:
    return torch.distributions.MultivariateNormal(p.mean, p.tril @ p.tril.T)


@law("11", "KL and Jeffreys of Gaussians in closed form are what draws estimate")
@torch.no_grad()
def gaussian_divergences() -> list[Measured]:
    """The mean of ln p/q over draws and densities of torch within 4 SE; Jeffreys is also
    ½ tr(Σ₁⁻¹Σ₂ + Σ₂⁻¹Σ₁) − d + ½ Δᵀ(Σ₁⁻¹ + Σ₂⁻¹)Δ; KL is not symmetric: σ 1 and 2 give 2 ln 2 − 15/8."""
    found = []
    for dimension in (1, 2, 5):
        p, q = _gaussians(dimension)
        p_, q_ = _torch(p), _torch(q)
        white = torch.randn(DRAWS, dimension, generator=generator(SEED, dimension), dtype=torch.float64)
        x, y = (each.mean + white @ each.scale_tril.T for each in (p_, q_))
        there, back = p_.log_prob(x) - q_.log_prob(x), q_.log_prob(y) - p_.log_prob(y)
        forward, reverse = float(dv.kl(p, q)), float(dv.kl(q, p))
        for what, closed, terms in (("KL(p‖q)", forward, there), ("KL(q‖p)", reverse, back)):
            found.append(Measured(f"d = {dimension}: {what}, nats", closed, *_mean(terms)))
        gap = p_.mean - q_.mean
        one, other = p_.precision_matrix, q_.precision_matrix
        traces = (one @ q_.covariance_matrix + other @ p_.covariance_matrix).trace() / 2 - dimension
        jeffreys = float(traces + gap @ (one + other) @ gap / 2)
        found.append(Measured(f"d = {dimension}: Jeffreys, nats", jeffreys, float(dv.jeffreys(p, q)), 1e-10))
    narrow, wide = (torch.distributions.Normal(0.0, sigma) for sigma in (1.0, 2.0))
    asymmetry = float(dv.kl(narrow, wide)) - float(dv.kl(wide, narrow))
    found.append(Measured("σ 1 and 2: KL(p‖q) − KL(q‖p), nats", 2 * log(2) - 15 / 8, asymmetry, 1e-6))
    return found


def _mean(terms: Tensor) -> tuple[float, float]:
    """The mean, and four of its standard errors."""
    return float(terms.mean()), 4 * float(terms.std()) / sqrt(len(terms))


@law("11a", "JS by quadrature is what draws estimate, symmetric, and at most ln 2")
@torch.no_grad()
def jensen_shannon() -> list[Measured]:
    """Against H(m) − ½H(p) − ½H(q) by the trapezoidal rule on the line; in space, normals that differ by a shift of two
    σ within 4 SE of the same on the line."""
    found = []
    normal = torch.distributions.Normal
    zero, one = (torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0))
    two_modes = NormalMixture(
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([[-2.0], [2.0]], dtype=torch.float64),
        torch.full((2, 1), -1.0, dtype=torch.float64),
    )
    pairs: list[tuple[str, Any, Any]] = [
        ("N(0, 1), N(1, 1)", normal(zero, one), normal(one, one)),
        ("N(0, 1), N(6, ¼)", normal(zero, one), normal(6 * one, one / 2)),
        ("N(0, 1), two modes", normal(zero, one), two_modes),
    ]
    for what, p, q in pairs:
        estimate = dv.js(p, q)
        found.append(Measured(f"{what}: JS, nats", _by_entropies(p, q), float(estimate), 1e-8))
        found.append(
            Measured(f"{what}: JS(p, q) − JS(q, p)", 0.0, float(estimate) - float(dv.js(q, p)), 1e-9)
        )
    p, _ = _gaussians(3)
    q = FullNormal(p.mean + p.tril @ torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64), p.tril)
    apart = _by_entropies(normal(zero, one), normal(2 * one, one))
    for what, got in (
        ("JS(p, q)", dv.js(p, q, seed=SEED)),
        ("JS(q, p)", dv.js(_torch(q), _torch(p), seed=SEED)),
    ):
        found.append(Measured(f"d = 3, σ alike: {what} by draws", apart, float(got), 4 * got.standard_error))
    return found


def _by_entropies(p: Any, q: Any) -> float:
    """JS = H(m) − ½ H(p) − ½ H(q), m = ½(p + q)."""
    x = torch.linspace(-30, 30, 40_001, dtype=torch.float64)
    one, other = (each.log_prob(x if hasattr(each, "loc") else x[:, None]).exp() for each in (p, q))
    middle, left, right = (
        -float(torch.special.xlogy(r, r).sum()) * 60 / 40_000 for r in ((one + other) / 2, one, other)
    )
    return middle - (left + right) / 2


@law("11b", "on disjoint supports KL is +inf and JS is ln 2")
@torch.no_grad()
def disjoint_supports() -> list[Measured]:
    """Uniforms on the line and in the plane, and categories, in closed form, by quadrature and by draws; 1 stands for
    +inf. Categories that share one of two: JS = ln 2 / 2."""
    uniform, several = torch.distributions.Uniform, torch.distributions.Independent
    left, right = uniform(0.0, 1.0), uniform(2.0, 3.0)
    square = [several(uniform(torch.full((2,), at), torch.full((2,), at + 1)), 1) for at in (0.0, 2.0)]
    shifted = uniform(0.5, 1.5)

    def categories(*even: int) -> torch.distributions.Categorical:
        return torch.distributions.Categorical(torch.eye(4)[list(even)].mean(0))

    table = [
        ("[0, 1] and [2, 3]", left, right),
        ("[0, 1] and [½, 3/2]", left, shifted),
        ("squares", *square),
        ("[0, 1] and a triangle on [2, 4]", left, _Triangle()),
        ("categories 0, 1 and 2, 3", categories(0, 1), categories(2, 3)),
        ("categories 0, 1 and 1, 2", categories(0, 1), categories(1, 2)),
    ]
    found = []
    for what, p, q in table:
        found += [
            Measured(f"{what}: KL(p‖q) is +inf", 1.0, float(float(dv.kl(p, q)) == inf), 0.0),
            Measured(f"{what}: KL(q‖p) is +inf", 1.0, float(float(dv.kl(q, p)) == inf), 0.0),
        ]
        half = what in ("[0, 1] and [½, 3/2]", "categories 0, 1 and 1, 2")
        found.append(Measured(f"{what}: JS, nats", log(2) / 2 if half else log(2), float(dv.js(p, q)), 1e-7))
    return found


class _Triangle:
    """The sum of two uniforms, on [2, 4]; its log density is −inf elsewhere."""

    def __call__(self, n: int, noise: Noise) -> Tensor:
        return 2 + noise.uniform((2,)).sum(1, keepdim=True)

    def log_prob(self, x: Tensor) -> Tensor:
        return (1 - (x[:, 0] - 3).abs()).clamp_min(0).log()


@law("13", "exact transport of a shift is the shift, on the line it is sorting")
@torch.no_grad()
def transport() -> list[Measured]:
    """Orders 1 and 2, to 1e-9 in float64; on the line sorting equals the linear programme, for unequal sizes too."""
    from ot import emd2

    x = torch.randn(150, 6, generator=generator(SEED, "x"), dtype=torch.float64)
    shift = torch.randn(6, generator=generator(SEED, "shift"), dtype=torch.float64)
    found = [
        Measured(
            f"W{order} between a sample and its translate",
            float(shift.norm()),
            float(dv.wasserstein(x, (x + shift).flip(0), order=order)),
            1e-9,
        )
        for order in (1, 2)
    ]
    for n, m in ((150, 150), (150, 97)):
        one, other = x[:n, 0], 1.5 * x[:m, 1] + 0.3
        for order in (1, 2):
            costs = (one[:, None] - other).abs() ** order
            wanted = float(emd2([], [], costs.numpy()))  # pyright: ignore
            got = float(transport_1d(one, other, order))
            found.append(Measured(f"{n} and {m} numbers, order {order}: sorting", wanted, got, 1e-10))
    return found


@law("13a", "transport between Gaussians is Bures' distance")
@torch.no_grad()
def bures_distance() -> list[Measured]:
    """Against scipy's matrix square root; and √(‖Δ‖² + Σ(σ₁ − σ₂)²) where covariances commute, singular ones too."""
    from scipy.linalg import sqrtm

    found = []
    for dimension in (1, 2, 5):
        p, q = _gaussians(dimension)
        one, other = p.tril @ p.tril.T, q.tril @ q.tril.T
        root = sqrtm(other.numpy())
        cross = torch.as_tensor(sqrtm(root @ one.numpy() @ root))
        squared = (p.mean - q.mean).square().sum() + (one + other - 2 * cross).trace()
        got = float(dv.wasserstein(p, q, order=2))
        found.append(Measured(f"d = {dimension}: W2", float(squared) ** 0.5, got, 1e-9))
    spreads = torch.tensor([[0.0, 1.0, 2.0], [0.5, 0.0, 3.0]], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]], dtype=torch.float64)
    got = bures(means[0], spreads[0].square().diag(), means[1], spreads[1].square().diag())
    found.append(Measured("singular covariances: W2", sqrt(9 + 0.25 + 1 + 1), float(got), 1e-9))
    return found


@law("13b", "sliced transport of a shift is ‖Δ‖ Γ(d/2)/(√π Γ((d+1)/2)), of order 2 ‖Δ‖/√d")
@torch.no_grad()
def sliced_shift() -> list[Measured]:
    """Within 4 SE over 2 000 directions; each direction alone is |⟨θ, Δ⟩|."""
    found = []
    for dimension in (2, 3, 16):
        x = torch.randn(50, dimension, generator=generator(SEED, dimension), dtype=torch.float64)
        shift = torch.randn(dimension, generator=generator(SEED, "Δ"), dtype=torch.float64)
        size = float(shift.norm())
        theories = (
            size * gamma(dimension / 2) / (sqrt(pi) * gamma((dimension + 1) / 2)),
            size / sqrt(dimension),
        )
        for order, theory in zip((1, 2), theories):
            got = dv.sliced_wasserstein(x, x + shift, order=order, directions=2000, seed=SEED)
            found.append(
                Measured(f"d = {dimension}: sliced W{order}", theory, float(got), 4 * got.standard_error)
            )
        along = directions(Noise.of(SEED, 20, dtype=torch.float64), dimension)
        off = (sliced_transport(x, x + shift, along) - (along @ shift).abs()).abs().max()
        found.append(Measured(f"d = {dimension}: one direction, largest difference", 0.0, float(off), 1e-10))
    return found
