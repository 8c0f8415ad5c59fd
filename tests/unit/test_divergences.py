"""Divergences of densities and of samples, against closed forms, identities, and hand-computed values."""

from __future__ import annotations

from math import inf, isnan, log, log1p, sqrt

import pytest
import torch
import torch.distributions as td
from torch import Tensor
from torch.testing import assert_close

from psiphi import divergences as dv
from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.data import toys
from psiphi.divergences._quadrature import integrate
from psiphi.formulas import divergences as formulas
from psiphi.formulas.distributions import Bernoulli, Delta, DiagonalNormal, FullNormal, StandardNormal
from psiphi.formulas.flows import Flowed
from psiphi.formulas.mixtures import Categorical, NormalMixture
from psiphi.zoo import vae


def draws(seed: int, n: int, d: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(mean: float, sigma: float) -> td.Normal:
    return td.Normal(torch.tensor(mean, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64))


def within(estimate: dv.Estimate, theory: float) -> None:
    assert estimate.standard_error > 0
    assert abs(float(estimate) - theory) <= 4 * estimate.standard_error, (estimate, theory)


# ----------------------------------------------------------------------------------------- densities
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


# ------------------------------------------------------------------------------------------- samples
@pytest.mark.parametrize("d", [1, 3])
def test_neighbours_find_the_kl_of_gaussians(d):
    """½ ‖Δ‖² = 1/8 within 4 SE."""
    x, y = draws(1, 4000, d), draws(2, 4000, d)
    y[:, 0] += 0.5
    found = dv.kl(x, y)
    within(found, 0.125)
    assert found.standard_error < 0.03
    assert found.how == "k nearest neighbours, k = 5"
    within(dv.jeffreys(x, y), 0.25)


def test_the_error_of_neighbours_is_their_spread():
    """Over 40 repetitions, away from p = q: within 0.7 to 1.5 of the standard deviation (its own error is 11 %)."""
    found = [dv.kl(draws(i, 300, 2), draws(500 + i, 300, 2) + 1) for i in range(40)]
    spread = float(torch.tensor([each.value for each in found]).std())
    error = (sum(each.standard_error**2 for each in found) / 40) ** 0.5
    assert 0.7 * spread < error < 1.5 * spread
    assert isnan(dv.kl(draws(0, 20, 2), draws(1, 20, 2)).standard_error)


def test_tree_and_blocks_find_the_same_neighbours(monkeypatch):
    x, y = draws(3, 300, 4), draws(4, 200, 4)
    tree, error = formulas.neighbour_kl(x, y, 3)
    monkeypatch.setattr(formulas, "_TREE_UP_TO", 0)
    monkeypatch.setattr(formulas, "_CHUNK", 1000)
    blocks, again = formulas.neighbour_kl(x, y, 3)
    assert_close(blocks, tree)
    assert again == pytest.approx(error)


def test_the_jackknife_of_neighbours_is_leaving_rows_out():
    x, y = draws(5, 60, 2), draws(6, 50, 2) + 1
    means = torch.stack([
        formulas.neighbour_kl(x[torch.arange(60) % 10 != g], y[torch.arange(50) % 10 != g], 3)[0].mean()
        for g in range(10)
    ])  # fmt: skip
    wanted = sqrt(0.9 * float((means - means.mean()).square().sum()))
    assert formulas.neighbour_kl(x, y, 3)[1] == pytest.approx(wanted)


def test_neighbour_kl_by_hand():
    """x = 0, 1, 3 against y = 0.5, 4: nearest of their own 1, 1, 2, of the others ½, ½, 1."""
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [4.0]])
    terms = torch.tensor([0.5, 0.5, 0.5]).log() + log(2 / 2)
    assert_close(formulas.neighbour_kl(x, y, 1)[0], terms)


def test_transport_by_hand():
    assert float(dv.wasserstein([0.0, 3.0], [1.0, 1.0])) == pytest.approx(1.5)
    assert float(dv.wasserstein([0.0, 3.0], [1.0, 1.0], order=2)) == pytest.approx(sqrt(2.5))
    assert float(dv.wasserstein([0.0, 3.0], [1.0])) == pytest.approx(1.5)
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert float(dv.wasserstein(*square)) == pytest.approx(5 / 6 + sqrt(2) / 6)
    assert float(dv.wasserstein(draws(0, 20, 3), draws(0, 20, 3))) == 0


def test_unequal_samples_are_repeated_ones():
    """Samples of 4 and 6 couple as if each were repeated to 12."""
    x, y = draws(5, 4, 1)[:, 0], draws(6, 6, 1)[:, 0]
    repeated = formulas.transport_1d(x.repeat(3), y.repeat(2), 2)
    assert_close(formulas.transport_1d(x, y, 2), repeated)


def test_images_are_flattened_and_arrays_taken():
    x, y = draws(7, 30, 12), draws(8, 25, 12)
    flat = float(dv.wasserstein(x, y))
    assert float(dv.wasserstein(x.view(30, 3, 2, 2).numpy(), y.view(25, 3, 2, 2))) == flat
    bytes_ = torch.tensor([[0], [255]], dtype=torch.uint8)
    assert float(dv.wasserstein(bytes_, [0.0, 0.0])) == pytest.approx(0.5)


def test_sliced_transport_does_not_depend_on_its_chunks(monkeypatch):
    x, y = draws(9, 40, 5), draws(10, 40, 5)
    whole = dv.sliced_wasserstein(x, y, directions=50)
    monkeypatch.setattr(formulas, "_CHUNK", 100)
    assert float(dv.sliced_wasserstein(x, y, directions=50)) == pytest.approx(float(whole), rel=1e-12)


def test_sliced_transport_descends():
    """Its gradient moves x onto y: the flow that trains by it."""
    x, y = draws(11, 20, 3).requires_grad_(), draws(12, 20, 3) + 2
    along = torch.nn.functional.normalize(draws(13, 30, 3), dim=1)
    before = formulas.sliced_transport(x, y, along, 2).mean()
    (slope,) = torch.autograd.grad(before, x)
    after = formulas.sliced_transport(x - 10 * slope, y, along, 2).mean()
    assert after < 0.6 * before
    # A shift of all of x by ε changes the mean square gap along θ by 2 ε ⟨θ, mean gap⟩.
    shift = 2 * ((x - y).mean(0) @ along.T @ along).div(30)
    assert_close(slope.sum(0), shift.detach())


def test_frechet_of_fitted_gaussians_is_zero_on_itself():
    x = draws(14, 30, 4)
    fitted = x.mean(0), x.T.cov()
    assert float(formulas.gaussian_frechet(*fitted, *fitted)) < 1e-12


def test_densities_and_samples_meet_through_draws():
    x = draws(15, 500, 2)
    for distance in (dv.mmd, dv.energy):
        found = distance(x, td.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        assert abs(float(found)) <= 4 * found.standard_error
        assert "500 draws" in found.how
    assert float(dv.mmd(toys.moons(), toys.grid(), draws=300)) > 0.1
    line = dv.wasserstein(normal(0, 1), normal(2, 1))
    assert abs(float(line) - 2) < 4 * sqrt(2 / 100_000)
    assert line.how == "sorting, 100 000 draws"


# --------------------------------------------------------------------------------------------- errors
X = draws(0, 10, 2)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: dv.wasserstein(X, X[:, :1]), ShapeError, "rows of 2 numbers and q of 1"),
        (
            lambda: dv.kl(normal(0, 1), StandardNormal(torch.zeros(2))),
            ShapeError,
            "rows of 1 numbers and q of 2",
        ),
        (lambda: dv.energy(X, X * float("nan")), DataError, "NaN or infinity in 10 of 10 rows"),
        (lambda: dv.mmd(X, X[:2]), DataError, "at least 3 rows"),
        (lambda: dv.wasserstein(X, X[:0]), DataError, "at least 1 rows"),
        (lambda: dv.mmd(X, 3.0), ShapeError, "give real samples"),
        (lambda: dv.kl(X, X + 1, neighbours=10), ArgumentError, "from 1 to 9"),
        (lambda: dv.kl(X.repeat(6, 1), X + 1), DataError, "exact copies"),
        (lambda: dv.kl(X, X + 1, neighbours=2.5), ArgumentError, "neighbours is 2.5; give a whole number"),
        (lambda: dv.kl(X, X + 1, neighbours="a"), ArgumentError, "whole number"),
        (
            lambda: dv.sliced_wasserstein(X, X, directions=2.5),
            ArgumentError,
            "2.5 directions .* whole number",
        ),
        (lambda: dv.wasserstein(X, X, order="a"), ArgumentError, "order is 'a'"),
        (lambda: dv.mmd(toys.moons(), toys.grid(), draws=2.5), ArgumentError, "2.5 draws .* whole number"),
        (lambda: dv.js(td.Poisson(1.0), td.Poisson(2.0), draws=2.5), ArgumentError, "2.5 draws"),
        (
            lambda: dv.kl(td.Categorical(P3), td.Categorical(torch.ones(4))),
            ShapeError,
            "3 categories and q 4",
        ),
        (lambda: dv.js(X, X), ArgumentError, "learnt critic"),
        (lambda: dv.js(td.Poisson(1.0), normal(0, 1)), ArgumentError, "share no measure"),
        (lambda: dv.kl(td.Normal(torch.zeros(3), 1.0), normal(0, 1)), ArgumentError, "Independent"),
        (lambda: dv.kl(StandardNormal(torch.zeros(3, 2)), X), ArgumentError, "batch of 3"),
        (lambda: dv.kl(Delta(torch.zeros(2)), StandardNormal(torch.zeros(2))), ArgumentError, "no density"),
        (lambda: dv.kl(toys.moons(), toys.grid()), ArgumentError, "no log_prob"),
        (lambda: dv.kl(vae(4, latent_dim=1), X), ArgumentError, "model.sample"),
        (lambda: dv.mmd(X, X, kernel="linear"), ArgumentError, "imq, rbf"),
        (lambda: dv.mmd(X, X, scales=(0.0,)), ArgumentError, "positive"),
        (lambda: dv.mmd(X[:1].expand(9, 2), X[:1].expand(9, 2)), DataError, "all rows are equal"),
        (lambda: dv.wasserstein(X, X, order=0.5), ArgumentError, "order"),
        (lambda: dv.wasserstein(torch.zeros(20_000, 2), torch.zeros(20_000, 2)), ArgumentError, "sliced"),
        (lambda: dv.sliced_wasserstein(X, X, directions=1), ArgumentError, "directions"),
        (lambda: dv.kl(td.LogNormal(0.0, 1.0), td.Exponential(1.0), draws=1), ArgumentError, "at least 2"),
        (lambda: dv.mmd("samples", X), ArgumentError, "give samples"),
    ],
)
def test_bad_input_gets_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_an_estimate_reads_as_a_number_and_as_a_line():
    found = dv.Estimate(0.5, 0.01, "closed form")
    assert float(found) == 0.5
    assert str(found) == "0.5 ± 0.01 (closed form)"
    assert found.as_dict() == {"value": 0.5, "standard_error": 0.01, "how": "closed form"}
    assert str(dv.Estimate(0.5, 0.0, "closed form")) == "0.5 (closed form)"


def test_the_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    dv.kl(td.LogNormal(0.0, 1.0), td.Exponential(1.0), draws=10)
    dv.sliced_wasserstein(X, X + 1)
    assert torch.equal(torch.random.get_rng_state(), before)
