"""Divergences of samples, against closed forms and hand-computed values; input that is refused."""

from __future__ import annotations

from math import isnan, log, sqrt

import pytest
import torch
import torch.distributions as td
from torch.testing import assert_close

from helpers.divergences import draws, normal, within
from psiphi import divergences as dv
from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.data import toys
from psiphi.formulas import divergences as formulas
from psiphi.formulas.distributions import Delta, StandardNormal
from psiphi.zoo import vae


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
            lambda: dv.kl(td.Categorical(torch.ones(3)), td.Categorical(torch.ones(4))),
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
