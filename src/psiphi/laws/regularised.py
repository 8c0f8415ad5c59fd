"""Laws 3 to 6: sparse, denoising and contractive codes."""

from __future__ import annotations

from math import log
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from psiphi import parts, zoo
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.calculus import squared_jacobian_norm
from psiphi.laws._law import Measured, at_most, law
from psiphi.networks import TopK
from psiphi.parts import END, adam
from psiphi.training import cosine, fit

SEED = 3


@law("3", "a k-sparse code keeps the k largest |h|, and the gradient flows there alone")
def k_sparse() -> list[Measured]:
    """Ties go to the lowest index; brute force by a stable sort. Half of the rows hold few distinct values."""
    k, gen = 5, generator(SEED, "k-sparse")
    smooth = torch.randn(200, 32, generator=gen, dtype=torch.float64)
    tied = torch.randint(1, 4, (200, 32), generator=gen) * smooth.sign()
    h = torch.cat([smooth, tied]).requires_grad_()
    code, upstream = TopK(k)(h), torch.randn(400, 32, generator=gen, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(code, h, upstream)
    kept = h.detach().abs().sort(dim=1, descending=True, stable=True).indices[:, :k]
    support = torch.zeros_like(h, dtype=torch.bool).scatter(1, kept, True)
    wanted = torch.where(support, h.detach(), 0)
    return [
        Measured("rows without exactly k non-zeros", 0, float(((code != 0).sum(1) != k).sum()), 0),
        Measured("|code − the k largest by brute force|", 0, float((code.detach() - wanted).abs().max()), 0),
        Measured(
            "|gradient − upstream| on the support, |gradient| off it",
            0,
            float((gradient - torch.where(support, upstream, 0)).abs().max()),
            0,
        ),
    ]


def _penalty(kind: str, over: str, layers: tuple[Tensor, ...]) -> Tensor:
    term = parts.sparsity(kind, (0.1, 0.3), (2.0, 5.0), over)
    return term.value(SimpleNamespace(q=SimpleNamespace(layers=layers)))


@law("4", "the sparsity penalty is Σ_k w_k s(ρ̂_k, ρ_k)")
def sparsity() -> list[Measured]:
    """Two layers of two neurons on two rows, by hand; and on a trained model ρ comes nearer to ρ̂, at least by half."""
    first = torch.tensor([[0.2, 0.4], [0.4, 0.0]], dtype=torch.float64)  # ρ_j = 0.3, 0.2; rows 0.3, 0.2
    second = torch.tensor([[0.5, 0.1], [0.7, 0.1]], dtype=torch.float64)  # ρ_j = 0.6, 0.1; rows 0.3, 0.4
    layers = (first, second)

    def kl(a: float, b: float) -> float:
        return a * log(a / b) + (1 - a) * log((1 - a) / (1 - b))

    by_hand = {
        ("kl", "batch"): 2 * (kl(0.1, 0.3) + kl(0.1, 0.2)) + 5 * (kl(0.3, 0.6) + kl(0.3, 0.1)),
        ("l2", "batch"): 2 * (0.2**2 + 0.1**2) + 5 * (0.3**2 + 0.2**2),
        ("l1", "batch"): 2 * (0.2 + 0.1) + 5 * (0.3 + 0.2),
        ("kl", "sample"): (2 * (kl(0.1, 0.3) + kl(0.1, 0.2)) + 5 * (0 + kl(0.3, 0.4))) / 2,
        ("l1-norm", "batch"): (2 * (0.6 + 0.4) + 5 * (0.6 + 0.8)) / 2,
        ("l2-norm", "batch"): (2 * (0.2**0.5 + 0.4) + 5 * (0.26**0.5 + 0.5**0.5)) / 2,
    }
    found = [
        Measured(f"{kind}, over the {over}", value, float(_penalty(kind, over, layers).mean()), 1e-9)
        for (kind, over), value in by_hand.items()
    ]
    even = torch.full((3, 2), 0.1, dtype=torch.float64), torch.full((3, 2), 0.3, dtype=torch.float64)
    found += [
        Measured(f"{kind} at ρ = ρ̂", 0, float(_penalty(kind, "batch", even)), 1e-9)
        for kind in ("kl", "l2", "l1")
    ]
    for rho, sign in ((0.05, -1.0), (0.2, 1.0)):
        h = torch.full((3, 2), rho, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(_penalty("kl", "batch", (h, even[1])), h)
        found.append(Measured(f"sign of ∂/∂ρ at ρ = {rho}, ρ̂ = 0.1", sign, float(slope.sign().mean()), 0))
    apart = {strength: _distance_to_target(strength) for strength in (0.0, 1.0)}
    return [
        *found,
        at_most("mean |ρ_j − ρ̂| trained with, against half of without", apart[0.0] / 2, apart[1.0]),
    ]


def _distance_to_target(strength: float) -> float:
    x = torch.rand(256, 12, generator=generator(SEED, "sparsity"))
    model = zoo.sparse_ae(12, latent_dim=10, target=0.1, strength=strength, seed=SEED)
    fit(model, x, steps=150, batch_size=256, lr=0.02, seed=SEED, quiet=True)
    with torch.no_grad():
        return float((model.encode(x).mean(0) - 0.1).abs().mean())


@law("5", "a denoising autoencoder is the score: (r(x) − x)/σ² = −(C + σ²I)⁻¹(x − m)")
def denoising() -> list[Measured]:
    """Affine r, Gaussian data with training mean m and covariance C, squared loss, code no smaller than the data.

    The error is relative, over test points; 2 % is what the noise of the last steps leaves.
    """
    sigma, gen = 0.6, generator(SEED, "denoising")
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.7, 0.0], [-0.4, 0.3, 0.5]])
    x = torch.randn(2048, 3, generator=gen) @ mixing.T + torch.tensor([1.0, -2.0, 0.5])
    model = zoo.denoising_ae(3, latent_dim=3, hidden=(), corruption=f"gaussian:{sigma}", seed=SEED)
    fit(model, x, steps=400, batch_size=2048, optimizer=adam(0.05, schedule=cosine()), seed=SEED, quiet=True)
    mean, covariance = x.mean(0), torch.cov(x.T, correction=0)
    points = x[:500] + sigma * torch.randn(500, 3, generator=gen)
    exact = -(points - mean) @ (covariance + sigma**2 * torch.eye(3)).inverse()
    with torch.no_grad():
        found = model.score(points)
    error = float((found - exact).norm() / exact.norm())
    denoised = float((model.denoise(points).detach() - points - sigma**2 * found).abs().max())
    return [
        at_most("relative error of the score", 0.02, error),
        Measured("|denoise(x) − x − σ² score(x)|", 0, denoised, 1e-5),
    ]


def _curved(latent_dim: int) -> nn.Module:
    gen = generator(SEED, "curved")
    network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, latent_dim)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=gen, dtype=torch.float64))
    return network


@law("6", "the contractive penalty is ‖∂φ/∂x‖²_F, and bounds how far a code moves")
def contractive() -> list[Measured]:
    """Exact against autograd's Jacobian; projections unbiased; ‖φ(x+δ) − φ(x)‖ − ‖J‖_F ‖δ‖ = O(‖δ‖²).

    The last with a code of one number and δ along its gradient, where the first-order terms are equal.
    """
    gen, phi = generator(SEED, "contractive"), _curved(3)
    x = torch.randn(6, 5, generator=gen, dtype=torch.float64).requires_grad_()
    exact = squared_jacobian_norm(phi(x), x)
    by_autograd = torch.stack(
        [torch.autograd.functional.jacobian(phi, row).square().sum() for row in x.detach()]  # pyright: ignore[reportAttributeAccessIssue]
    )
    many = x.detach()[:1].expand(4000, -1).contiguous().requires_grad_()
    model = zoo.contractive_ae(5, latent_dim=3, projections=2, seed=SEED).double()
    model.encoder = parts.Dirac(phi, model.statistics)
    trace = model.trace(many, Noise.of(SEED, 4000, dtype=torch.float64))
    estimates = model.objective.parts[1][1].value(trace).detach()
    return [
        Measured(
            "‖J‖²_F against autograd's, largest gap",
            0,
            float((exact.detach() - by_autograd).abs().max()),
            1e-9,
        ),
        Measured(
            "‖J‖²_F by two random projections",
            float(exact[0].detach()),
            float(estimates.mean()),
            4 * float(estimates.std()) / 4000**0.5,
        ),
        at_most("−(slope of the remainder against ‖δ‖, log-log)", -1.8, -_remainder_slope()),
        Measured("the objective adds λ ‖J‖²_F", *_weighted(), 1e-9),
    ]


def _remainder_slope() -> float:
    phi = _curved(1)
    x = torch.randn(1, 5, generator=generator(SEED, "slope"), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(phi(x).sum(), x)
    sizes = torch.logspace(-3, -1, 9, dtype=torch.float64)
    with torch.no_grad():
        moved = torch.stack([(phi(x + size * gradient / gradient.norm()) - phi(x)).norm() for size in sizes])
    left = (moved - gradient.norm() * sizes).abs()
    a, b = sizes.log(), left.log()
    return float(((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum())


def _weighted() -> tuple[float, float]:
    model: Any = zoo.contractive_ae(5, latent_dim=3, strength=0.7, seed=SEED).double()
    x = torch.randn(16, 5, generator=generator(SEED, "weighted"), dtype=torch.float64)
    losses = model.objective(model.trace(x, Noise.of(SEED, 16, dtype=torch.float64)), END)
    at = x.clone().requires_grad_()
    penalty = squared_jacobian_norm(model.encoder(at).mean, at).mean()
    return float((losses["nll"] + 0.7 * penalty).detach()), float(losses["loss"].detach())
