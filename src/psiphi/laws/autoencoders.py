"""Laws 1, 2, 7a, 7b, 7e: autoencoders and the evidence lower bound."""

from __future__ import annotations

from math import asin, degrees
from typing import Any

import torch
from torch import Tensor
from zuko.transforms import DependentTransform, MonotonicAffineTransform

from psiphi import parts, zoo
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.distributions import DiagonalNormal, FullNormal, kl
from psiphi.formulas.flows import Flowed
from psiphi.laws._law import Measured, at_most, law
from psiphi.laws._linear_gaussian import LinearGaussian
from psiphi.parts import END, LatentTrace, StandardPrior, adam
from psiphi.training import cosine, fit

SEED = 7


def _gapped(rows: int = 400) -> Tensor:
    """Centred data in 6 dimensions, rotated, with a gap in the spectrum after the second."""
    gen = generator(SEED, "gapped")
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=gen))[0]
    x = torch.randn(rows, 6, generator=gen) * torch.tensor([2.0, 1.5, 0.5, 0.4, 0.3, 0.2]) @ rotation.T
    return x - x.mean(0)


@law("1", "a linear autoencoder is principal component analysis")
def linear_autoencoder() -> list[Measured]:
    """Error = Σ discarded eigenvalues (10⁻³ relative); principal angles of the subspaces < 1°."""
    x = _gapped()
    eigenvalues, vectors = torch.linalg.eigh(x.T @ x / len(x))
    model = zoo.ae(6, latent_dim=2, hidden=(), seed=SEED)
    fit(
        model,
        x,
        steps=500,
        batch_size=len(x),
        optimizer=adam(0.05, schedule=cosine()),
        seed=SEED,
        quiet=True,
    )
    with torch.no_grad():
        error = float((x - model.reconstruct(x)).square().sum(1).mean())
        directions = model.decode(torch.eye(2)) - model.decode(torch.zeros(2, 2))
    found, best = torch.linalg.qr(directions.double().T)[0], vectors[:, -2:].double()
    sine = float(torch.linalg.svdvals(found - best @ (best.T @ found)).max())
    discarded = float(eigenvalues[:-2].sum())
    return [
        Measured("squared error against Σ discarded eigenvalues", discarded, error, 1e-3 * discarded),
        at_most("largest principal angle, degrees", 1.0, degrees(asin(min(1.0, sine)))),
    ]


THREE_POINTS, SHARES = (0.0, 1.0, 4.0), (0.45, 0.30, 0.25)
BATCH = 4096


def _three_points(n: int, noise: Noise) -> Tensor:
    """Draws of 0, 1 and 4 with probabilities 0.45, 0.30, 0.25: the reference distribution as a sampler."""
    u = noise.uniform((1,))
    return torch.where(u < 0.45, 0.0, torch.where(u < 0.75, 1.0, 4.0))


@law("2", "with a constant code the best message is the mean, the median, …")
def task() -> list[Measured]:
    """Squared, absolute and Huber loss; the reference distribution as 20 rows and as a sampler.

    The Huber optimum m solves Σ p clip(m − x, −1, 1) = 0: 0.45 m + 0.30 (m − 1) − 0.25 = 0. On the sampler the
    bound is four standard errors of the estimate from a single batch; the steps average over many.
    """
    x, p = torch.tensor(THREE_POINTS), torch.tensor(SHARES)
    rows = torch.repeat_interleave(x, torch.tensor([9, 6, 5]))[:, None]
    mean, huber = float(p @ x), 0.55 / 0.75
    spread = float(p @ (x - mean) ** 2) ** 0.5
    pulls = (huber - x).clamp(-1, 1)
    bounds = {
        "squared": (mean, 4 * spread / BATCH**0.5),
        "absolute": (1.0, 0.01),
        "huber": (huber, 4 * float(p @ pulls**2) ** 0.5 / 0.75 / BATCH**0.5),
    }
    found = []
    for loss, (best, bound) in bounds.items():
        for name, source, size, tolerance in (
            ("rows", rows, 20, 1e-3),
            ("sampler", _three_points, BATCH, bound),
        ):
            model = zoo.ae(1, latent_dim=0, hidden=(), loss=loss, seed=SEED)
            torch.nn.init.ones_(model.decoder.network.layers[0].bias)  # pyright: ignore[reportAttributeAccessIssue]
            rule = adam(0.05, schedule=cosine())
            fit(model, source, steps=200, batch_size=size, optimizer=rule, seed=SEED, quiet=True)
            message = float(model.reconstruct(torch.zeros(1, 1)).detach())
            found.append(Measured(f"{loss} loss, {name}: the message", best, message, tolerance))
    return found


def sigma_points(q: DiagonalNormal | FullNormal) -> Tensor:
    """μ ± √d L e_j, (2d, B, d): their mean of a quadratic is its expectation under q, exactly."""
    tril = q.tril if isinstance(q, FullNormal) else torch.diag_embed(q.log_scale.exp())
    steps = (q.mean.shape[-1] ** 0.5 * tril).movedim(-1, 0)
    return torch.cat([q.mean + steps, q.mean - steps])


@law("7a", "ELBO(q) = ln p(x) − KL(q ‖ p(z|x)) for any q")
def elbo_identity() -> list[Measured]:
    """On a linear-Gaussian model in float64; the expectation over q is exact, by sigma points."""
    model = LinearGaussian.random(5, 3, 0.7, SEED, torch.float64)
    x, gen = model.draw(16, SEED), generator(SEED, "q")
    mean = torch.randn(16, 3, generator=gen, dtype=torch.float64)
    log_scale = 0.5 * torch.randn(16, 3, generator=gen, dtype=torch.float64)
    tril = torch.tril(torch.randn(16, 3, 3, generator=gen, dtype=torch.float64), -1) + torch.diag_embed(
        log_scale.exp()
    )
    found = []
    for name, q in (("diagonal", DiagonalNormal(mean, log_scale)), ("full", FullNormal(mean, tril))):
        z = sigma_points(q)
        prior = StandardPrior(3).double()()
        trace = LatentTrace(x, x, q, z, model.likelihood(z), prior)
        elbo = -(parts.nll + parts.rate)(trace, END)["loss"]
        wanted = (model.log_prob(x) - kl(q, model.posterior(x))).mean()
        found.append(Measured(f"ELBO of an arbitrary {name} q, nats", float(wanted), float(elbo), 1e-8))
    return found


@law("7b", "a linear VAE is probabilistic PCA")
def linear_vae() -> list[Measured]:
    """Marginal likelihood of the trained model within 0.01 nat of the maximum-likelihood one."""
    x = _gapped()
    model = zoo.vae(6, latent_dim=2, hidden=(), likelihood="gaussian", samples=4, seed=SEED)
    fit(
        model,
        x,
        steps=600,
        batch_size=len(x),
        optimizer=adam(0.04, schedule=cosine()),
        seed=SEED,
        quiet=True,
    )
    best = zoo.pca(6, latent_dim=2)
    fit(best, x, quiet=True)
    with torch.no_grad():
        bias = model.decode(torch.zeros(1, 2))[0]
        weight = (model.decode(torch.eye(2)) - bias).T
        likelihood: Any = model.decoder(torch.zeros(1, 2))
        scale = float(likelihood.log_scale.exp())
        found = LinearGaussian(weight.double(), bias.double(), scale).log_prob(x.double()).mean()
        ours, theirs = float(found), float(best.log_prob(x).mean())
    return [Measured("mean ln p(x), nats", theirs, ours, 0.01)]


@law("7e", "the reparametrised gradient is unbiased: ∇ E[z²] = (2μ, 2σ)")
def reparametrised_gradient() -> list[Measured]:
    """Each draw has μ and σ of its own, so that the spread of the gradients gives the standard error.

    Through z = L ε, ∇_L E[z₁² + 3 z₂²] = (2 L₁, 6 L₂) by rows; through an affine flow z = a u + b of
    u = μ + σ ε, (2a(aμ + b), 2a²σ).
    """
    rows, mu, sigma = 40_000, 0.7, 1.3
    mean = torch.full((rows, 1), mu, dtype=torch.float64, requires_grad=True)
    scale = torch.full((rows, 1), sigma, dtype=torch.float64, requires_grad=True)
    z = DiagonalNormal(mean, scale.log()).rsample(Noise.of(SEED, rows, dtype=torch.float64))
    by_mean, by_scale = torch.autograd.grad(z.square().sum(), [mean, scale])
    lower = torch.tensor([[1.2, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    tril = lower.expand(rows, 2, 2).clone().requires_grad_()
    z = FullNormal(torch.zeros(rows, 2, dtype=torch.float64), tril).rsample(
        Noise.of(SEED, rows, dtype=torch.float64)
    )
    (by_tril,) = torch.autograd.grad((z.square() * torch.tensor([1.0, 3.0])).sum(), tril)
    shift, log_slope = torch.tensor([[0.4], [0.5]], dtype=torch.float64)
    affine: Any = DependentTransform(MonotonicAffineTransform(shift, log_slope), 1)  # pyright: ignore[reportArgumentType]
    a = float(affine(torch.ones(1)) - affine(torch.zeros(1)))
    q = Flowed(DiagonalNormal(mean, scale.log()), affine)
    flow_mean, flow_scale = torch.autograd.grad(
        q.rsample(Noise.of(SEED, rows, dtype=torch.float64)).square().sum(), [mean, scale]
    )
    return [
        Measured(name, theory, float(g.mean()), 4 * float(g.std()) / rows**0.5)
        for name, theory, g in (
            ("∂/∂μ", 2 * mu, by_mean),
            ("∂/∂σ", 2 * sigma, by_scale),
            ("∂/∂L₁₁", 2 * 1.2, by_tril[:, 0, 0]),
            ("∂/∂L₂₁", 6 * -0.6, by_tril[:, 1, 0]),
            ("∂/∂L₂₂", 6 * 0.8, by_tril[:, 1, 1]),
            ("∂/∂μ through a flow", 2 * a * (a * mu + 0.4), flow_mean),
            ("∂/∂σ through a flow", 2 * a * a * sigma, flow_scale),
        )
    ]
