"""Gaussian mixtures against torch.distributions, scikit-learn and hand-made cases."""

from __future__ import annotations

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.formulas import mixtures
from psiphi.models import _em
from psiphi.models._mixture import FACTORS

K, D = 3, 4
every_kind = pytest.mark.parametrize("covariance", FACTORS)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theta(covariance: str) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and factors of a mixture in four dimensions."""
    raw = draw(*FACTORS[covariance](K, D), seed=1)
    scale = 0.5 + raw.abs() if raw.ndim == 2 else raw.tril(-1) + torch.diag_embed(0.5 + raw[:, 0].abs())
    return draw(K, seed=2).log_softmax(0), 2 * draw(K, D, seed=3), scale


def oracle(log_weights: Tensor, means: Tensor, scale: Tensor) -> MixtureSameFamily:
    if scale.ndim == 2:
        each = Independent(Normal(means, scale.expand(K, D)), 1)
    else:
        each = MultivariateNormal(means, scale_tril=scale.expand(K, D, D))
    return MixtureSameFamily(Categorical(logits=log_weights), each)


def blobs(rows: int = 600, seed: int = 0) -> Tensor:
    """Three clear blobs in two dimensions, correlated, off the origin; float64."""
    gen = torch.Generator().manual_seed(seed)
    k = torch.randint(3, (rows,), generator=gen)
    centres = torch.tensor([[0.0, 0.0], [5.0, 1.0], [1.0, 6.0]], dtype=torch.float64)
    tril = torch.tensor([[[1.0, 0], [0.5, 0.5]], [[0.4, 0], [0, 1]], [[0.6, 0], [-0.4, 0.5]]]).double()
    eps = torch.randn(rows, 2, 1, generator=gen, dtype=torch.float64)
    return 10 + centres[k] + (tril[k] @ eps).squeeze(-1)


def fitted(x: Tensor, components: int = 3, **arguments):
    model = pp.zoo.gaussian_mixture(x.shape[1:], components, **arguments).to(x.dtype)
    pp.fit(model, x, quiet=True)
    return model


# ---------------------------------------------------------------------------------------------- formulas
@every_kind
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_the_density_is_that_of_torch(covariance, batch):
    at, x = theta(covariance), 3 * draw(*batch, D, seed=4)
    wanted = oracle(*at)
    joint = mixtures.log_joint(x, *at)
    assert joint.shape == (*batch, K)
    assert_close(mixtures.log_density(x, *at), wanted.log_prob(x))
    by_bayes = (at[0] + wanted.component_distribution.log_prob(x.unsqueeze(-2))).softmax(-1)
    assert_close(mixtures.responsibilities(x, *at), by_bayes)


@every_kind
def test_each_row_may_have_its_own_noise(covariance):
    (log_weights, means, scale), x = theta(covariance), 3 * draw(6, D, seed=4)
    spectrum, sigma = mixtures.spectrum(scale), torch.tensor([0.0, 0.1, 0.5, 1.0, 3.0, 30.0]).double()
    together = mixtures.smoothed_score(x, sigma, log_weights, means, *spectrum)
    for i, s in enumerate(sigma):
        alone = mixtures.smoothed_score(x[i : i + 1], s[None], log_weights, means, *spectrum)
        assert_close(together[i], alone[0], rtol=1e-12, atol=1e-12)
    far = (log_weights.exp() @ means - x[-1]) / 900
    assert_close(together[-1], far, rtol=0.05, atol=0)  # at large σ, that of a single normal


@every_kind
def test_missing_values_have_no_say_in_what_fills_them(covariance):
    at, x, seen = theta(covariance), draw(6, D, seed=5), torch.tensor([True, False, True, False])
    filled = mixtures.conditional_mean(x, seen, *at)
    other = mixtures.conditional_mean(torch.where(seen, x, 1e6), seen, *at)
    assert_close(other, filled, rtol=0, atol=0)
    assert_close(filled[:, seen], x[:, seen], rtol=0, atol=0)
    nothing = mixtures.conditional_mean(x, torch.zeros(D, dtype=torch.bool), *at)
    assert_close(nothing, (at[0].exp() @ at[1]).expand_as(x))


def test_codes_are_one_of_k():
    p = mixtures.Categorical(draw(2, 5, seed=6))
    q = mixtures.Categorical(draw(2, 5, seed=7))
    theirs = Categorical(logits=p.logits)
    assert_close(p.mean, theirs.probs)
    assert_close(p.kl(q), kl_divergence(theirs, Categorical(logits=q.logits)))
    one_hot = torch.eye(5).double()[[3, 1]]
    assert_close(p.log_prob(one_hot), theirs.log_prob(torch.tensor([3, 1])))
    sure = mixtures.Categorical(torch.tensor([0.0, -torch.inf]).double())
    assert float(sure.log_prob(torch.tensor([1.0, 0.0]).double())) == 0
    assert float(sure.kl(mixtures.Categorical(torch.zeros(2).double()))) == pytest.approx(
        torch.tensor(2.0).log()
    )


def test_draws_have_the_probabilities():
    n = 20_000
    p = mixtures.Categorical(torch.tensor([[0.0, 1.0, -1.0]]).double().expand(n, 3))
    z = p.rsample(Noise.of(0, n, dtype=torch.float64), samples=2)
    assert z.shape == (2, n, 3)
    assert bool((z.sum(-1) == 1).all())
    share, wanted = z.mean((0, 1)), p.mean[0]
    assert ((share - wanted).abs() < 4 * (wanted * (1 - wanted) / (2 * n)).sqrt()).all()
    few = mixtures.Categorical(p.logits[:7])
    assert_close(few.rsample(Noise.of(0, 7, dtype=torch.float64), samples=2), z[:, :7], rtol=0, atol=0)


def test_what_has_no_probability_is_never_picked():
    p = torch.tensor([0.0, 0.4, 0.0, 0.6, 0.0])
    u = torch.tensor([0.0, 0.399, 0.401, 1 - 2**-24])
    assert mixtures.pick(p, u).tolist() == [1, 1, 3, 3]


# ------------------------------------------------------------------------------------------------ verbs
@every_kind
def test_samples_are_draws_from_the_density(covariance):
    """Mean and covariance within four standard errors of those of the mixture."""
    model, n = fitted(blobs(), covariance=covariance), 20_000
    centres = model.centres
    mean = model.weights @ centres
    off = centres - mean
    cov = torch.einsum("k,kij->ij", model.weights, model.covariances + off[:, :, None] * off[:, None])
    x = model.sample(n, seed=1)
    assert ((x.mean(0) - mean).abs() < 4 * (cov.diagonal() / n).sqrt()).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    assert ((products.mean(0) - cov).abs() < 4 * products.std(0) / n**0.5).all()
    assert_close(model.sample(n, seed=1, exact=True), x, rtol=0, atol=0)


def test_codes_and_means():
    model, x = fitted(blobs()), blobs(50, seed=1)
    assert_close(model.decode(torch.eye(3)), model.centres)
    assert_close(model.reconstruct(x), model.encode(x) @ model.centres)
    assert_close(model.project(x), model.reconstruct(x), rtol=0, atol=0)
    assert_close(model.encode(x).argmax(1), model.predict(x))
    assert_close(model.posterior(x).mean, model.encode(x))
    assert_close(model.anomaly_score(x), -model.log_prob(x), rtol=0, atol=0)
    nearest = torch.cdist(x, model.centres).argmin(1)
    assert float((model.predict(x) == nearest).double().mean()) > 0.95


def test_one_component_is_the_normal_distribution():
    x = blobs(200)
    model = fitted(x, 1, reg_covar=0.0)
    normal = MultivariateNormal(x.mean(0), x.T.cov(correction=0))
    assert_close(model.log_prob(x), normal.log_prob(x), rtol=1e-9, atol=1e-9)
    sigma = 0.7
    wanted = x.mean(0) + (x - x.mean(0)) @ torch.linalg.solve(
        normal.covariance_matrix + sigma**2 * torch.eye(2), normal.covariance_matrix
    )
    assert_close(model.denoise(x, sigma), wanted)


def test_denoising_recovers_the_mean_of_what_was():
    """Among noisy points of a small ball, the mean of the clean ones is the denoiser's answer there."""
    model, sigma, n = fitted(blobs()), 1.0, 400_000
    clean = model.sample(n, seed=2)
    noisy = clean + sigma * Noise.of(3, n, dtype=torch.float64).normal((2,))
    at = torch.tensor([[12.5, 10.5]], dtype=torch.float64)
    near = clean[(noisy - at).norm(dim=1) < 0.15]
    assert len(near) > 200
    assert (
        (near.mean(0) - model.denoise(at, sigma)[0]).abs() < 4 * near.std(0) / len(near) ** 0.5 + 0.02
    ).all()


def test_nan_is_what_is_missing():
    model, x = fitted(blobs()), blobs(40, seed=1)
    seen = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) > 0.4
    holes = torch.where(seen, x, torch.nan)
    filled = model.impute(holes)
    assert filled.isfinite().all()
    assert_close(filled[seen], x[seen], rtol=0, atol=0)
    assert_close(model.impute(x, seen), filled, rtol=0, atol=0)
    assert_close(model.impute(holes, seen), filled, rtol=0, atol=0)
    for row in range(40):
        assert_close(model.impute(holes[row : row + 1])[0], filled[row], rtol=1e-12, atol=1e-12)
    lost = (~seen).all(1)
    assert lost.any()
    assert_close(filled[lost], (model.weights @ model.centres).expand(int(lost.sum()), 2))


def test_imputing_pictures_beats_the_mean_picture():
    digits = pp.data.load("digits")
    model = pp.zoo.gaussian_mixture(digits.shape, 10, reg_covar=1e-2)
    pp.fit(model, digits.train, quiet=True)
    x = torch.as_tensor(digits.test.x)
    seen = torch.ones(1, 8, 8, dtype=torch.bool)
    seen[:, 3:] = False
    filled = model.impute(x, seen)
    assert filled.shape == x.shape
    error = (filled - x).square()[..., 3:, :].mean()
    plain = (model.statistics.mean - x).square()[..., 3:, :].mean()
    assert error < 0.75 * plain


# ------------------------------------------------------------------------------------------------ learning
@every_kind
def test_gradient_finds_what_em_finds(covariance):
    x, found = blobs(500), []
    best = fitted(x, covariance=covariance).log_prob(x).mean()
    for seed in range(2):  # a random start can end in a worse optimum
        model = pp.zoo.gaussian_mixture(2, 3, covariance=covariance, method="gradient", seed=seed)
        assert not hasattr(model, "solve")
        pp.fit(model, x.float(), steps=120, batch_size=500, lr=0.08, quiet=True)
        found.append(model.log_prob(x).mean().detach())
    assert float((best - torch.stack(found)).abs().min()) < 0.02


@pytest.mark.parametrize("method", ["em", "gradient"])
@every_kind
def test_constant_columns_leave_the_density_finite(covariance, method):
    x = torch.cat([blobs(200), torch.full((200, 2), 3.0).double()], 1).float()
    model = fitted(x, covariance=covariance, method=method, reg_covar=1e-4)
    assert model.log_prob(x).isfinite().all()
    assert model.score(x, 0.0).isfinite().all()
    least = float(model.covariances.diagonal(dim1=1, dim2=2).min().detach() / model.statistics.sigma**2)
    assert least >= 1e-4 * (1 - 1e-4)
    if covariance != "spherical" and method == "em":
        stranger = x.clone()
        stranger[:, 3] += 1
        assert (model.anomaly_score(stranger) > model.anomaly_score(x) + 10).all()


def test_the_floor_holds_where_a_component_shrinks_onto_a_row():
    """Three rows, three components: without the floor −ln p(x) falls for ever."""
    x = torch.tensor([[0.0, 0], [5, 5], [9, 0]])
    model = pp.zoo.gaussian_mixture(2, 3, covariance="diag", method="gradient", reg_covar=0.01)
    pp.fit(model, x, epochs=100, batch_size=3, lr=0.1, quiet=True)
    assert float(model.scale.detach().min()) == pytest.approx(0.1, rel=1e-5)


def test_more_rows_than_memory_takes_are_drawn(monkeypatch):
    monkeypatch.setattr(_em, "IN_MEMORY_NUMBERS", 1000)
    x = blobs(3000)
    model, whole = fitted(x), GaussianMixture(3, random_state=0).fit(x.numpy())
    assert abs(float(model.log_prob(x).mean()) - whole.score(x.numpy())) < 0.02
    assert_close(fitted(x).means, model.means, rtol=0, atol=0)


def test_the_best_of_the_restarts_is_kept():
    x = blobs(300)
    one, four = (fitted(x, 6, restarts=n, seed=1).log_prob(x).mean() for n in (1, 4))
    assert four > one + 0.01


def test_float32_tells_the_same_as_float64():
    x = blobs(300)
    gap = fitted(x).log_prob(x) - fitted(x.float()).log_prob(x.float())
    assert gap.abs().max() < 1e-3


# ----------------------------------------------------------------------------------------------- bad input
def test_too_few_distinct_rows_get_a_sentence():
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(20, 1)
    with pytest.raises(
        DataError, match="3 components need at least as many distinct rows; there are 2: ask for"
    ):
        fitted(x)
    assert fitted(x, 2).log_prob(x).isfinite().all()
    with pytest.raises(DataError, match="x has one row"):
        fitted(x[:1], 1)


def test_a_singular_covariance_gets_a_sentence():
    x = torch.cat([blobs(50), torch.ones(50, 1).double()], 1)
    with pytest.raises(DataError, match="singular covariance at reg_covar=0: raise it"):
        fitted(x, reg_covar=0.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"components": 0}, "components must be a whole number of at least 1; got 0"),
        ({"components": 2.5}, "components must be a whole number of at least 1; got 2.5"),
        ({"iterations": 0}, "iterations must be"),
        ({"covariance": "round"}, "covariance is one of full, tied, diag, spherical .* got 'round'"),
        ({"method": "newton"}, "method one of em, gradient; got 'full' and 'newton'"),
        ({"reg_covar": -1.0}, "reg_covar must be a number of at least 0"),
    ],
)
def test_arguments_without_meaning_get_a_sentence(arguments, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        pp.zoo.gaussian_mixture(2, **arguments)


def test_verbs_say_what_they_need():
    model, x = fitted(blobs()), blobs(5)
    for sigma in (-1.0, float("nan"), [0.1, 0.2]):
        with pytest.raises(ArgumentError, match="sigma is a number of at least 0, or one for each of 5 rows"):
            model.denoise(x, sigma)
    assert_close(model.denoise(x, [0.1] * 5), model.denoise(x, 0.1))
    with pytest.raises(
        ArgumentError, match=r"where is True where x is seen, of type bool; got torch\.float32"
    ):
        model.impute(x, torch.ones(2))
    with pytest.raises(ShapeError, match=r"where has shape \(3\); \(2\) or \(5, 2\) is needed"):
        model.impute(x, torch.ones(3, dtype=torch.bool))
    x[2, 0] = torch.inf
    with pytest.raises(DataError, match="NaN or infinity in 1 of 5 rows"):
        model.impute(x)
