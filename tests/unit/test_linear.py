"""PCA through our verbs is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb
from psiphi.models import _linear


def data(rows: int = 300, features: int = 12, seed: int = 0) -> Tensor:
    """Correlated, with a mean, float64."""
    gen = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=gen, dtype=torch.float64)
    x = torch.randn(rows, features, generator=gen, dtype=torch.float64) @ mixing
    return x * torch.logspace(0.5, -1, features, dtype=torch.float64) + torch.arange(features)


def both(x: Tensor, latent_dim: int, dtype: torch.dtype = torch.float64, **options):
    model = pp.zoo.pca(x.shape[1:], latent_dim).to(dtype)
    history = pp.fit(model, x.to(dtype), quiet=True, **options)
    return model, PCA(latent_dim, random_state=0).fit(x.flatten(1).numpy()), history


@pytest.mark.parametrize("latent_dim", [1, 5, 11, 12])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-8), (torch.float32, 1e-5)], ids=str)
def test_the_verbs_are_those_of_scikit_learn(latent_dim, dtype, tol):
    x, new = data(), data(40, seed=1)
    model, theirs, history = both(x, latent_dim, dtype)
    close = dict(rtol=tol, atol=10 * tol, check_dtype=False)
    codes = torch.from_numpy(theirs.transform(new.numpy()))
    assert_close(model.encode(new), codes, **close)
    back = torch.from_numpy(theirs.inverse_transform(codes.numpy()))
    assert_close(model.decode(codes), back, **close)
    assert_close(model.reconstruct(new), back, **close)
    assert_close(model.project(new), back, **close)
    # The density divides by σ², so that the error of the projection grows.
    close |= dict(rtol=tol * 100)
    wanted = torch.from_numpy(theirs.score_samples(new.numpy()))
    if latent_dim < 12:
        assert_close(model.log_prob(new), wanted, **close)
        assert_close(model.anomaly_score(new), -wanted, **close)
    assert history.last["explained"] == pytest.approx(theirs.explained_variance_ratio_.sum())
    assert history.last["noise_variance"] == pytest.approx(theirs.noise_variance_)


@pytest.mark.parametrize("latent_dim", [5, 12])
def test_the_density_is_the_normal_one(latent_dim):
    """Covariance U (Λ − σ² I) Uᵀ + σ² I; at full rank, that of the sample."""
    x, new = data(), data(40, seed=1)
    model, theirs, _ = both(x, latent_dim)
    covariance = torch.from_numpy(theirs.get_covariance())
    if latent_dim == 12:
        assert_close(covariance, x.T.cov())
    normal = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    assert_close(model.log_prob(new), normal.log_prob(new), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("latent_dim", [3, 12])
def test_samples_have_the_mean_and_covariance(latent_dim):
    """Exact draws within four standard errors of every entry; plain ones stay in the subspace."""
    model, theirs, _ = both(data(), latent_dim)
    n = 20_000
    x = model.sample(n, seed=1, exact=True)
    covariance = torch.from_numpy(theirs.get_covariance())
    variances = covariance.diagonal()
    assert ((x.mean(0) - torch.from_numpy(theirs.mean_)).abs() < 4 * (variances / n).sqrt()).all()
    error = ((variances[:, None] * variances + covariance.square()) / n).sqrt()
    assert ((x.T.cov() - covariance).abs() < 4 * error).all()
    plain = model.sample(n, seed=1)
    assert_close(model.project(plain), plain, rtol=1e-8, atol=1e-8)
    inside = model.components.T * (model.variances - model.noise_variance) @ model.components
    spread = inside.diagonal()
    error = ((spread[:, None] * spread + inside.square()) / n).sqrt() + 1e-12
    assert ((plain.T.cov() - inside).abs() < 4 * error).all()


def test_images_and_bytes():
    x = pp.data.load("digits").train.x
    x = torch.as_tensor(x)[:200]
    model, theirs, _ = both(x.double(), 6)
    assert_close(model.encode(x), torch.from_numpy(theirs.transform(x.double().flatten(1).numpy())))
    levels = (x * 255).round().to(torch.uint8)
    other = pp.zoo.pca((1, 8, 8), 6)
    pp.fit(other, levels, quiet=True)
    assert_close(other.statistics.mean, (levels / 255).mean(0))
    assert model.measure == "continuous"


def test_more_numbers_than_memory_takes_go_in_chunks(monkeypatch):
    """Incremental PCA: a spectrum with a gap comes out to 2 %, and every row is seen."""
    monkeypatch.setattr(_linear, "IN_MEMORY_NUMBERS", 0)
    gen = torch.Generator().manual_seed(0)
    scale = torch.tensor([9.0, 7.0, 5.0, 0.3, 0.2, 0.1])
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=gen))[0]
    x = torch.randn(9000, 6, generator=gen) * scale @ rotation.T + 3
    model = pp.zoo.pca(6, 3)
    pp.fit(model, x, quiet=True)
    theirs = PCA(3).fit(x.numpy())
    assert_close(model.variances.numpy(), theirs.explained_variance_.astype(np.float32), rtol=0.02, atol=0)
    angles = torch.linalg.svdvals(model.components @ torch.from_numpy(theirs.components_).T)
    assert angles.min() > 0.999
    assert_close(model.statistics.mean, x.mean(0), rtol=0, atol=1e-3)


def test_the_seed_and_the_order_of_rows_have_no_say():
    x = data()
    first, _, _ = both(x, 4, seed=0)
    other, _, _ = both(x, 4, seed=1)
    assert_close(first.components, other.components, rtol=0, atol=0)
    turned, _, _ = both(x.flip(0), 4)
    assert_close(first.reconstruct(x), turned.reconstruct(x), rtol=1e-9, atol=1e-9)


def test_too_few_rows_get_a_sentence():
    with pytest.raises(DataError, match="PCA with 5 components needs at least as many rows; there are 4"):
        both(data(4), 5)
    with pytest.raises(ArgumentError, match="a latent of 13 is larger than the data"):
        pp.zoo.pca(12, 13)
    with pytest.raises(MissingVerb, match="pca cannot posterior"):
        pp.zoo.pca(12, 3).posterior(data())


def test_constant_coordinates_leave_the_density_finite():
    x = data(50, 6)
    x[:, 2:] = 1.0
    model, _, _ = both(x, 4, torch.float32)
    assert model.log_prob(x).isfinite().all()
    assert_close(model.reconstruct(x), x.float(), rtol=1e-4, atol=1e-4)
    stranger = x.clone()
    stranger[:, 4] += 1
    assert (model.anomaly_score(stranger) > model.anomaly_score(x)).all()
