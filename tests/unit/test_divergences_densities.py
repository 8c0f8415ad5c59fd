"""Divergences of densities, against closed forms, identities, and hand-computed values."""

from __future__ import annotations

from math import inf, isnan, log, log1p, sqrt

import pytest
import torch
import torch.distributions as td
from torch import Tensor
from torch.testing import assert_close

from helpers.divergences import normal, within
from psiphi import divergences as dv
from psiphi.data import toys
from psiphi.divergences._quadrature import integrate
from psiphi.formulas import divergences as formulas
from psiphi.formulas.distributions import Bernoulli, DiagonalNormal, FullNormal, StandardNormal
from psiphi.formulas.flows import Flowed
from psiphi.formulas.mixtures import Categorical, NormalMixture


def test_the_same_gaussian_in_every_dress():
    """Torch's, ours with and without a batch axis, and the toy: one KL, one Jeffreys, one W2, in closed form."""
    covariance = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    mean = torch.full((2,), 0.3, dtype=torch.float64)
    tril = torch.linalg.cholesky(covariance)
    full = [
        td.MultivariateNormal(mean, covariance),
        FullNormal(mean, tril),
        FullNormal(mean[None], tril[None]),
        toys.gaussian(2, correlation=0.5, mean=0.3),
    ]
    zero = torch.zeros(2, dtype=torch.float64)
    standard = [
        td.Independent(td.Normal(zero, zero + 1), 1),
        StandardNormal(zero),
        DiagonalNormal(zero[None], zero.sum()),
        toys.gaussian(2, correlation=0.0),
    ]
    kl = 0.5 * (2 + 2 * 0.09 - 2 - log(0.75))
    for p in full:
        for q in standard:
            found = dv.kl(p, q)
            assert abs(float(found) - kl) < 1e-6
            assert (found.standard_error, found.how) == (0.0, "closed form")
            bures = 2 * 0.09 + 4 - 2 * (sqrt(1.5) + sqrt(0.5))
            assert abs(float(dv.wasserstein(p, q, order=2)) - sqrt(bures)) < 1e-6
            there_and_back = kl + float(dv.kl(q, p))
            assert abs(float(dv.jeffreys(p, q)) - there_and_back) < 1e-12


@pytest.mark.parametrize(
    "pair",
    [
        (td.Gamma(2.0, 1.0), td.Gamma(3.0, 2.0)),
        (td.Exponential(1.0), td.Gamma(2.0, 1.0)),
        (td.Poisson(3.0), td.Poisson(2.0)),
        (td.Dirichlet(torch.ones(3)), td.Dirichlet(torch.tensor([1.0, 2.0, 3.0]))),
        (td.Uniform(0.0, 1.0), td.Normal(0.0, 1.0)),
    ],
)
def test_torchs_closed_forms_are_used(pair):
    found = dv.kl(*pair)
    assert_close(float(found), float(td.kl_divergence(*pair)))
    assert found.how == "closed form"


def test_kl_of_discrete_records():
    p, q = Bernoulli(torch.tensor([[0.0, 1.0]])), Bernoulli(torch.tensor([1.0, -1.0]))
    theirs = td.kl_divergence(td.Bernoulli(logits=p.logits[0]), td.Bernoulli(logits=q.logits)).sum()
    assert_close(float(dv.kl(p, q)), float(theirs))
    one, other = Categorical(torch.tensor([0.0, 1.0, 2.0])), Categorical(torch.zeros(1, 3))
    theirs = td.kl_divergence(td.Categorical(logits=one.logits), td.Categorical(logits=other.logits[0]))
    assert_close(float(dv.kl(one, other)), float(theirs))
    missing = Categorical(torch.tensor([0.0, 0.0, -inf]))
    assert float(dv.kl(one, missing)) == inf
    assert float(dv.kl(missing, one)) < inf


def test_monte_carlo_knows_its_error():
    """KL(log-normal ‖ exponential) has no closed form in torch, but is E x − ½(1 + ln 2π) + E ln x, E ln x = 0."""
    p, q = td.LogNormal(0.0, 0.5), td.Exponential(1.0)
    theory = float(p.mean) - float(p.entropy())
    found = dv.kl(p, q, draws=40_000)
    within(found, theory)
    assert found.how == "Monte Carlo, 40 000 draws"
    assert dv.kl(p, q, draws=40_000) == found
    assert dv.kl(p, q, draws=40_000, seed=1).value != found.value


@pytest.mark.parametrize(
    ("p", "standard"),
    [
        (NormalMixture(torch.zeros(2), torch.zeros(2, 2), torch.zeros(2, 2)), True),
        (Flowed(StandardNormal(torch.zeros(1, 2)), td.transforms.identity_transform), True),
        (toys.Mixture("one", torch.zeros(1, 2), 1.0), True),
        (toys.Mixture("one", torch.zeros(1, 2), 2.0), False),
    ],
)
def test_densities_without_a_closed_form_are_drawn_from(p, standard, monkeypatch):
    """Each is N(0, I), or N(0, 4 I), by another name; the estimate is of zero variance where p = q."""
    if isinstance(p, Flowed):
        p = Flowed(p.base, Identity())
    found = dv.kl(p, StandardNormal(torch.zeros(2)), draws=20_000)
    assert "Monte Carlo" in found.how
    if standard:
        assert abs(float(found)) < 1e-5
    else:
        within(found, 0.5 * 2 * (4 - 1 - log(4)))


class Identity:
    """A transform of a flow that changes nothing."""

    inv = property(lambda self: self)

    def call_and_ladj(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u, torch.zeros(u.shape[:-1])


def test_off_the_support_kl_is_infinite_and_says_so():
    narrow, wide = (td.Uniform(low, 1.0, validate_args=True) for low in (0.0, -1.0))
    assert float(dv.kl(narrow, wide)) == pytest.approx(log(2))
    for p, q in ((wide, narrow), (td.StudentT(3.0), narrow), (td.Laplace(0.0, 1.0), td.LogNormal(0.0, 1.0))):
        found = dv.kl(p, q)
        assert float(found) == inf
        assert "q has no density" in found.how
        assert float(dv.jeffreys(p, q)) == inf
        assert not isnan(float(dv.js(p, q)))
        assert float(dv.js(p, q)) <= log(2)
    assert str(dv.kl(wide, narrow)).startswith("inf (closed form: q has no density where p has about 49")


@pytest.mark.parametrize(
    ("p", "q", "theory"),
    [
        (td.Uniform(0.0, 1.0), td.Uniform(0.5, 1.5), log(2) / 2),
        (td.Uniform(0.0, 1.0), td.Uniform(0.0, 0.25), 0.375 * log(2) - 0.625 * log(2.5) + log(2)),
        (normal(0, 1e-4), normal(50, 3), log(2)),
        (normal(2, 3), normal(2, 3), 0.0),
        (td.Cauchy(0.0, 1.0), td.Cauchy(0.0, 1.0), 0.0),
    ],
)
def test_js_on_the_line(p, q, theory):
    """By quadrature through jumps and narrow peaks; for [0, 1] and [0, ¼] it is H(m) − ½ H(p) − ½ H(q)."""
    found = dv.js(p, q)
    assert found.how == "quadrature"
    assert abs(float(found) - theory) < 2e-6
    assert float(dv.js(q, p)) == pytest.approx(float(found), abs=1e-6)


def test_a_quadrature_halves_panels_until_it_finds_jumps_and_spikes():
    edges = torch.tensor([0.0, 0.7, 1.0], dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return torch.stack([(x < 1 / 3).double(), (-((x - 0.5) / 1e-3).square()).exp(), x.rsqrt()])

    found, error = integrate(f, edges, 1e-11)
    wanted = torch.tensor([1 / 3, 1e-3 * sqrt(torch.pi), 2.0], dtype=torch.float64)
    assert_close(found, wanted, rtol=0, atol=1e-6)
    assert error < 1e-6


def test_js_falls_back_on_draws_where_a_quadrature_misses_mass():
    """A density that no draw of 4 096 shows as it is: half its mass in a spike that its sampler never visits."""

    class Spiked:
        shape = (1,)

        def __call__(self, n, noise):
            return noise.uniform((1,))

        def log_prob(self, x):
            return torch.where((x[:, 0] >= 0) & (x[:, 0] <= 1), log(0.5), -inf)

    assert "Monte Carlo" in dv.js(Spiked(), td.Uniform(0.0, 1.0)).how


def test_js_of_discrete_distributions_by_draws():
    p, q = td.Bernoulli(0.2), td.Bernoulli(0.7)
    m = td.Bernoulli(0.45)
    theory = 0.5 * float(td.kl_divergence(p, m) + td.kl_divergence(q, m))
    within(dv.js(p, q, draws=20_000), theory)


P3, Q3 = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.6, 0.3])


@pytest.mark.parametrize("kind", [td.Categorical, td.OneHotCategorical])
def test_categories_of_torch(kind):
    """By hand: Σ p ln p/q, both ways, and with the even mixture; whether given by probabilities or by logits."""
    p, q = kind(P3), kind(logits=Q3[None].log() + 7)
    there, back = float((P3 * (P3 / Q3).log()).sum()), float((Q3 * (Q3 / P3).log()).sum())
    m = (P3 + Q3) / 2
    js = 0.5 * float((P3 * (P3 / m).log()).sum() + (Q3 * (Q3 / m).log()).sum())
    for found, wanted in ((dv.kl(p, q), there), (dv.jeffreys(p, q), there + back), (dv.js(p, q), js)):
        assert float(found) == pytest.approx(wanted, rel=1e-5)
        assert (found.standard_error, found.how) == (0.0, "closed form")


@pytest.mark.parametrize("kind", [td.Categorical, td.OneHotCategorical])
@pytest.mark.parametrize("share", [0.25, 1e-5])
def test_categories_without_mass(kind, share):
    """+inf with the share that q misses, however small; ln 2 exactly on disjoint ones."""
    p, q = kind(torch.tensor([1 - share, share, 0.0])), kind(torch.tensor([1.0, 0.0, 0.0]))
    found = dv.kl(p, q)
    assert float(found) == float(dv.jeffreys(q, p)) == inf
    assert f"q has no mass where p has {share:g} of its mass" in found.how
    assert float(dv.kl(q, p)) == pytest.approx(-log1p(-share), rel=1e-2)
    apart = dv.js(q, kind(torch.tensor([0.0, 1.0, 1.0])))
    assert float(apart) == log(2)
    assert float(dv.js(kind(P3), kind(P3))) == 0


def test_categories_beside_counts_are_drawn_from():
    """KL(p ‖ Poisson(1)) = Σ p_k (ln p_k + 1 + ln k!); the other way there are counts beyond the categories."""
    p = td.Categorical(P3)
    theory = float((P3 * P3.log()).sum()) + 1 + 0.2 * log(2)
    within(dv.kl(p, td.Poisson(1.0), draws=20_000), theory)
    assert float(dv.kl(td.Poisson(1.0), p, draws=1000)) == inf
    assert float(dv.wasserstein(p, p, seed=1, draws=100)) < 0.5


def test_js_terms_never_pass_ln_2():
    gap = torch.tensor([-inf, -800.0, 0.0, 800.0], dtype=torch.float64)
    terms = formulas.js_terms(torch.zeros(4, dtype=torch.float64), gap)
    assert_close(terms, torch.tensor([log(2), log(2), 0.0, log(2) - 800], dtype=torch.float64))
