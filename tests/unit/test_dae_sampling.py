"""A denoising autoencoder samples: affine r on Gaussian data, where every walk's variance is known."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, MissingVerb
from psiphi.samplers import Plan, langevin, walkback

SIGMA, N, MEAN = 0.5, 8_000, torch.tensor([1.0, -2.0], dtype=torch.float64)
EIGEN = torch.tensor([1.0, 0.25], dtype=torch.float64)
V = EIGEN + SIGMA**2
SHRINK = EIGEN / V  # r(x) − m = K (x − m)


def affine(eigen=EIGEN, loss="squared"):
    """The best denoiser of N(m, diag λ) at σ."""
    model = pp.zoo.denoising_ae(
        2, latent_dim=2, hidden=(), corruption=f"gaussian:{SIGMA}", loss=loss
    ).double()
    (inner,), (outer,) = ([m for m in net.modules() if isinstance(m, torch.nn.Linear)] for net in
                          (model.encoder.network, model.decoder.network))  # fmt: skip
    inner.weight.data.copy_(torch.diag(eigen / (eigen + SIGMA**2)))
    outer.weight.data.copy_(torch.eye(2))
    for layer in (inner, outer):
        layer.bias.data.zero_()
    model.statistics.mean.copy_(MEAN)
    model.statistics.std.copy_(eigen.sqrt())
    return model


def agrees(x, variance, mean=MEAN):
    """Mean and variance of each coordinate within 4 standard errors."""
    assert ((x.mean(0) - mean).abs() < 4 * (variance / len(x)).sqrt()).all()
    assert ((x.var(0) - variance).abs() < 4 * variance * sqrt(2 / len(x))).all()


def chain(step, v=V):
    """The unadjusted chain's variance."""
    return v / (1 - step / (2 * v))


def test_langevin_has_its_stated_variance():
    model, step = affine(), SIGMA**2 / 2
    agrees(model.sample(N, seed=1, plan="langevin:60"), chain(step))
    agrees(model.sample(N, seed=2, plan=langevin(SIGMA, 0.2, steps=60)), chain(0.2))
    agrees(model.sample(N // 4, seed=3, exact=True), chain(step))
    agrees(model.sample(N // 4, seed=4), SHRINK**2 * chain(step))


def test_the_mean_walk_needs_noise_of_root_two():
    """With σ alone it settles at σ²/(1 − K²), half of the stated variance."""
    model = affine()
    agrees(model.sample(N, seed=6, plan="walkback:50,clean=False"), chain(SIGMA**2))
    agrees(model.sample(N, seed=7, plan="walkback:50"), SHRINK**2 * chain(SIGMA**2))
    narrow = walkback(SIGMA, 50, noise=SIGMA, clean=False)
    agrees(model.sample(N, seed=8, plan=narrow), chain(SIGMA**2) / 2)
    assert "0.5, where the data's density blurred by N(0, 0.5²) needs 0.707" in model.samples_from(narrow)


def test_the_exact_walk_has_the_data_s_variance():
    c = 0.8
    kept = sqrt(c * SIGMA**2 / (c + SIGMA**2))  # of x given x̃
    model = affine(torch.full((2,), c, dtype=torch.float64), f"gaussian:{kept}")
    agrees(model.sample(N, seed=9, plan="walkback:50,exact=True"), torch.full((2,), c).double())
    noisy = walkback(SIGMA, 50, exact=True, clean=False)
    agrees(model.sample(N, seed=10, plan=noisy), torch.full((2,), c + SIGMA**2).double())


def test_the_start_is_the_data_blurred():
    """One noiseless evaluation of the start N(m, v + σ²)."""
    agrees(affine().sample(N, seed=11, plan="ddim:1"), SHRINK**2 * V)


def test_an_exact_walk_draws_pixels_of_zero_and_one():
    model = pp.zoo.denoising_ae((1, 4, 4), latent_dim=8, hidden=(16,), loss="bernoulli", seed=0)
    x = model.sample(50, plan="walkback:5,exact=True")
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert (model.sample(50, plan="walkback:5") % 1 > 0).all()


def test_row_i_of_a_seed_is_the_same_whatever_n(monkeypatch):
    model = affine(torch.ones(2, dtype=torch.float64), "gaussian")
    for plan in (None, "walkback:20,exact=True"):
        whole = model.sample(130, seed=3, plan=plan)
        for n in (1, 65):
            assert_close(model.sample(n, seed=3, plan=plan), whole[:n], rtol=0, atol=1e-12)
        assert (model.sample(130, seed=4, plan=plan) != whole).all()
    from psiphi.models import _chains

    monkeypatch.setattr(_chains, "slices", lambda n, size: [slice(0, 64), slice(64, n)])
    assert_close(model.sample(130, seed=3, plan=plan), whole, rtol=0, atol=1e-12)


def test_it_says_which_density_it_samples():
    model = affine(loss="gaussian")
    blurred = "the data's density blurred by N(0, 0.5²)"
    biased = f"{blurred}, up to the bias of steps of"
    for plan, said in {
        None: f"the means E[x|x̃] of x̃ from {biased} 0.125",
        "langevin:10": f"{biased} 0.125",
        "walkback:10": f"the means E[x|x̃] of x̃ from {biased} 0.25",
        "walkback:10,clean=False": f"{biased} 0.25",
        "walkback:10,exact=True": f"p(x|x̃) at x̃ from {blurred}: the data's density, where p(x|x̃) is right",
        "walkback:10,exact=True,clean=False": blurred,
        "ddim:1": "the means E[x|x̃] of x̃ from the start N(m, v + σ²), moved without noise",
    }.items():
        assert model.samples_from(plan) == said
    assert model.samples_from(exact=True) == f"{biased} 0.125"
    assert blurred in repr(model)
    vae = pp.zoo.vae(4, latent_dim=2, hidden=(8,))
    assert vae.samples_from() == "the means E[x|z] of z from the prior"
    assert vae.samples_from(exact=True) == "p(x) = ∫ p(x|z) p(z) dz"


def test_the_blur_is_added_to_the_data():
    """A trained one, on data of two blobs: mean and variance of its states are those of data + noise."""
    gen = torch.Generator().manual_seed(0)
    x = torch.randint(2, (2000, 1), generator=gen) * 1.2 + 0.2 * torch.randn(2000, 1, generator=gen)
    model = pp.zoo.denoising_ae(1, latent_dim=1, hidden=(32,), corruption="gaussian:0.5", activation="tanh")
    pp.fit(model, x, steps=200, batch_size=500, lr=0.01, seed=0, quiet=True)
    states = model.sample(2000, seed=0, plan="langevin:150,step=0.04")
    assert abs(float(states.mean() - x.mean())) < 0.08
    assert float(states.var()) == pytest.approx(float(x.var()) + 0.25, rel=0.1)


def test_what_it_cannot_gets_a_sentence():
    model = affine()
    with pytest.raises(ArgumentError, match=r"denoising_ae is no likelihood: build it with loss='gaussian'"):
        model.sample(3, plan="walkback:20,exact=True")
    with pytest.raises(ArgumentError, match=r"learnt to remove noise of σ = 0\.5; it knows nothing of 0\.2"):
        model.sample(3, plan=langevin(0.2, steps=3))
    with pytest.raises(ArgumentError, match="knows no labels"):
        model.sample(3, y=1)
    with pytest.raises(ArgumentError, match="number of samples"):
        model.sample(0)
    with pytest.raises(ArgumentError, match="levels of noise"):
        model.sample(3, plan="heun:18")
    with pytest.raises(ArgumentError, match="walks by no plan"):
        pp.zoo.vae(4, latent_dim=2, hidden=(8,)).sample(3, plan=Plan("langevin", langevin(0.5).rows))
    masked = pp.zoo.denoising_ae(2, latent_dim=2, hidden=(8,), corruption="masking:0.2")
    assert "sample" not in masked.can
    with pytest.raises(MissingVerb, match="cannot sample: its codes have no prior distribution"):
        masked.samples_from()
    assert "samples_from" not in repr(masked)
