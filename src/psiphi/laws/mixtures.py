"""Law 10: a Gaussian mixture, the latent-variable model whose every answer is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from psiphi import zoo
from psiphi.basis.noise import generator, mix
from psiphi.laws._law import Measured, at_most, law
from psiphi.models import Mixture
from psiphi.models._mixture import FACTORS
from psiphi.training import fit

SEED = 10
REG = 1e-4


def _rows(rows: int = 400) -> Tensor:
    """Three overlapping blobs in three dimensions, of other shapes, far from 0 and not of unit scale."""
    gen = generator(SEED, "blobs")
    k = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), rows, replacement=True, generator=gen)
    mixing = torch.randn(3, 3, 3, generator=gen, dtype=torch.float64)
    centres = 2.5 * torch.randn(3, 3, generator=gen, dtype=torch.float64)
    eps = torch.randn(rows, 3, 1, generator=gen, dtype=torch.float64)
    return 7.0 + 3.0 * (centres[k] + (mixing[k] @ eps).squeeze(-1))


def _fitted(x: Tensor, covariance: str, **arguments: Any) -> Mixture:
    model = zoo.gaussian_mixture(x.shape[1], 3, covariance=covariance, seed=SEED, **arguments).double()
    fit(model, x, quiet=True)
    return model


def _normals(model: Mixture, noise: float = 0.0) -> list[MultivariateNormal]:
    covariances = model.covariances + noise**2 * torch.eye(model.means.shape[1], dtype=model.dtype)
    return [MultivariateNormal(m, c) for m, c in zip(model.centres.flatten(1), covariances)]


def _enumerated(model: Mixture, x: Tensor, noise: float = 0.0) -> Tensor:
    """w_k N(x; μ_k, Σ_k + noise² I), one k after the other, by another library, (B, K)."""
    each = [w * p.log_prob(x).exp() for w, p in zip(model.weights, _normals(model, noise))]
    return torch.stack(each, 1)


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@law("10a", "log-likelihood and responsibilities are scikit-learn's")
@torch.no_grad()
def scikit_learns_mixture() -> list[Measured]:
    """All covariance types, on fresh rows, scikit-learn fitted to the rows in their own units: to 10⁻⁶."""
    from sklearn.mixture import GaussianMixture

    x, new, found = _rows(), _rows(500)[400:] + 1.0, []
    for covariance in FACTORS:
        ours = _fitted(x, covariance, reg_covar=REG)
        unit = float(ours.statistics.sigma) ** 2
        theirs = GaussianMixture(
            3, covariance_type=covariance, reg_covar=REG * unit, tol=1e-4, max_iter=200,  # pyright: ignore[reportArgumentType]
            random_state=mix(SEED, "em") % (1 << 32),
        ).fit(x.numpy())  # fmt: skip
        density, shares = (
            torch.from_numpy(ask(new.numpy())) for ask in (theirs.score_samples, theirs.predict_proba)
        )
        found += [
            Measured(f"{covariance}: ln p(x), largest gap", 0.0, _gap(ours.log_prob(new), density), 1e-6),
            Measured(f"{covariance}: p(k|x), largest gap", 0.0, _gap(ours.encode(new), shares), 1e-6),
        ]
    return found


@law("10b", "the posterior is Bayes' rule by enumeration, and averages to the prior")
@torch.no_grad()
def mixture_posterior() -> list[Measured]:
    """p(k|x) = w_k p(x|k) / Σ_j w_j p(x|j); over exact draws x its mean is w_k, within four standard errors."""
    x, found = _rows(), []
    for covariance in FACTORS:
        model = _fitted(x, covariance)
        joint = _enumerated(model, x)
        total = joint.sum(1, keepdim=True)
        found += [
            Measured(f"{covariance}: p(k|x)", 0.0, _gap(model.posterior(x).mean, joint / total), 1e-9),
            Measured(f"{covariance}: ln p(x)", 0.0, _gap(model.log_prob(x), total.log().squeeze(1)), 1e-9),
        ]
        shares = model.encode(model.sample(20_000, seed=SEED))
        error = shares.std(0) / len(shares) ** 0.5
        off = ((shares.mean(0) - model.weights) / error).abs().max()
        found.append(at_most(f"{covariance}: E p(k|x) off w_k, in standard errors", 4.0, float(off)))
    return found


@law("10c", "expectation-maximisation never lowers the likelihood")
@torch.no_grad()
def likelihood_never_falls() -> list[Measured]:
    """Mean ln p(x) after 1, 2, … iterations from one start, no regularisation (which would not be a maximum)."""
    x, found = _rows(), []
    for covariance in FACTORS:
        path = [
            float(_fitted(x, covariance, reg_covar=0.0, iterations=n).log_prob(x).mean()) for n in range(1, 9)
        ]
        fall = max(a - b for a, b in pairwise(path))
        found += [
            at_most(f"{covariance}: largest fall of an iteration, nats", 0.0, fall, 1e-9),
            at_most(f"{covariance}: the start above the end, nats", -1e-3, path[0] - path[-1]),
        ]
    return found


@law("10d", "what is missing is filled by the conditional mean")
@torch.no_grad()
def mixture_imputation() -> list[Measured]:
    """E[x_m|x_o] = Σ_k p(k|x_o) [μ_m − Λ_mm⁻¹ Λ_mo (x_o − μ_o)]_k, Λ the precision, for every pattern."""
    x, found = _rows(60), []
    for covariance in FACTORS:
        model, worst = _fitted(_rows(), covariance), 0.0
        for code in range(8):
            seen = torch.tensor([bool(code >> i & 1) for i in range(3)])
            worst = max(worst, _gap(model.impute(x, seen), _conditional(model, x, seen)))
        found.append(Measured(f"{covariance}: largest gap over 8 patterns", 0.0, worst, 1e-8))
    return found


def _conditional(model: Mixture, x: Tensor, o: Tensor) -> Tensor:
    shares, guesses = [], []
    for w, p in zip(model.weights, _normals(model)):
        mean, cov, precision = p.mean, p.covariance_matrix, p.precision_matrix
        off = x[:, o] - mean[o]
        marginal = (
            MultivariateNormal(mean[o], cov[o][:, o]).log_prob(x[:, o]) if o.any() else x.new_zeros(len(x))
        )
        pull = torch.linalg.solve(precision[~o][:, ~o], precision[~o][:, o] @ off.T).T
        shares.append(w * marginal.exp())
        guesses.append(mean[~o] - pull)
    share = torch.stack(shares, 1)
    filled = x.clone()
    filled[:, ~o] = torch.einsum("bk,kbm->bm", share / share.sum(1, keepdim=True), torch.stack(guesses))
    return filled


@law("10e", "the score is the gradient of ln p_σ, and Tweedie's formula the denoiser")
def mixture_score() -> list[Measured]:
    """∇ ln p_σ by autograd of the enumerated mixture with Σ_k + σ²I; E[x₀|x] = x + σ² ∇ ln p_σ(x)."""
    found = []
    for covariance in FACTORS:
        model, worst, off = _fitted(_rows(), covariance), 0.0, 0.0
        for sigma in (0.0, 0.3, 4.0):
            x = _rows(50).requires_grad_()
            log_density = _enumerated(model, x, sigma).sum(1).log().sum()
            wanted = torch.autograd.grad(log_density, x)[0]
            worst = max(worst, _gap(model.score(x, sigma).detach(), wanted))
            off = max(off, _gap(model.denoise(x, sigma).detach(), x.detach() + sigma**2 * wanted))
        found += [
            Measured(f"{covariance}: score, largest gap", 0.0, worst, 1e-8),
            Measured(f"{covariance}: denoiser, largest gap", 0.0, off, 1e-8),
        ]
    return found
