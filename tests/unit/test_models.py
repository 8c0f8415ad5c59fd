"""Autoencoders and variational ones: likelihoods, their measures, and the numbers of the verbs."""

from __future__ import annotations

from math import log, pi

import pytest
import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import digits
from psiphi.basis.errors import ArgumentError, DataError, MeasureError, MissingVerb
from psiphi.basis.noise import Noise
from psiphi.models import _latent
from psiphi.parts import Statistics
from psiphi.parts.conditional import FixedScale, LearnedScale, OptimalScale

closely = dict(rtol=1e-8, atol=1e-8)


def cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs() ** 3


def grey() -> Tensor:
    return digits()[0]


def binary() -> Tensor:
    return (grey() > 0.5).float()


def vae(likelihood="gaussian", x: Tensor | None = None, steps: int = 30, **options):
    model = pp.zoo.vae((1, 8, 8), 4, likelihood=likelihood, hidden=(16,), **options)
    if x is not None:
        pp.fit(model, x, steps=steps, batch_size=32, quiet=True)
    return model


# ------------------------------------------------------------------------------ likelihood by likelihood
@pytest.mark.parametrize(
    ("likelihood", "measure", "has_density"),
    [
        ("gaussian", "continuous", True),
        ("gaussian:learned", "continuous", True),
        ("gaussian:0.1", "continuous", True),
        ("gaussian:optimal", "continuous", True),
        ("bernoulli", "loss-only", True),
        ("squared", "loss-only", False),
        ("absolute", "loss-only", False),
        ("huber", "loss-only", False),
        pytest.param(cubic, "loss-only", False, id="cubic"),
    ],
    ids=str,
)
def test_every_likelihood_trains_and_answers(likelihood, measure, has_density):
    model = vae(likelihood, grey())
    assert model.measure == measure
    assert model.reconstruct(grey()).shape == (64, 1, 8, 8)
    fitted, still = (
        model.anomaly_score(grey()).mean(),
        vae(likelihood, grey(), 1).anomaly_score(grey()).mean(),
    )
    assert fitted < still
    assert ("log_prob" in model.can) is has_density
    if not has_density:
        with pytest.raises(
            MissingVerb, match="vae cannot log_prob: its reconstruction loss is no likelihood"
        ):
            model.log_prob(grey())


def test_measures_follow_the_data():
    assert vae("bernoulli").measure == "discrete"
    assert vae("bernoulli", binary(), 1).measure == "discrete"
    assert vae("bernoulli", grey(), 1).measure == "loss-only"
    assert vae("gaussian", binary(), 1).measure == "continuous"
    assert pp.zoo.ae((1, 8, 8), 4).measure == "loss-only"
    assert pp.zoo.pca((1, 8, 8), 4).measure == "continuous"


def test_grey_values_have_no_bernoulli_probability():
    model = vae("bernoulli", grey())
    share = f"{float(((grey() > 0) & (grey() < 1)).float().mean()):.0%}"
    with pytest.raises(
        MeasureError, match=rf"no density on grey values \({share} of yours lie between 0 and 1\)"
    ):
        model.log_prob(grey())
    assert (model.log_prob(binary()) < 0).all()
    with pytest.raises(DataError, match=r"needs values in \[0, 1\]; yours span 0 to 255: scale them"):
        model.log_prob(255 * binary())


def test_values_outside_the_support_are_refused_before_training():
    for x in (2 * grey(), grey() - 1):
        with pytest.raises(DataError, match=r"Bernoulli likelihood needs values in \[0, 1\]; yours span"):
            vae("bernoulli", x)
    vae("gaussian", 255 * grey() - 100, 2)


@pytest.mark.parametrize(
    "name", ["gauss", "gaussian:", "gaussian:wide", "bernoulli:0.1", "squared:2", "", ":", "gaussian:0.1:2"]
)
def test_an_unknown_likelihood_gets_a_sentence(name):
    if name == "gaussian:":
        assert isinstance(vae(name).decoder.scale, LearnedScale)
        return
    with pytest.raises(ArgumentError, match=r"no likelihood is called|a Gaussian likelihood's σ is a number"):
        vae(name)


@pytest.mark.parametrize("sigma", ["0", "-1", "nan", "inf"])
def test_a_sigma_that_is_none_gets_a_sentence(sigma):
    with pytest.raises(ArgumentError, match="a Gaussian likelihood needs"):
        vae(f"gaussian:{sigma}")


# ------------------------------------------------------------------------------------------------ scales
def statistics(sigma: float = 3.0) -> Statistics:
    made = Statistics((5,)).double()
    made.sigma.fill_(sigma)
    return made


def test_a_fixed_scale_is_in_the_units_of_the_data():
    assert_close(FixedScale(0.1).double()(statistics()).exp(), torch.tensor(0.1).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("raw", [-5.0, 0.0, 2.0])
def test_a_learned_scale_starts_at_that_of_the_data_and_moves_freely(raw):
    """Far above the floor, ln σ = ln σ_data + a."""
    scale = LearnedScale().double()
    scale.raw.data.fill_(raw)
    found = scale(statistics())
    assert_close(found, torch.tensor(log(3.0) + raw).double(), rtol=0, atol=0.15 if raw < -4 else 2e-3)
    (slope,) = torch.autograd.grad(found, scale.raw)
    assert 0.8 < slope <= 1


def test_a_learned_scale_has_a_floor():
    scale = LearnedScale().double()
    scale.raw.data.fill_(-1000)
    assert_close(scale(statistics()).exp(), torch.tensor(3e-3).double(), **closely)


def test_a_constant_data_set_meets_the_floor_not_a_diverging_density():
    x = torch.zeros(64, 4)
    x[:, 0] = torch.randn(64, generator=torch.Generator().manual_seed(0))
    model = pp.zoo.vae(4, 2, hidden=(8,))
    pp.fit(model, x, steps=300, lr=0.05, quiet=True)
    with torch.no_grad():
        sigma = model.decoder(torch.zeros(1, 2)).log_scale.exp()
    assert sigma >= 0.999e-3 * model.statistics.sigma
    assert model.log_prob(x).isfinite().all()


def residuals(*factors: float) -> list[Tensor]:
    gen = torch.Generator().manual_seed(0)
    return [factor * torch.randn(7, 5, generator=gen, dtype=torch.float64) for factor in factors]


def test_the_optimal_scale_is_the_root_mean_squared_error_of_the_batch():
    scale = OptimalScale().double()
    (gap,) = residuals(0.3)
    mean = torch.ones(7, 5, dtype=torch.float64)
    found = scale.fitted(mean, mean + gap, statistics())
    assert_close(found.exp(), gap.square().mean().sqrt(), **closely)
    assert not found.requires_grad


def test_the_optimal_scale_remembers_a_running_mean():
    """A plain mean over the first batches, then an exponential one; eval mode reads it and leaves it."""
    scale, mean = OptimalScale(memory=3).double(), torch.zeros(7, 5, dtype=torch.float64)
    gaps = residuals(0.5, 0.2, 1.0, 0.7, 0.1)
    squares = [gap.square().mean() for gap in gaps]
    expected = torch.zeros((), dtype=torch.float64)
    for i, (gap, square) in enumerate(zip(gaps, squares), 1):
        scale.fitted(mean, gap, statistics())
        expected = expected + (square - expected) / min(i, 3)
        assert_close(scale(statistics()).exp(), expected.sqrt(), **closely)
    assert_close(
        expected, ((squares[0] + squares[1] + squares[2]) / 3 * 4 / 9 + squares[3] * 2 / 9 + squares[4] / 3)
    )
    scale.eval()
    assert_close(scale.fitted(mean, 9 + gaps[0], statistics()).exp(), expected.sqrt(), **closely)
    assert scale.batches == 5


def test_the_optimal_scale_has_a_floor():
    scale, same = OptimalScale().double(), torch.ones(7, 5, dtype=torch.float64)
    assert_close(scale.fitted(same, same, statistics()).exp(), torch.tensor(3e-3).double(), **closely)
    assert_close(scale(statistics()).exp(), torch.tensor(3e-3).double(), **closely)


def test_an_optimal_scale_is_the_error_of_the_fitted_model():
    """With weights that stay as they are, σ is the root mean squared error of draws over all batches."""
    model = pp.zoo.vae((1, 8, 8), 4, likelihood="gaussian:optimal", hidden=(16,))
    pp.fit(model, grey(), steps=40, batch_size=64, lr=1e-12, quiet=True)
    q = model.posterior(grey())
    with torch.no_grad():
        z = q.rsample(Noise.of(0, 64), 400)
        gaps = grey() - model.decode(z.flatten(0, 1)).unflatten(0, (400, 64))
        sigma = model.decoder(torch.zeros(1, 4)).log_scale.exp()
    assert_close(sigma, gaps.square().mean().sqrt(), rtol=5e-3, atol=0)


# ------------------------------------------------------------------------------------------------- verbs
@pytest.fixture(scope="module")
def small():
    """A trained VAE with one latent number, so that p(x) is an integral over a line."""
    gen = torch.Generator().manual_seed(0)
    z = torch.randn(300, 1, generator=gen)
    x = torch.cat([z.sin(), z.cos(), z], 1) + 0.3 * torch.randn(300, 3, generator=gen)
    model = pp.zoo.vae(3, 1, hidden=(16,), seed=1)
    pp.fit(model, x, steps=300, lr=0.01, quiet=True)
    return model.double(), x[:20].double()


@torch.no_grad()
def test_log_prob_is_the_integral_over_codes(small):
    """Within four standard errors of the sampler and its bias, row by row."""
    model, x = small
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    p = model.decoder(z)
    oracle = td.Independent(td.Normal(p.mean[:, None], p.log_scale.exp()), 1)
    log_joint = oracle.log_prob(x) + td.Normal(0.0, 1.0).log_prob(z)
    exact = torch.trapezoid(log_joint.exp(), z[:, :1].expand(-1, len(x)), dim=0).log()
    sums = model.importance(x, 3000, seed=1)
    error = sums.standard_error
    assert ((sums.estimate - exact).abs() <= 4 * error + error.square()).all()
    assert error.max() < 0.1
    assert_close(model.log_prob(x, samples=3000, seed=1), sums.estimate, rtol=0, atol=0)
    assert (sums.estimate - model.log_prob(x, samples=3000, seed=2)).abs().max() > 0


@torch.no_grad()
def test_the_anomaly_score_by_hand(small):
    """−ln p(x|z) at the posterior mean, plus the KL, by torch.distributions."""
    model, x = small
    q = model.posterior(x)
    p = model.decoder(q.mean)
    nll = -td.Independent(td.Normal(p.mean, p.log_scale.exp()), 1).log_prob(x)
    rate = td.kl_divergence(td.Normal(q.mean, q.log_scale.exp()), td.Normal(0.0, 1.0)).sum(1)
    assert_close(model.anomaly_score(x), nll + rate, **closely)
    assert (model.anomaly_score(x + 5) > model.anomaly_score(x)).all()


def test_an_autoencoder_scores_by_its_loss_alone():
    for loss, by_hand in (
        ("squared", torch.square),
        ("absolute", torch.abs),
        (cubic, lambda gap: gap.abs() ** 3),
    ):
        model = pp.zoo.ae((1, 8, 8), 4, loss=loss, hidden=(16,))
        pp.fit(model, grey(), steps=5, quiet=True)
        wanted = by_hand(grey() - model.reconstruct(grey())).flatten(1).sum(1)
        assert_close(model.anomaly_score(grey()), wanted)


@torch.no_grad()
def test_encoding_is_the_posterior_mean_and_reconstruction_its_decoding(small):
    model, x = small
    assert_close(model.encode(x), model.posterior(x).mean, **closely)
    assert_close(model.reconstruct(x), model.decode(model.encode(x)), **closely)
    assert_close(model.project(x), model.reconstruct(x), **closely)
    assert_close(model(x), model.reconstruct(x), **closely)


@torch.no_grad()
def test_samples_decode_the_prior_and_exact_ones_add_the_noise():
    """An affine decoder shows its codes: they are N(0, I), and what is added is N(0, σ²), to 4 SE."""
    model = pp.zoo.vae((1, 8, 8), 4, likelihood="gaussian:0.2", hidden=(), seed=2).double()
    n = 4000
    mean, drawn = model.sample(n, seed=1), model.sample(n, seed=1, exact=True)
    origin = model.decode(torch.zeros(1, 4, dtype=torch.float64))
    weight = (model.decode(torch.eye(4, dtype=torch.float64)) - origin).flatten(1)
    z = torch.linalg.lstsq(weight.T, (mean - origin).flatten(1).T).solution.T
    assert_close((z @ weight).unflatten(1, (1, 8, 8)) + origin, mean, **closely)
    assert (z.mean(0).abs() < 4 / n**0.5).all()
    assert ((z.T @ z / n - torch.eye(4)).abs() < 4 * (torch.ones(4, 4) + torch.eye(4)).sqrt() / n**0.5).all()
    noise = (drawn - mean).flatten(1)
    assert abs(noise.mean()) < 4 * 0.2 / noise.numel() ** 0.5
    assert abs(noise.var() - 0.04) < 4 * 0.04 * (2 / noise.numel()) ** 0.5
    together = z.T @ noise / n
    assert together.abs().max() < 5 * 0.2 / n**0.5  # 256 correlations: at most 5 standard errors
    # Nor are they the numbers of one stream, dealt out to rows of another width.
    assert abs((z[:64].flatten() * noise[:4].flatten()).mean()) < 4 * 0.2 / 256**0.5


@torch.no_grad()
def test_many_samples_are_drawn_in_slices_that_go_on_where_the_last_ended(monkeypatch):
    model, n = vae("gaussian:0.2"), 40_000
    found = model.sample(n, seed=1)
    assert len(_latent.slices(n, 64)) > 1
    monkeypatch.setattr(_latent, "slices", lambda n, size: [slice(0, n)])
    assert_close(found, model.sample(n, seed=1), rtol=1e-4, atol=1e-4)


def test_bernoulli_draws_are_binary_with_the_mean_as_rate():
    model = vae("bernoulli", binary()).double()
    mean, drawn = model.sample(500, seed=1), model.sample(500, seed=1, exact=True)
    assert drawn.unique().tolist() == [0.0, 1.0]
    spread = (mean * (1 - mean)).sum().sqrt()
    assert abs((drawn - mean).sum()) < 4 * spread


def test_standardised_data_are_what_the_network_sees():
    """Training on 255 x + 3 is training on x: the same network, in other units."""
    models = []
    for scale, shift in ((1.0, 0.0), (256.0, 64.0)):  # powers of two, so that only rounding differs
        model = pp.zoo.ae((1, 8, 8), 4, hidden=(16,), seed=1).double()
        pp.fit(model, scale * grey().double() + shift, steps=1, lr=1e-12, quiet=True)
        models.append(model)
    first, other = models
    assert_close(other.encode(256 * grey() + 64), first.encode(grey()), rtol=1e-6, atol=1e-6)
    assert_close(
        other.reconstruct(256 * grey() + 64), 256 * first.reconstruct(grey()) + 64, rtol=1e-6, atol=1e-4
    )


# -------------------------------------------------------------------------------------------- objectives
@pytest.mark.parametrize("samples", [1, 5])
def test_the_loss_of_training_is_the_negative_elbo(samples):
    model = vae("gaussian:0.5", grey(), 1, beta=4.0, samples=samples).double()
    x, noise = grey().double(), Noise.of(3, 64, dtype=torch.float64)
    (player,) = model.players()
    found = player.loss(player.module, pp.training._feed.Batch(x, None, noise), pp.training._loop.END)
    q = model.posterior(x)
    z = q.mean + q.log_scale.exp() * noise.normal((samples, 4)).transpose(0, 1)
    mean = model.decode(z.flatten(0, 1)).unflatten(0, (samples, 64))
    nll = ((x - mean) / 0.5).square() / 2 + log(0.5) + log(2 * pi) / 2
    rate = td.kl_divergence(td.Normal(q.mean, q.log_scale.exp()), td.Normal(0.0, 1.0)).sum(1)
    assert_close(found["nll"], nll.flatten(2).sum(2).mean(), rtol=1e-6, atol=0)
    assert_close(found["rate"], rate.mean(), **closely)
    assert_close(found["loss"], found["nll"] + 4 * found["rate"], **closely)


def test_the_objective_of_a_vae_reads_as_its_arguments():
    assert repr(vae().objective) == "nll + rate"
    assert repr(vae(beta=4.0).objective) == "nll + 4.0 * rate"
    assert repr(vae(beta=2.0, warmup=5).objective) == "nll + warmup(value=2.0, epochs=5) * rate"
    assert repr(vae(free_bits=0.5).objective) == "nll + free_bits(0.5)"
    assert repr(pp.zoo.ae(5, 2).objective) == "nll"


def test_beta_shrinks_the_rate():
    """β = 50 leaves less than a third of the nats that β = 0.01 does."""
    rates = []
    for beta in (0.01, 50.0):
        model = pp.zoo.vae((1, 8, 8), 4, beta=beta, hidden=(16,))
        rates.append(pp.fit(model, grey(), epochs=60, lr=3e-3, quiet=True)["rate"][-1])
    assert rates[1] < rates[0] / 3


# ------------------------------------------------------------------------------------------- classifiers
def test_a_classifier_learns_its_rows_and_ignores_unknown_labels():
    x, y = digits()
    some = y.clone()
    some[::2] = -1
    full, half = (pp.zoo.classifier((1, 8, 8), hidden=(32,)) for _ in range(2))
    pp.fit(full, x, y, steps=150, lr=0.01, quiet=True)
    history = pp.fit(half, x, some, steps=150, lr=0.01, quiet=True)
    assert (full.predict(x) == y).all()
    assert (half.predict(x) == y)[1::2].all()
    assert history["accuracy"][-1] == 1
    with torch.no_grad():
        wanted = nn.functional.cross_entropy(half(x[1::2]), y[1::2])
        (player,) = half.players()
        found = player.loss(half, pp.training._feed.Batch(x, some, Noise.of(0, 64)), pp.training._loop.END)
    assert_close(found["loss"], wanted)


def test_labels_that_do_not_fit_get_a_sentence():
    x, y = digits()
    model = pp.zoo.classifier((1, 8, 8), 5, hidden=(8,))
    with pytest.raises(DataError, match=r"labels reach 9, the classifier has 5 classes .* classes=10"):
        pp.fit(model, x, y, epochs=1, batch_size=64, quiet=True)
    with pytest.raises(DataError, match="a classifier needs labels"):
        pp.fit(model, x, epochs=1, quiet=True)
    with pytest.raises(ArgumentError, match="at least 2 classes; got 1"):
        pp.zoo.classifier(5, 1)
