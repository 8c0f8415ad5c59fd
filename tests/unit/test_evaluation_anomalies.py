"""Ranking odd rows, and densities as bits: against scikit-learn, closed forms and counting."""

from __future__ import annotations

import json
from math import log

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import digits
from psiphi.basis.errors import ArgumentError, DataError, MeasureError, MissingVerb
from psiphi.basis.noise import Noise, generator
from psiphi.evaluation import anomalies, binarised, dequantised, heading, likelihood
from psiphi.evaluation._anomalies import _ranked
from psiphi.evaluation._dequantise import spacing
from psiphi.formulas.detection import (
    Levels,
    auroc,
    auroc_interval,
    average_precision,
    count,
    hanley_mcneil,
    levels,
    mahalanobis,
)


def at_levels(normal: torch.Tensor, odd: torch.Tensor) -> Levels:
    ranks = levels(normal, odd)
    return count(*ranks, int(torch.cat(ranks).max()) + 1)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "anomalies"), dtype=torch.double)


@pytest.mark.parametrize("digits_kept", [1, 12])
def test_areas_are_scikit_learns_with_and_without_ties(digits_kept):
    normal, odd = draws(300).round(decimals=digits_kept), (draws(70, seed=1) + 1).round(decimals=digits_kept)
    at = at_levels(normal, odd)
    truth, scores = [0] * 300 + [1] * 70, torch.cat([normal, odd]).numpy()
    assert auroc(at) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(at) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    pairs = (odd[:, None] > normal).double() + 0.5 * (odd[:, None] == normal)
    assert auroc(at) == pytest.approx(float(pairs.mean()), abs=1e-12)


def test_areas_by_hand():
    at = at_levels(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
    assert at.normal.tolist() == [0, 1, 1]
    assert at.odd.tolist() == [1, 1, 0]
    assert auroc(at) == 3.5 / 4
    assert average_precision(at) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_variance_of_the_area_under_exponential_scores():
    """Hanley and McNeil's variance is exact for exponential scores: A = λ₀/(λ₀ + λ₁) for rates λ₀, λ₁."""
    n, m, trials = 30, 20, 4000
    gen = generator(5, "exponential")
    normal = -torch.rand(trials, n, 1, generator=gen, dtype=torch.double).log()
    odd = -3 * torch.rand(trials, 1, m, generator=gen, dtype=torch.double).log()
    areas = (odd > normal).double().mean((1, 2))
    assert float(areas.mean()) == pytest.approx(0.75, abs=4 * float(areas.std()) / trials**0.5)
    assert hanley_mcneil(0.75, n, m) == pytest.approx(float(areas.var()), rel=4 * (2 / trials) ** 0.5)
    low, high = zip(*(auroc_interval(a, n, m) for a in areas[:200].tolist()))
    covered = ((torch.tensor(low) <= 0.75) & (torch.tensor(high) >= 0.75)).double().mean()
    assert float(covered) > 0.95 - 4 * (0.95 * 0.05 / 200) ** 0.5


def test_the_interval_of_a_perfect_area_is_not_empty():
    low, high = auroc_interval(1.0, 50, 10)
    assert 0.8 < low < 0.99
    assert high == 1
    z = 1.959964
    assert 1 - low == pytest.approx(z * hanley_mcneil(low, 50, 10) ** 0.5, rel=1e-4)
    low, high = auroc_interval(0.5, 500, 500)
    assert 0.5 - low == pytest.approx(
        z * (1 / 12 / 250) ** 0.5, rel=0.05
    )  # Mann and Whitney's variance at chance


def test_the_bootstrap_holds_the_value_and_narrows_with_rows():
    few = _ranked(draws(100), draws(20, seed=1) + 1, 0)
    many = _ranked(draws(2000), draws(400, seed=1) + 1, 0)
    for found in (few, many):
        assert found.aupr_interval[0] < found.aupr < found.aupr_interval[1]
    assert many.aupr_interval[1] - many.aupr_interval[0] < (few.aupr_interval[1] - few.aupr_interval[0]) / 2
    assert _ranked(draws(100), draws(20, seed=1) + 1, 0) == few
    assert _ranked(draws(100), draws(20, seed=1) + 100, 0).aupr_interval == (1, 1)


def test_mahalanobis_distances():
    rotation = torch.linalg.qr(draws(3, 3))[0]
    spread = torch.tensor([3.0, 1, 0.1]).double()
    mean, covariance = draws(3, seed=2), rotation * spread.square() @ rotation.T
    z = mean + torch.eye(3).double() * spread @ rotation.T
    assert_close(mahalanobis(z, mean, covariance), torch.ones(3).double())
    flat = mahalanobis(z, mean, torch.diag(torch.tensor([1.0, 1, 0]).double()))
    assert bool(flat.isfinite().all())


def test_scores_of_pca_against_what_they_are():
    """Reconstruction is the squared distance to the plane, nll the exact density, latent the whitened code."""
    x = digits()[0].double()
    model = pp.zoo.pca((1, 8, 8), 4).double()
    pp.fit(model, x, quiet=True)
    odd = x.flip(0)[:20].roll(3, dims=2)
    found = anomalies(model, x, odd, train=x)
    rows = torch.cat([x, odd])
    z = model.encode(rows)
    wanted = {
        "reconstruction": (rows - model.reconstruct(rows)).square().sum((1, 2, 3)),
        "nll": -model.log_prob(rows),
        "latent": (z / z[:64].std(0, correction=0)).square().sum(1),
    }
    truth = [0] * 64 + [1] * 20
    for name, score in wanted.items():
        assert found.scores[name].auroc == pytest.approx(roc_auc_score(truth, score), abs=1e-12), name
    assert "posterior" in found.why["elbo"]
    assert (found.normal, found.odd) == (64, 20)
    assert found.scores[found.best].auroc == max(each.auroc for each in found.scores.values())
    assert json.loads(json.dumps(found.as_dict()))["odd"] == 20
    assert "84)" in str(found)


def test_labels_say_the_same_as_rows_apart():
    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 3, hidden=(16,))
    pp.fit(model, x, steps=30, quiet=True)
    odd = 1 - x[:30]
    names = ("anomaly_score", "reconstruction", "elbo", "nll")
    apart = anomalies(model, x, odd, scores=names, samples=20)
    mixed = anomalies(model, torch.cat([x, odd]), labels=[0] * 64 + [1] * 30, scores=names, samples=20)
    assert apart == mixed
    assert tuple(apart.scores) == names
    assert apart.scores["reconstruction"].auroc > 0.99


def test_a_score_that_a_model_lacks_says_why():
    x = digits()[0]
    found = anomalies(pp.zoo.ae((1, 8, 8), 2), x, 1 - x)
    assert set(found.scores) == {"anomaly_score", "reconstruction"}
    assert "no prior" in found.why["nll"]
    assert "train=" in found.why["latent"]
    grey = anomalies(pp.zoo.vae((1, 8, 8), 2, likelihood="bernoulli"), x, 1 - x, scores=("nll",))
    assert "grey values" in grey.why["nll"]


def test_wrong_questions_get_a_sentence():
    model, x = pp.zoo.ae((1, 8, 8), 2), digits()[0]
    with pytest.raises(ArgumentError, match="no score 'likelihood'"):
        anomalies(model, x, x, scores=("likelihood",))
    for how in ({}, {"odd": x, "labels": [0] * 64}):
        with pytest.raises(ArgumentError, match="one of odd= and labels="):
            anomalies(model, x, **how)
    with pytest.raises(DataError, match="64 normal and 0 odd"):
        anomalies(model, x, labels=[0] * 64)
    with pytest.raises(DataError, match=r"0 \(normal\) or 1 \(odd\)"):
        anomalies(model, x, labels=[2] * 64)


# ------------------------------------------------------------------------------------- dequantised


class Density:
    """A density on two numbers that one writes down."""

    shape, measure, title = (2,), "continuous", "density"

    def __init__(self, log_prob):
        self.log_prob = lambda x, samples=0, seed=0: log_prob(x)


@pytest.mark.parametrize(
    ("given", "step"), [(torch.arange(256, dtype=torch.uint8), 1 / 255), (torch.arange(5) / 4, 0.25)]
)
def test_a_density_that_is_flat_costs_the_logarithm_of_the_levels(given, step):
    """p = 1/(1 + Δ)² on [−Δ/2, 1 + Δ/2]², of L = 1 + 1/Δ levels a side: log₂ L bits a dimension, exactly."""
    flat = Density(lambda x: torch.full((len(x),), -2 * log(1 + step)))
    x = torch.stack([given, given.flip(0)], 1)
    found = dequantised(flat, x)
    assert found.mean == pytest.approx(log(len(given), 2), abs=1e-6)
    assert (found.measure, found.unit, found.spread) == (
        "dequantised",
        "bits per dimension",
        pytest.approx(0, abs=1e-6),
    )
    assert "bits per dimension (dequantised" in str(found)


def test_uniform_dequantisation_bounds_the_probability_of_the_cells():
    """A normal density: the exact cost is that of the cells' masses, and the bound exceeds it by its Jensen gap."""
    normal = torch.distributions.Normal(0.5, 0.3)
    model = Density(lambda x: normal.log_prob(x).sum(1))
    x = (torch.rand(4000, 2, generator=generator(1, "levels")) * 16).round() / 16
    mass = normal.cdf(x + 1 / 32) - normal.cdf(x - 1 / 32)
    exact = -float(mass.log().sum(1).mean()) / (2 * log(2))
    found = dequantised(model, x, seed=2)
    assert found.mean == pytest.approx(exact, abs=4 * found.spread + 0.01)
    # Jensen's gap to second order: Var of ln p within a cell over 2, a dimension.
    slope = ((x - 0.5) / 0.09).square().mean() / 16**2 / 12
    curve = float(slope) / 2 / log(2)
    jitter = 4 * (2 * curve * log(2) / len(x) / 2) ** 0.5 / log(2)
    assert found.mean - exact == pytest.approx(curve, abs=jitter)
    assert found.mean > exact


def test_errors_are_in_the_same_unit():
    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 4, hidden=(16,))
    pp.fit(model, x, steps=30, quiet=True)
    bits, nats = dequantised(model, x, samples=50), likelihood(model, x, samples=50)
    size = 64 * log(2)
    assert bits.mean == pytest.approx(-(nats.mean - 64 * log(16)) / size, rel=0.02)
    assert bits.spread == pytest.approx(nats.spread / size, rel=0.3)
    assert bits.bias > 0 > nats.bias
    assert nats.unit == "nats"
    assert bits.samples == 50


def test_levels_are_found_or_asked_for():
    assert spacing(torch.tensor([0.0, 0.25, 1.0])) == pytest.approx(0.25)
    assert spacing(torch.arange(256) / 255) == pytest.approx(1 / 255)
    assert spacing(torch.tensor([0.0, torch.nan, 0.5])) == 0.5  # a gap is no level
    for x in (draws(50), torch.ones(3), torch.tensor([0.0, 0.1, 0.25])):
        with pytest.raises(DataError, match="multiples of one step"):
            spacing(x)


def test_only_densities_are_dequantised():
    x = digits()[0]
    with pytest.raises(MeasureError, match="discrete"):
        dequantised(pp.zoo.vae((1, 8, 8), 2, likelihood="bernoulli"), (x > 0.5).float())
    with pytest.raises(MissingVerb):
        dequantised(pp.zoo.ae((1, 8, 8), 2), x)


def test_binarised_pixels_are_those_of_their_noise():
    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 2, likelihood="bernoulli", hidden=(8,))
    pp.fit(model, x, steps=10, quiet=True)
    bits = pp.data.binarize(x, Noise.of(3, 64).split("binarise"))
    found, plain = binarised(model, x, samples=50, seed=3), likelihood(model, bits, samples=50, seed=3)
    assert (found.mean, found.spread) == (plain.mean, plain.spread)
    assert found.measure == "binarised"
    assert binarised(model, bits, samples=50, seed=3).mean == found.mean  # bits are drawn as they are
    with pytest.raises(MeasureError, match="continuous"):
        binarised(pp.zoo.vae((1, 8, 8), 2, likelihood="gaussian"), x)
    with pytest.raises(MissingVerb):
        binarised(pp.zoo.ae((1, 8, 8), 2), x)


def test_each_measure_has_a_heading_of_its_own():
    names = [
        heading(each)
        for each in ("continuous", "discrete", "mixed", "binarised", "dequantised", "loss-only", "new")
    ]
    assert len(set(names)) == 7
    assert "new" in names[-1]
    assert "nats" in heading("continuous")
