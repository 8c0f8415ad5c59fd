"""Distributions against `torch.distributions`, in float64 to 1e-10; draws against their moments."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributions as td
from torch import Tensor
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import distortions
from psiphi.formulas.distributions import (
    Bernoulli,
    Delta,
    DiagonalNormal,
    Distorted,
    FullNormal,
    StandardNormal,
    kl,
    sum_event,
    twice_normal_kl,
)

B = 5
EVENTS = [(4,), (2, 3, 4)]
closely = dict(rtol=1e-10, atol=1e-10)
exactly = dict(rtol=0, atol=0)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tril_of(batch: tuple[int, ...], d: int, seed: int) -> Tensor:
    raw = randn(*batch, d, d, seed=seed)
    return raw.tril(-1) + torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())


def diagonal(event: tuple[int, ...], seed: int = 0, scale: str = "each") -> DiagonalNormal:
    shape = {"each": (B, *event), "shared": (1, *event), "scalar": ()}[scale]
    log_scale = torch.tensor(0.3).double() if scale == "scalar" else 0.5 * randn(*shape, seed=seed + 1)
    return DiagonalNormal(randn(B, *event, seed=seed), log_scale, len(event))


def full(seed: int = 0) -> FullNormal:
    return FullNormal(randn(B, 4, seed=seed), tril_of((B,), 4, seed + 1))


def bernoulli(event: tuple[int, ...], seed: int = 0) -> Bernoulli:
    return Bernoulli(3 * randn(B, *event, seed=seed), len(event))


def oracle(p: DiagonalNormal | FullNormal | Bernoulli) -> td.Distribution:
    if isinstance(p, DiagonalNormal):
        return td.Independent(td.Normal(p.mean, p.log_scale.exp().expand_as(p.mean)), p.event)
    if isinstance(p, FullNormal):
        return td.MultivariateNormal(p.mean, scale_tril=p.tril)
    return td.Independent(td.Bernoulli(logits=p.logits), p.event)


def as_multivariate(p: DiagonalNormal | FullNormal) -> td.MultivariateNormal:
    if isinstance(p, FullNormal):
        return td.MultivariateNormal(p.mean, scale_tril=p.tril)
    return td.MultivariateNormal(p.mean, torch.diag_embed((2 * p.log_scale).exp().expand_as(p.mean)))


# ------------------------------------------------------------------------------------------ densities
@pytest.mark.parametrize("scale", ["each", "shared", "scalar"])
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("samples", [(), (1,), (3,)], ids=str)
def test_the_density_of_a_diagonal_normal(event, scale, samples):
    p, x = diagonal(event, scale=scale), randn(*samples, B, *event, seed=9)
    assert_close(p.log_prob(x), oracle(p).log_prob(x), **closely)


@pytest.mark.parametrize("samples", [(), (1,), (3,)], ids=str)
def test_the_density_of_a_full_normal(samples):
    p, x = full(), randn(*samples, B, 4, seed=9)
    assert_close(p.log_prob(x), oracle(p).log_prob(x), **closely)


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("samples", [(), (1,), (3,)], ids=str)
def test_the_probability_of_a_bernoulli(event, samples):
    p, x = bernoulli(event), (randn(*samples, B, *event, seed=9) > 0).double()
    assert_close(p.log_prob(x), oracle(p).log_prob(x), **closely)
    extreme = Bernoulli(torch.tensor([[800.0, -800.0]], dtype=torch.float64))
    assert extreme.log_prob(torch.tensor([[1.0, 0.0]]).double()).item() == 0
    assert extreme.log_prob(torch.tensor([[0.0, 1.0]]).double()).item() == -1600


def test_a_distortion_is_a_loss():
    p, x = Distorted(randn(B, 2, 3), distortions.absolute, 2), randn(7, B, 2, 3, seed=9)
    assert_close(p.log_prob(x), -(x - p.mean).abs().sum((-2, -1)), **closely)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_means(event):
    p, q = diagonal(event), bernoulli(event)
    assert_close(p.mean, oracle(p).mean, **closely)
    assert_close(q.mean, oracle(q).mean, **closely)
    point = Delta(randn(B, *event), len(event))
    assert_close(point.mean, point.point, **exactly)


def test_sum_event():
    x = randn(2, 3, 4)
    assert_close(sum_event(x, 0), x, **exactly)
    assert_close(sum_event(x, 1), x.sum(-1), **closely)
    assert_close(sum_event(x, 2), x.sum((-2, -1)), **closely)


def test_measures():
    kinds = {Delta: "loss-only", DiagonalNormal: "continuous", FullNormal: "continuous"}
    kinds |= {StandardNormal: "continuous"}
    kinds |= {Bernoulli: "discrete", Distorted: "loss-only"}
    assert {kind: kind.measure for kind in kinds} == kinds


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_standard_normal(event):
    """A diagonal one of mean 0 and scale 1, for any batch."""
    prior, x = StandardNormal(torch.zeros(1, *event).double(), len(event)), randn(3, B, *event, seed=9)
    assert_close(prior.log_prob(x), td.Independent(td.Normal(0 * x, 1.0), len(event)).log_prob(x), **closely)
    assert (prior.mean.abs().max(), prior.log_scale.abs().max()) == (0, 0)
    q = diagonal(event)
    standard = DiagonalNormal(torch.zeros(B, *event).double(), torch.zeros(B, *event).double(), len(event))
    assert_close(kl(q, prior), td.kl_divergence(oracle(q), oracle(standard)), **closely)
    noise = Noise.of(3, B, dtype=torch.float64)
    assert_close(prior.rsample(noise, 2), standard.rsample(noise, 2), **closely)


# ------------------------------------------------------------------------------------ missing values
MASKED: dict[str, Callable[[], DiagonalNormal | Bernoulli | Distorted]] = {
    "normal": lambda: diagonal((2, 3)),
    "normal, shared σ": lambda: diagonal((2, 3), scale="shared"),
    "normal, scalar σ": lambda: diagonal((2, 3), scale="scalar"),
    "bernoulli": lambda: bernoulli((2, 3)),
    "standard normal": lambda: StandardNormal(torch.zeros(B, 2, 3).double(), 2),
    "distorted": lambda: Distorted(randn(B, 2, 3), distortions.absolute, 2),
}


@pytest.mark.parametrize("name", MASKED)
def test_where_sums_over_the_observed_coordinates(name):
    """One coordinate at a time: what the density of each adds up to, with rubbish where nothing was seen."""
    p = MASKED[name]()
    x = (randn(3, B, 2, 3, seed=9) > 0).double()
    where = randn(B, 2, 3, seed=8) > 0
    where[0], where[1] = True, False
    each = torch.zeros(3, B, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            only = torch.zeros(B, 2, 3, dtype=torch.bool)
            only[:, i, j] = True
            each += p.log_prob(x, only) * where[:, i, j]
    rubbish = torch.where(where, x, torch.full_like(x, 1e30))
    assert_close(p.log_prob(rubbish, where), each, **closely)
    assert_close(p.log_prob(x, torch.ones_like(where)), p.log_prob(x), **closely)
    assert p.log_prob(x, where)[:, 1].abs().max() == 0


@pytest.mark.parametrize("name", MASKED)
def test_missing_values_may_be_nan(name):
    """Neither the value nor the gradient sees them."""
    p = MASKED[name]()
    assert p.log_prob(torch.full_like(p.mean, torch.nan), torch.zeros_like(p.mean).bool()).abs().max() == 0
    if isinstance(p, StandardNormal):
        return  # nothing to learn
    field = "logits" if name == "bernoulli" else "mean"
    leaf = getattr(p, field).clone().requires_grad_()
    p = type(p)(**{**p.__dict__, field: leaf})
    x = (randn(B, 2, 3, seed=9) > 0).double()
    where = randn(B, 2, 3, seed=8) > 0
    found = [
        torch.autograd.grad(p.log_prob(torch.where(where, x, fill), where).sum(), leaf)[0]
        for fill in (torch.tensor(0.0).double(), torch.tensor(torch.nan).double())
    ]
    assert p.log_prob(torch.where(where, x, torch.nan), where).isfinite().all()
    assert_close(found[1], found[0], **closely)
    assert found[1][~where].abs().max() == 0


def test_a_full_normal_does_not_mask():
    with pytest.raises(ArgumentError, match="cannot mask coordinates; use a diagonal one"):
        full().log_prob(randn(B, 4), torch.ones(B, 4, dtype=torch.bool))


# ----------------------------------------------------------------------------------------- divergence
@pytest.mark.parametrize("of", ["each", "shared", "scalar"])
@pytest.mark.parametrize("to", ["each", "shared", "scalar"])
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_kl_of_diagonal_normals(event, of, to):
    q, p = diagonal(event, 0, of), diagonal(event, 5, to)
    wanted = td.kl_divergence(oracle(q), oracle(p))
    assert_close(kl(q, p), wanted, **closely)
    assert_close(sum_event((twice_normal_kl(q, p) / 2).expand_as(q.mean), len(event)), wanted, **closely)
    assert_close(kl(q, q), torch.zeros(B, dtype=torch.float64), **closely)


MIXES = {
    "diagonal": lambda seed: diagonal((4,), seed),
    "shared": lambda seed: diagonal((4,), seed, "shared"),
    "scalar": lambda seed: diagonal((4,), seed, "scalar"),
    "full": full,
}


@pytest.mark.parametrize("of", MIXES)
@pytest.mark.parametrize("to", MIXES)
def test_kl_of_normals_of_any_kind(of, to):
    q, p = MIXES[of](0), MIXES[to](5)
    wanted = td.kl_divergence(as_multivariate(q), as_multivariate(p))
    assert_close(kl(q, p), wanted, rtol=1e-9, atol=1e-9)


ZEROS = torch.zeros(1, 4).double()


@pytest.mark.parametrize(
    "prior", [DiagonalNormal(ZEROS, ZEROS), StandardNormal(ZEROS)], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("kind", MIXES)
def test_kl_to_one_prior_for_all_rows(kind, prior):
    q = MIXES[kind](0)
    standard = td.MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double())
    assert_close(kl(q, prior), td.kl_divergence(as_multivariate(q), standard), **closely)
    assert_close(kl(prior, q), td.kl_divergence(standard, as_multivariate(q)), **closely)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_kl_of_bernoullis(event):
    q, p = bernoulli(event), bernoulli(event, 5)
    assert_close(kl(q, p), td.kl_divergence(oracle(q), oracle(p)), rtol=1e-9, atol=1e-9)


def test_kl_without_a_closed_form_gets_a_sentence():
    with pytest.raises(ArgumentError, match=r"no closed form for KL\(Bernoulli ‖ DiagonalNormal\)"):
        kl(bernoulli((4,)), diagonal((4,)))
    with pytest.raises(ArgumentError, match=r"KL\(Delta ‖ DiagonalNormal\)"):
        kl(Delta(randn(B, 4)), diagonal((4,)))


# ---------------------------------------------------------------------------------------------- draws
DRAWN: dict[str, Callable[[int], DiagonalNormal | FullNormal | Bernoulli]] = {
    "diagonal": lambda rows: DiagonalNormal(randn(1, 3).expand(rows, 3), 0.5 * randn(1, 3, seed=1)),
    "scalar": lambda rows: DiagonalNormal(randn(1, 3).expand(rows, 3), torch.tensor(-0.7).double()),
    "full": lambda rows: FullNormal(randn(1, 3).expand(rows, 3), tril_of((1,), 3, 2).expand(rows, 3, 3)),
    "bernoulli": lambda rows: Bernoulli(randn(1, 3).expand(rows, 3)),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("by", ["rows", "samples"])
def test_draws_have_the_mean_and_covariance(name, by):
    """Within four standard errors of each entry, whether drawn for many rows or many a row."""
    n = 8000
    rows, samples = (n, 1) if by == "rows" else (1, n)
    p = DRAWN[name](rows)
    z = p.rsample(Noise.of(1, rows, dtype=torch.float64), samples)
    assert z.shape == (samples, rows, 3)
    z = z.flatten(0, 1)
    first = oracle(DRAWN[name](1))
    mean = first.mean[0]
    covariance = first.covariance_matrix[0] if name == "full" else torch.diag(first.variance[0])
    products = (z - mean)[:, :, None] * (z - mean)[:, None, :]
    assert ((z.mean(0) - mean).abs() < 4 * covariance.diagonal().sqrt() / n**0.5).all()
    assert ((products.mean(0) - covariance).abs() < 4 * products.std(0) / n**0.5).all()


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("samples", [1, 3])
def test_a_row_of_draws_depends_on_neither_the_batch_nor_other_rows(name, samples):
    def draw(p, rows):
        return p.rsample(Noise.of(1, 150, dtype=torch.float64).take(rows), samples)

    def part(p, rows):
        kept = {
            key: value[rows] if isinstance(value, Tensor) and value.ndim else value
            for key, value in fields(p)
        }
        return type(p)(**kept)

    def fields(p):
        return p.__dict__.items()

    p = DRAWN[name](150)
    p = type(p)(
        **{k: v.expand(150, *v.shape[1:]) if isinstance(v, Tensor) and v.ndim else v for k, v in fields(p)}
    )
    whole = draw(p, slice(0, 150))
    for rows in (slice(0, 1), slice(0, 7), slice(60, 70), torch.tensor([149, 3, 64, 3])):
        assert_close(draw(part(p, rows), rows), whole[:, rows], **closely)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("event", "scale"),
    [
        ((4,), ()),
        ((4,), (4,)),
        ((4,), (1, 4)),
        ((4,), (B, 4)),
        ((B,), (B,)),
        ((2, 3, 4), ()),
        ((2, 3, 4), (2, 1, 1)),
        ((2, 3, 4), (2, 3, 4)),
        ((2, 3, 4), (B, 2, 3, 4)),
    ],
    ids=str,
)
def test_draws_of_a_diagonal_normal_are_mean_plus_scaled_noise(event, scale, samples):
    """z = μ + σ ε, (K, B, *event), however σ broadcasts; so with any weights on z the gradient of μ and of ln σ."""
    mean, log_scale = randn(B, *event).requires_grad_(), 0.5 * randn(*scale, seed=1)
    log_scale.requires_grad_()
    noise = Noise.of(4, B, dtype=torch.float64)
    eps = noise.normal((samples, *event)).transpose(0, 1)
    z = DiagonalNormal(mean, log_scale, len(event)).rsample(noise, samples)
    assert z.shape == (samples, B, *event)
    wanted = torch.stack([mean + log_scale.exp() * each for each in eps])
    assert_close(z, wanted, **closely)
    weights = randn(*z.shape, seed=2)
    found = torch.autograd.grad((weights * z).sum(), [mean, log_scale])
    assert_close(found[0], weights.sum(0), **closely)
    assert_close(found[1], (weights * (z - mean)).detach().sum_to_size(log_scale.shape), **closely)


def test_draws_are_differentiable():
    """∂z/∂μ = 1 and ∂z/∂ln σ = z − μ; through L, ∂z/∂L is the noise."""
    mean, log_scale = randn(B, 4).requires_grad_(), randn(B, 4, seed=1).requires_grad_()
    z = DiagonalNormal(mean, log_scale).rsample(Noise.of(0, B, dtype=torch.float64))[0]
    by_mean, by_scale = torch.autograd.grad(z.sum(), [mean, log_scale])
    assert_close(by_mean, torch.ones_like(mean), **closely)
    assert_close(by_scale, (z - mean).detach(), **closely)
    tril = tril_of((B,), 4, 3).requires_grad_()
    noise = Noise.of(0, B, dtype=torch.float64)
    z = FullNormal(mean, tril).rsample(noise)[0]
    (by_tril,) = torch.autograd.grad(z.sum(), [tril])
    assert_close(by_tril, noise.normal((1, 4)).expand(B, 4, 4), **closely)


def test_a_bernoulli_draws_zeros_and_ones_and_delta_its_point():
    draws = bernoulli((2, 3)).rsample(Noise.of(0, B, dtype=torch.float64), 20)
    assert draws.unique().tolist() == [0.0, 1.0]
    point = Delta(randn(B, 4))
    assert_close(point.rsample(samples=3), point.point.expand(3, B, 4), **exactly)


# ------------------------------------------------------------------------------------------ unflatten
@pytest.mark.parametrize(
    "p",
    [
        DiagonalNormal(randn(6, 4), randn(6, 4, seed=1)),
        DiagonalNormal(randn(6, 4), randn(1, 4, seed=1)),
        DiagonalNormal(randn(6, 4), randn(4, seed=1)),
        DiagonalNormal(randn(6, 2, 2), torch.tensor(0.3).double(), 2),
        FullNormal(randn(6, 4), tril_of((6,), 4, 1)),
        Bernoulli(randn(6, 2, 2), 2),
        Distorted(randn(6, 4), distortions.squared),
    ],
    ids=lambda p: type(p).__name__,
)
def test_unflatten_gives_rows_their_sample_axis(p):
    x = (randn(*p.mean.shape, seed=9) > 0).double()
    split = p.unflatten(3)
    assert split.mean.shape == (3, 2, *p.mean.shape[1:])
    assert_close(split.log_prob(x.unflatten(0, (3, 2))), p.log_prob(x).unflatten(0, (3, 2)), **closely)
    assert_close(Delta(x).unflatten(3).point, x.unflatten(0, (3, 2)), **exactly)
