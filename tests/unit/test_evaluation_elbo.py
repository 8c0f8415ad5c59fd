"""The bound in parts, on posteriors whose aggregate is known; collapse; rate against distortion."""

from __future__ import annotations

import json
import warnings
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import digits
from psiphi.basis.errors import ArgumentError, MissingVerb
from psiphi.basis.noise import generator
from psiphi.evaluation import CollapseWarning, elbo, rate_distortion, watch_collapse
from psiphi.evaluation import _elbo as module
from psiphi.formulas.distributions import DiagonalNormal, FullNormal, StandardNormal, kl
from psiphi.formulas.information import controlled_means
from psiphi.models import LatentModel
from psiphi.parts import GaussianDecoder, StandardPrior, Statistics, likelihood, nll, rate


class Given(torch.nn.Module):
    """q(z|x) = N(A x, diag(s²)), or with a full covariance when `tril` is given."""

    def __init__(self, a: torch.Tensor, scale: torch.Tensor, tril: torch.Tensor | None = None):
        super().__init__()
        self.a, self.scale, self.tril = a, scale, tril

    def forward(self, x):
        mean = x @ self.a.T
        if self.tril is not None:
            return FullNormal(mean, self.tril.expand(len(x), -1, -1))
        return DiagonalNormal(mean, self.scale.log().expand_as(mean))


def model_of(a: torch.Tensor, scale: torch.Tensor, tril: torch.Tensor | None = None) -> LatentModel:
    d, features = a.shape
    statistics = Statistics((features,))
    decoder = likelihood("gaussian:1", torch.nn.Linear(d, features), (features,), statistics)
    assert isinstance(decoder, GaussianDecoder)
    encoder = Given(a, scale, tril)
    return LatentModel(statistics, d, encoder, decoder, prior=StandardPrior(d), objective=nll + rate).double()


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "elbo test"), dtype=torch.double)


def mean_rate(model: LatentModel, x: torch.Tensor) -> float:
    q = model.posterior(x)
    return float(kl(q, StandardNormal(torch.zeros_like(q.mean))).mean())


EYE = torch.eye(2, dtype=torch.double)
TIGHT = torch.full((2,), 0.1, dtype=torch.double)


@pytest.mark.parametrize(
    ("corners", "code", "correlation"),
    [
        ([[9, 9], [-9, 9], [9, -9], [-9, -9]], log(4), 0.0),
        ([[9, 9], [-9, -9]], log(2), log(2)),
        ([[9, 9], [9, -9]], log(2), 0.0),
        ([[0, 0], [0, 0], [0, 0]], 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_parts_of_codes_far_apart(corners, code, correlation, full):
    """n separate codes tell ln n of their row; two on a diagonal correlate by ln 2, four on a square by nothing."""
    x = torch.tensor(corners, dtype=torch.double).repeat(100, 1)
    model = model_of(EYE, TIGHT, torch.diag(TIGHT) if full else None)
    found = elbo(model, x, seed=1)
    assert found.rate == pytest.approx(mean_rate(model, x), rel=1e-10)
    assert found.index_code == pytest.approx(code, abs=1e-9)
    assert found.total_correlation == pytest.approx(correlation, abs=1e-9)
    assert found.index_code + found.total_correlation + found.dimension_wise == pytest.approx(found.rate)
    assert found.prior_gap == pytest.approx(found.total_correlation + found.dimension_wise)


def test_parts_against_the_closed_forms_of_a_gaussian_aggregate():
    """x ~ N(0, I), q = N(A x, S): q(z) = N(0, V), V = A Aᵀ + S. Index-code ½ ln|V|/|S|, correlation ½ ln Π V_jj/|V|."""
    a = torch.tensor([[0.9, 0.2], [0.5, 0.6]], dtype=torch.double)
    s = torch.tensor([0.5, 0.7], dtype=torch.double)
    x, model = draws(3000, 2), model_of(a, s)
    v = a @ a.T + torch.diag(s.square())
    found = elbo(model, x, seed=2)
    code = 0.5 * float(v.logdet() - s.square().log().sum())
    correlation = 0.5 * float(v.diagonal().log().sum() - v.logdet())
    wise = 0.5 * float((v.diagonal() - 1 - v.diagonal().log()).sum())
    # A mean over 3000 draws of differences of two Gaussian log densities: standard deviation below 1 here.
    slack = 4 / 3000**0.5
    assert found.index_code == pytest.approx(code, abs=slack)
    assert found.total_correlation == pytest.approx(correlation, abs=slack)
    assert found.dimension_wise == pytest.approx(wise, abs=slack)
    assert code > 3 * slack
    assert correlation > 0.1
    assert found.rate == pytest.approx(mean_rate(model, x), rel=1e-10)
    assert code + correlation + wise == pytest.approx(found.rate, abs=slack)


def test_the_control_variate_is_worth_it():
    """Over 20 seeds the parts of a small rate spread less than half as far as their plain means, about the same."""
    a, s = 0.2 * EYE, torch.full((2,), 0.95, dtype=torch.double)
    x, model = draws(200, 2), model_of(0.2 * EYE, s)
    v = a @ a.T + torch.diag(s.square())
    code = 0.5 * float(v.logdet() - s.square().log().sum())
    controlled, plain = [], []
    for seed in range(20):
        found = module.passed(model, x, seed)
        plain.append(float((found.log_q - module._aggregate(found)[0]).mean()))
        controlled.append(elbo(model, x, seed).index_code)
    spreads = [torch.tensor(each).std() for each in (controlled, plain)]
    assert spreads[0] < spreads[1] / 2
    # A finite aggregate holds the draw's own row: about (1/n) E q(z|x)/q(z), a little over 1/n here.
    assert sum(controlled) / 20 == pytest.approx(code, abs=2 / 200 + 4 * float(spreads[0]) / 20**0.5)


def test_controlled_means_add_up():
    parts, error = draws(3, 50), draws(50, seed=1)
    found = controlled_means(parts, error)
    assert_close(found.sum(), parts.sum(0).mean() - error.mean())
    assert_close(controlled_means(parts, torch.zeros(50).double()), parts.mean(1))
    exact = controlled_means(torch.stack([error, torch.ones(50).double()]), error)
    assert_close(exact, torch.tensor([0.0, 1.0]).double())


def test_a_full_covariance_that_is_diagonal_says_the_same(monkeypatch):
    a, s, x = draws(3, 4, seed=3), torch.tensor([0.5, 0.7, 0.2], dtype=torch.double), draws(150, 4)
    one, other = elbo(model_of(a, s), x), elbo(model_of(a, s, torch.diag(s)), x)
    for name in ("rate", "index_code", "total_correlation", "dimension_wise", "prior_gap"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-9), name
    monkeypatch.setattr(module, "PAIR_NUMBERS", 1000)
    assert elbo(model_of(a, s), x).index_code == pytest.approx(one.index_code, abs=1e-12)


def test_the_bound_is_reconstruction_less_rate_of_the_same_draws():
    """With 64 rows and a decoder of zero weight, E ln p(x|z) does not depend on z."""
    model, x = model_of(EYE, TIGHT), draws(64, 2)
    linear = next(each for each in model.decoder.modules() if isinstance(each, torch.nn.Linear))
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    found = elbo(model, x)
    wanted = -0.5 * float(x.square().sum(1).mean()) - log(2 * torch.pi)
    assert found.reconstruction == pytest.approx(wanted)
    assert found.elbo == pytest.approx(wanted - mean_rate(model, x))
    assert (found.measure, found.rows) == ("continuous", 64)
    assert json.loads(json.dumps(found.as_dict()))["rows"] == 64
    assert "total correlation" in str(found)


def test_the_bound_of_a_trained_vae_lies_below_its_likelihood():
    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 4, hidden=(16,))
    pp.fit(model, x, steps=60, quiet=True)
    found, exact = elbo(model.train(), x), pp.evaluation.likelihood(model, x, samples=2000)
    assert model.training
    assert found.elbo < exact.mean + 4 * found.spread
    assert elbo(model, x) == found
    assert elbo(model, x, seed=1) != found


def test_codes_without_a_posterior_have_no_bound():
    with pytest.raises(MissingVerb, match="no code with a posterior"):
        elbo(pp.zoo.ae((1, 8, 8), 2), digits()[0])


# ---------------------------------------------------------------------------------------- collapse


class Dying(torch.nn.Module):
    """A model whose unit 1 falls silent after its second question."""

    shape, title, posterior = (2,), "dying", None

    def __init__(self, alive: int = 2):
        super().__init__()
        self.alive, self.asked = alive, 0

    def encode(self, x):
        self.asked += 1
        return x * torch.tensor([1.0, 1.0 if self.asked <= self.alive else 1e-3])


def watched(callback: watch_collapse, rows: int) -> tuple[list[str | None], list[float]]:
    history = pp.training.History()
    model, said = Dying(), []
    for i in range(rows):
        history.rows.append({"step": i})
        moment = pp.training.Moment(model, None, history.rows[-1], history)  # pyright: ignore[reportArgumentType]
        said.append(callback(moment))
    return said, history["active_units"]


def test_the_watcher_waits_warns_once_and_names_the_dead():
    x = draws(100, 2).float()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said, active = watched(watch_collapse(x, patience=3), 7)
    assert said == [None] * 7
    assert active == [2, 2, 1, 1, 1, 1, 1]
    assert [each.category for each in caught] == [CollapseWarning]
    assert "1 of 2 units active for 3 rows (dead: 1)" in str(caught[0].message)


def test_the_watcher_stops_when_asked_to():
    x = draws(100, 2).float()
    said, _ = watched(watch_collapse(x, patience=3, stop=True), 5)
    assert said[:4] == [None] * 4
    assert said[4] == "1 of 2 units active for 3 rows (dead: 1)"
    said, _ = watched(watch_collapse(x, patience=3, least=1, stop=True), 7)
    assert said == [None] * 7


def test_a_crushed_vae_is_stopped_and_its_log_counts_units(tmp_path):
    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 3, hidden=(16,), beta=1000.0)
    watch = watch_collapse(x, patience=2, least=1, stop=True)
    history = pp.fit(model, x, epochs=200, batch_size=64, callbacks=[watch], quiet=True, out=tmp_path)
    assert "0 of 3 units active for 2 rows" in history.stopped
    assert len(history) < 200
    assert history["active_units"][-2:] == [0, 0]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert "active_units" in lines[0]
    assert len({line.count(",") for line in lines}) == 1


def test_the_log_has_the_callbacks_columns_while_it_grows(tmp_path):
    seen = []

    def look(moment):
        log = tmp_path / "log.csv"
        seen.append(log.read_text().splitlines() if log.exists() else [])

    x = digits()[0]
    model = pp.zoo.vae((1, 8, 8), 2, hidden=(8,))
    pp.fit(model, x, epochs=3, callbacks=[watch_collapse(x, 9), look], quiet=True, out=tmp_path)
    assert len(seen[-1]) == 3
    assert "active_units" in seen[-1][0]
    assert len({line.count(",") for line in seen[-1]}) == 1


# --------------------------------------------------------------------------------- rate, distortion


def test_a_heavier_rate_buys_less():
    x = digits()[0]

    def build(beta: float) -> LatentModel:
        return pp.zoo.vae((1, 8, 8), 3, likelihood="gaussian:0.3", hidden=(16,), beta=beta)

    found = rate_distortion(build, x, (0.01, 1, 100), steps=80, batch_size=64, lr=5e-3, quiet=True)
    rates, costs = [p.rate for p in found.points], [p.distortion for p in found.points]
    assert rates == sorted(rates, reverse=True)
    assert costs == sorted(costs)
    assert rates[2] < 0.05 < rates[1]
    for point in found.points:
        assert point.elbo == pytest.approx(-point.rate - point.distortion, rel=1e-4)
    assert (found.measure, found.rows, found.held_out) == ("continuous", 64, False)
    model = build(0.01)
    pp.fit(model, x, steps=80, batch_size=64, lr=5e-3, quiet=True)
    assert found.points[0].rate == pytest.approx(elbo(model, x).rate)
    assert json.loads(json.dumps(found.as_dict()))["points"][0]["beta"] == 0.01
    assert len(str(found).splitlines()) == 4


def test_the_sweep_is_judged_on_held_out_rows_where_there_are_some():
    data = pp.data.load("digits")
    few = SimpleNamespace(train=data.test, validation=data.validation, test=data.validation)
    found = rate_distortion(
        lambda b: pp.zoo.vae((1, 8, 8), 2, hidden=(4,), beta=b), few, (1,), steps=2, quiet=True
    )
    assert (found.rows, found.held_out) == (180, True)
    with pytest.raises(ArgumentError, match="betas are numbers"):
        rate_distortion(lambda b: None, data, ())
    with pytest.raises(ArgumentError, match="betas are numbers"):
        rate_distortion(lambda b: None, data, (-1.0,))


def test_given_posteriors_are_those_of_the_model():
    x = draws(5, 2)
    q = model_of(EYE, TIGHT).posterior(x)
    assert_close(q.mean, x)
