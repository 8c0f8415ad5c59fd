"""Energies from scores, against densities that are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import MissingVerb, ShapeError
from psiphi.evaluation import curl, energy

SIGMA, D = 0.6, 3
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dae(encoder: nn.Module, decoder: nn.Module):
    model = pp.zoo.denoising_ae(
        D, latent_dim=encoder(torch.zeros(2, D)).shape[1], corruption=f"gaussian:{SIGMA}",
        encoder=encoder, decoder=decoder,
    ).double()  # fmt: skip
    model.statistics.mean.copy_(MEAN)
    return model


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return layer


def test_the_best_denoiser_of_a_gaussian_has_its_energy():
    """r(x) = m + C (C + σ²)⁻¹ (x − m): E(x) − E(o) = −ln p_σ(x) + ln p_σ(o)."""
    a = rand(D, D, seed=1)
    covariance = a @ a.T
    blurred = covariance + SIGMA**2 * torch.eye(D)
    model = dae(linear(covariance @ blurred.inverse()), linear(torch.eye(D)))
    p = torch.distributions.MultivariateNormal(MEAN, blurred)
    x, origin = MEAN + 2 * rand(20, D, seed=2), rand(D, seed=3)
    found = energy(model, x)
    assert found.shape == (20,)
    assert not found.requires_grad
    assert_close(found, p.log_prob(MEAN) - p.log_prob(x), rtol=1e-5, atol=1e-5)  # weights passed float32
    assert_close(energy(model, x, SIGMA, origin), p.log_prob(origin) - p.log_prob(x), rtol=1e-5, atol=1e-5)
    assert curl(model, x).max() < 1e-5


def test_tied_sigmoids_have_the_energy_of_the_papers():
    """r(x) = m + Wᵀ sigmoid(W (x − m) + b): E = ½‖x − m‖²/σ² − Σ softplus(W (x − m) + b)/σ²."""
    weight, bias = rand(5, D, seed=4).float().double(), rand(5, seed=5).float().double()
    model = dae(nn.Sequential(linear(weight, bias), nn.Sigmoid()), linear(weight.T))

    def exact(x):
        u = x - MEAN
        return (0.5 * u.square().sum(1) - F.softplus(u @ weight.T + bias).sum(1)) / SIGMA**2

    x = MEAN + rand(20, D, seed=6)
    assert_close(energy(model, x), exact(x) - exact(MEAN[None]), rtol=1e-8, atol=1e-8)
    assert curl(model, x).max() < 1e-12


def test_curl_of_a_field_that_turns():
    turning = rand(D, D, seed=7).float().double()
    model = dae(linear(turning), linear(torch.eye(D)))
    jacobian = turning - torch.eye(D)
    wanted = (jacobian - jacobian.T).norm() / (jacobian + jacobian.T).norm()
    with torch.no_grad():
        assert_close(curl(model, rand(4, D)), wanted.expand(4))
    assert wanted > 0.1


class Nothing(nn.Module):
    """An output of 0, which makes D that of N(m, σ_d² I)."""

    def forward(self, x, *told):
        return torch.zeros_like(x)


def test_a_denoiser_at_any_level():
    model = pp.zoo.edm((1, 2, 2), network=Nothing()).double()
    model.statistics.mean.fill_(0.4)
    model.statistics.sigma.fill_(0.7)
    x = rand(6, 1, 2, 2, seed=8)
    for sigma in (0.1, 1.0):
        exact = 0.5 * (x - 0.4).square().flatten(1).sum(1) / (0.7**2 + sigma**2)
        assert_close(energy(model, x, sigma), exact, rtol=1e-6, atol=1e-6)
        assert curl(model, x, sigma).max() < 1e-8


@pytest.mark.parametrize("name", ["score_model", "ddpm", "edm"])
def test_energy_adds_up_along_a_ray(name):
    model = getattr(pp.zoo, name)(2, hidden=(16,)).double()
    x, half = rand(1, 2, seed=9), 0.5 * rand(1, 2, seed=9)
    whole = energy(model, x, 0.5, torch.zeros(2))
    parts = energy(model, half, 0.5, torch.zeros(2)) + energy(model, x, 0.5, half[0])
    assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    assert whole.isfinite().all()
    assert curl(model, x).shape == (1,)


def test_what_has_no_score_says_who_has():
    for model in (pp.zoo.gan(3, latent_dim=2, hidden=(4,)), pp.zoo.vae(3, latent_dim=2, hidden=(4,))):
        for ask in (energy, curl):
            with pytest.raises(MissingVerb, match=r"cannot score.* Models that can: .*denoising_ae"):
                ask(model, torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="origin"):
        energy(pp.zoo.denoising_ae(3, hidden=(4,)), torch.zeros(2, 3), origin=torch.zeros(4))
