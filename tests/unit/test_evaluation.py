"""Numbers about models, on models whose numbers are known."""

from __future__ import annotations

import json
from math import inf, log

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import digits
from psiphi.basis.errors import DataError, MeasureError, MissingVerb, ShapeError
from psiphi.evaluation import Likelihood, likelihood, reconstruction, samples
from psiphi.evaluation._likelihood import standard_error
from psiphi.evaluation._samples import entropy
from psiphi.formulas.bounds import ImportanceSums


class Weighed:
    """A model with the importance weights (1, 2, 3), (2, 2, 2), (1, 1, 10) … of its rows."""

    shape, measure = (2,), "continuous"
    weights = torch.tensor([[1.0, 2, 3], [2, 2, 2], [1, 1, 10], [4, 4, 4]], dtype=torch.float64)

    def log_prob(self, x, samples=3, seed=0):
        return self.importance(x, samples, seed).estimate

    def importance(self, x, samples, seed):
        assert (samples, seed) == (3, 7)
        return ImportanceSums.of(self.weights[: len(x)].log().T)


def test_the_likelihood_of_known_weights():
    found = likelihood(Weighed(), torch.zeros(4, 2), samples=3, seed=7)
    values = [log(2), log(2), log(4), log(4)]
    effective = [36 / 14, 3.0, 144 / 102, 3.0]
    squares = [1 / each - 1 / 3 for each in effective]
    assert found.mean == pytest.approx(sum(values) / 4)
    assert found.standard_error == pytest.approx(sum(squares) ** 0.5 / 4)
    assert found.spread == pytest.approx((4 * (log(2) / 2) ** 2 / 3) ** 0.5 / 2)
    assert found.bias == pytest.approx(-sum(squares) / 4 / 2)
    assert found.effective == pytest.approx(36 / 14)  # the lower of the two in the middle
    assert (found.untrusted, found.measure, found.samples, found.rows) == (4, "continuous", 3, 4)
    assert str(found) == (
        "1.04 nats (continuous; ± 0.16 Monte Carlo, ESS 3; ± 0.2 over 4 points; 4 rows with an effective sample size "
        "below 10)"
    )
    assert json.loads(json.dumps(found.as_dict()))["rows"] == 4


def test_an_exact_likelihood_has_no_sampling_error():
    x = digits()[0]
    model = pp.zoo.pca((1, 8, 8), 4)
    pp.fit(model, x, quiet=True)
    found, values = likelihood(model, x), model.log_prob(x)
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.spread == pytest.approx(float(values.std()) / 8)
    assert (found.standard_error, found.bias, found.samples, found.untrusted, found.rows) == (0, 0, 0, 0, 64)
    assert "continuous; exact; ±" in str(found)
    assert found.effective == inf


def test_the_likelihood_of_a_vae_is_that_of_its_verb():
    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 4, hidden=(16,))
    pp.fit(model, x, steps=30, quiet=True)
    found = likelihood(model, x, samples=50, seed=3)
    assert found.mean == pytest.approx(float(model.log_prob(x, samples=50, seed=3).mean().detach()), rel=1e-6)
    assert found.mean != likelihood(model, x, samples=50, seed=4).mean
    assert likelihood(model, x.flatten(1).numpy(), samples=50, seed=3) == found
    assert 1 <= found.effective <= 50
    more = likelihood(model, x, samples=2000, seed=3)
    assert more.standard_error < found.standard_error


def test_models_without_a_likelihood_say_so():
    x = digits()[0]
    with pytest.raises(MissingVerb, match=r"ae cannot log_prob: it has no prior"):
        likelihood(pp.zoo.ae((1, 8, 8), 4), x)
    model = pp.zoo.vae((1, 8, 8), 4, likelihood="bernoulli")
    with pytest.raises(MeasureError, match="no density on grey values"):
        likelihood(model, x)
    with pytest.raises(ShapeError, match=r"the model takes \(B, 1, 8, 8\)"):
        likelihood(model, x[..., :3])


def test_standard_errors():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert standard_error(values) == pytest.approx((5 / 3) ** 0.5 / 2)
    assert standard_error(values[:1]) == 0.0


def test_a_single_row():
    found = likelihood(Weighed(), torch.zeros(1, 2), samples=3, seed=7)
    assert (found.rows, found.spread) == (1, 0.0)
    assert found.mean == pytest.approx(log(2))
    assert isinstance(found, Likelihood)


class Halved:
    shape = (1, 2, 2)

    def reconstruct(self, x):
        return x / 2


def test_reconstruction_by_hand():
    """Squared errors of three rows: 4·(½)²·{1, 4, 9}."""
    x = torch.ones(3, 1, 2, 2) * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    found = reconstruction(Halved(), x)
    assert found.squared_error == pytest.approx((1 + 4 + 9) / 3)
    assert found.standard_error == pytest.approx(torch.tensor([1.0, 4.0, 9.0]).std().item() / 3**0.5)
    assert found.rows == 3
    assert str(found) == "squared error 4.667 ± 2.3 a sample (3 samples)"
    assert reconstruction(Halved(), x.flatten(1)) == found
    assert json.loads(json.dumps(found.as_dict()))["rows"] == 3


def test_reconstruction_of_pca_is_what_it_discards():
    x = digits()[0].double()
    model = pp.zoo.pca((1, 8, 8), 10).double()
    pp.fit(model, x, quiet=True)
    spectrum = torch.linalg.eigvalsh(x.flatten(1).T.cov(correction=0))
    assert reconstruction(model, x).squared_error == pytest.approx(float(spectrum[:-10].sum()), rel=1e-6)


class Dealt:
    """Deals class i % 3 as a one-hot row, sample i."""

    def sample(self, n, *, seed=0, exact=False):
        assert (seed, exact) == (5, True)
        return torch.eye(4)[torch.arange(n) % 3]


class Loud(nn.Module):
    """Logits of ln 7 on the class of the row: probability 7/10."""

    def forward(self, x):
        return x * log(7)


def test_the_diversity_of_samples():
    y = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, -1, -1])
    found = samples(Dealt(), Loud(), y, n=3000, seed=5, exact=True)
    assert found.counts == [1000, 1000, 1000, 0]
    assert found.entropy == pytest.approx(log(3))
    assert found.data_entropy == pytest.approx(log(4))
    assert found.ratio == pytest.approx(log(3) / log(4))
    assert found.confidence == pytest.approx(0.7)
    assert found.n == 3000
    assert str(found) == "class entropy 1.099 of 1.386 nats (79.2%), 3000 samples"
    assert json.loads(json.dumps(found.as_dict()))["counts"] == [1000, 1000, 1000, 0]


def test_diversity_needs_two_classes_to_compare_with():
    for y in ([], [1, 1, 1], [-1, -1], [2, -1]):
        with pytest.raises(DataError, match="labels of at least two classes"):
            samples(Dealt(), Loud(), y, n=10, seed=5, exact=True)


def test_entropy_of_counts():
    assert entropy(torch.tensor([5, 5, 5, 5])) == pytest.approx(log(4))
    assert entropy(torch.tensor([7, 0, 0])) == pytest.approx(0)
    assert entropy(torch.tensor([1, 3])) == pytest.approx(-0.25 * log(0.25) - 0.75 * log(0.75))
    assert entropy(torch.tensor([0, 0])) == 0


def test_judging_leaves_the_classifier_as_found_and_uses_it_in_eval_mode():
    x, y = digits()
    model, net = pp.zoo.pca((1, 8, 8), 4), nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    pp.fit(model, x, quiet=True)
    judge = pp.zoo.classifier((1, 8, 8), network=nn.Sequential(net, nn.BatchNorm1d(10)))
    pp.fit(judge, x, y, steps=3, quiet=True)
    wanted = samples(model, judge, y, n=100)
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    assert samples(model, judge.train(), y, n=100) == wanted
    assert judge.training
    for key, value in judge.state_dict().items():
        assert_close(value, before[key], rtol=0, atol=0)


def test_evaluation_keeps_no_graph():
    x = digits()[0].clone().requires_grad_()
    model = pp.zoo.ae((1, 8, 8), 4)
    reconstruction(model, x)
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
