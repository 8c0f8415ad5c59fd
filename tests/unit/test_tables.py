"""Tables in models: training through gaps, files, imputation."""

from __future__ import annotations

import functools
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import psiphi as pp
from helpers.tables import NAN, randn
from psiphi.basis.errors import ArgumentError, DataError, PsiphiError
from psiphi.basis.noise import Noise
from psiphi.basis.registry import models
from psiphi.data import Column, Columns
from psiphi.laws.likelihoods import displaced_model
from psiphi.parts import END

closely = dict(rtol=1e-10, atol=1e-10)
exactly = dict(rtol=0, atol=0, equal_nan=True)

# ------------------------------------------------------------------------------------------- whole models
COLUMNS = Columns(
    (
        Column("size", "numeric"),
        Column("colour", "categorical", ("blue", "green", "red")),
        Column("weight", "numeric"),
        Column("old", "categorical", ("no", "yes")),
    )
)


def table(n: int = 256, gaps: float = 0.25, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Size, weight and age go with the colour, whose three groups lie far apart; the same with gaps."""
    gen = torch.Generator().manual_seed(seed)
    colour = torch.randint(3, (n,), generator=gen)
    size = 100 * colour + 10 * torch.randn(n, generator=gen)
    weight = 0.01 * colour + 0.001 * torch.randn(n, generator=gen)
    x = torch.stack([size, colour.float(), weight, (colour == 2).float()], 1)
    return x, x.masked_fill(torch.rand(x.shape, generator=gen) < gaps, NAN)


def build(name: str = "vae", latent_dim: int = 2, **more):
    return models[name].build(4, latent_dim, columns=COLUMNS, hidden=(32,), **more)


@functools.cache
def _trained():
    model = build()
    pp.fit(model, table()[1], steps=300, batch_size=64, lr=0.005, quiet=True)
    return model


@pytest.fixture
def trained():
    return deepcopy(_trained())


def test_it_trains_through_gaps_and_fills_them(trained):
    """Three far groups: any two columns tell the third, so that hardly a category is missed."""
    x, gappy = table(seed=1)
    missing = gappy.isnan()
    filled = trained.impute(gappy, samples=200)
    assert_close(filled[~missing], gappy[~missing], **exactly)
    told = missing & (missing.sum(1, keepdim=True) <= 2)
    for place in (1, 3):
        assert (filled == x)[:, place][told[:, place]].float().mean() > 0.95
    for place in (0, 2):
        off = (filled - x)[:, place][told[:, place]].square().mean().sqrt()
        assert off < 0.4 * x[:, place].std()  # that of the column's mean is 1


@pytest.mark.parametrize("name", ["vae", "iwae"])
def test_what_stands_in_a_gap_does_not_matter(name):
    """The loss and its gradient read observed entries alone: the same batch with a column more, never seen."""
    model = build(name).double()
    x = table(32, gaps=0)[0].double()
    wide = torch.cat([x[:, :3], torch.full((32, 1), NAN, dtype=torch.float64)], 1)
    by_where = model.trace(wide, Noise.of(0, 32, dtype=torch.float64))
    where = torch.tensor([True, True, True, False]).expand(32, 4)
    by_mask = model.trace(x, Noise.of(0, 32, dtype=torch.float64), x_in=wide, where=where)
    losses = [model.objective(trace, END)["loss"] for trace in (by_where, by_mask)]
    grads = [torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) for loss in losses]
    assert losses[0].isfinite()
    assert_close(losses[0], losses[1], **exactly)
    for mine, theirs in zip(*grads):
        assert (mine is None) == (theirs is None)
        assert mine is None or mine.isfinite().all()
        assert mine is None or torch.equal(mine, theirs)


def test_verbs_read_gaps(trained):
    x, gappy = table(40, seed=2)
    assert (trained.measure, trained.takes_missing) == ("mixed", True)
    for each in (trained.encode(gappy), trained.anomaly_score(gappy), trained.log_prob(gappy, samples=20)):
        assert each.isfinite().all()
    out = trained.reconstruct(gappy)
    assert out.isfinite().all()
    assert set(out[:, 1].tolist()) == {0, 1, 2}
    drawn = trained.sample(100, exact=True)
    assert set(drawn[:, 1].tolist()) == {0, 1, 2}
    full = trained.log_prob(x, samples=200)
    likely = trained.log_prob(torch.where(torch.arange(4) == 3, NAN, x), samples=200)
    assert (likely > full - 0.5).all()  # leaving a category out cannot cost probability


def test_the_schema_travels_with_the_file(trained, tmp_path):
    pp.save(trained, tmp_path / "run")
    back = pp.load(tmp_path / "run")
    assert Columns.of(back.recipe["arguments"]["columns"]) == COLUMNS
    gappy = table(20)[1]
    assert_close(back.impute(gappy, samples=20), trained.impute(gappy, samples=20), **exactly)
    by_counts = pp.zoo.vae(4, 2, columns=(0, 3, 0, 2), hidden=(32,))
    by_counts.load_state_dict(trained.state_dict())
    assert_close(by_counts.impute(gappy, samples=20), trained.impute(gappy, samples=20), **exactly)


def test_a_resumed_run_is_the_same(tmp_path):
    gappy = table(64)[1]
    options = dict(batch_size=32, quiet=True, seed=3)
    through = build()
    pp.fit(through, gappy, validation=table(32)[1], steps=8, **options)
    pp.fit(
        build(),
        gappy,
        validation=table(32)[1],
        steps=8,
        out=tmp_path / "run",
        callbacks=[lambda m: "stop" if m.clock.step == 4 else None],
        **options,
    )
    again = build()
    pp.fit(again, gappy, validation=table(32)[1], steps=8, out=tmp_path / "run", resume=True, **options)
    for name, value in through.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize(
    "more",
    [
        dict(posterior="full"),
        dict(prior="mixture:4"),
        dict(posterior="coupling"),
        dict(free_bits=0.1),
        dict(samples=3),
    ],
    ids=str,
)
def test_any_posterior_and_prior_serves(more):
    model, gappy = build(**more), table(64)[1]
    pp.fit(model, gappy, steps=5, quiet=True)
    filled = model.impute(gappy, samples=20)
    assert filled.isfinite().all()


@pytest.mark.parametrize("sizes", [(2, 3, 4), (0, 0, 0)], ids=["categories alone", "numbers alone"])
def test_columns_of_one_kind(sizes):
    gen = torch.Generator().manual_seed(0)
    x = torch.stack(
        [
            torch.randint(size, (64,), generator=gen).float() if size else torch.randn(64, generator=gen)
            for size in sizes
        ],
        1,
    )
    x[:5, 1] = NAN
    model = pp.zoo.vae(3, 2, columns=sizes, hidden=(8,))
    pp.fit(model, x, steps=5, quiet=True)
    assert model.measure == ("mixed" if any(sizes) else "continuous")
    assert model.impute(x, samples=10).isfinite().all()
    assert model.sample(4, exact=True).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(likelihood="bernoulli"), "has its own likelihood"),
        (dict(prior="vamp:4"), "VampPrior"),
        (dict(columns=(0, 3)), "2 columns are given for samples of shape"),
        (dict(columns="abcd"), "no schema"),
        (dict(net="conv"), "conv|image"),
    ],
    ids=str,
)
def test_tables_that_cannot_be_built(arguments, sentence):
    with pytest.raises(PsiphiError, match=sentence):
        pp.zoo.vae(4, 2, **{"columns": COLUMNS, **arguments})


def test_models_that_cannot_take_gaps_say_so():
    gappy = table(64)[1]
    for model in (pp.zoo.vae(4, 2), pp.zoo.ae(4, 2), pp.zoo.pca(4, 2)):
        assert not model.takes_missing
        with pytest.raises(DataError, match="NaN or infinity in"):
            pp.fit(model, gappy, steps=1, quiet=True) if model.players() else pp.fit(model, gappy, quiet=True)
        with pytest.raises(DataError, match="NaN"):
            model.encode(gappy)


def test_infinity_and_unknown_codes_are_refused(trained):
    x = table(64)[0]
    for place, value, sentence in (
        (0, torch.inf, "infinity"),
        (1, 3.0, "codes 0 to 2"),
        (3, -1.0, "codes 0 to 1"),
    ):
        bad = x.clone()
        bad[5, place] = value
        for model in (build(), trained):
            with pytest.raises(DataError, match=sentence):
                model.encode(bad)
        for ask in (trained.log_prob, trained.impute, trained.posterior):
            with pytest.raises(DataError, match=sentence):
                ask(bad)
        with pytest.raises(DataError, match=sentence):
            pp.fit(build(), bad, steps=1, quiet=True)


# --------------------------------------------------------------------------------------------- imputation
def test_rows_are_filled_alone(trained):
    """Whatever the batch, the seed decides; a draw is no mean."""
    gappy = table(150, seed=4)[1]
    whole = trained.impute(gappy, samples=40, seed=1)
    assert_close(trained.impute(gappy[:70], samples=40, seed=1), whole[:70], rtol=1e-5, atol=1e-5)
    assert not torch.equal(trained.impute(gappy, samples=40, seed=2), whole)
    drawn = trained.impute(gappy, samples=40, seed=1, exact=True)
    assert_close(drawn[~gappy.isnan()], gappy[~gappy.isnan()], **exactly)
    assert not torch.equal(drawn, whole)
    assert set(drawn[:, 1].tolist()) == {0, 1, 2}


def test_a_row_without_anything_is_the_mean_of_the_model(trained):
    nothing = torch.full((1, 4), NAN)
    found = trained.impute(nothing, samples=20_000)
    drawn = trained.sample(20_000, seed=1, exact=True).detach()
    for place in (0, 2):
        error = float(drawn[:, place].std()) / 20_000**0.5
        assert abs(float(found[0, place] - drawn[:, place].mean())) < 8 * error
    assert found[0, 1] == drawn[:, 1].mode().values


def test_draws_have_the_conditional_spread():
    """p(x_m|x_o) of a linear-Gaussian model: mean and variance of 1500 draws, each from 200 weighted codes."""
    known, model = displaced_model()
    place = int(known.weight.norm(dim=1).argmax())  # most of its spread is the code's
    seen = torch.arange(5) != place
    seen[(place + 1) % 5] = seen[(place + 2) % 5] = False
    x = known.draw(1, 3)
    covariance = known.weight @ known.weight.T + known.scale**2 * torch.eye(5, dtype=torch.float64)
    gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen, place])
    mean = known.bias[place] + (x - known.bias)[0, seen] @ gain
    variance = covariance[place, place] - covariance[place, seen] @ gain
    drawn = model.impute(x.expand(1500, 5), seen, samples=200, exact=True)[:, place]
    assert abs(drawn.mean() - mean) < 4 * (variance / 1500) ** 0.5
    assert abs(drawn.var() / variance - 1) < 4 * (2 / 1500) ** 0.5


def test_pictures_have_masks():
    x = pp.data.load("digits").train.x[:80]
    model = pp.zoo.vae((1, 8, 8), 4, hidden=(16,))
    pp.fit(model, x, steps=200, batch_size=80, lr=0.01, quiet=True)
    where = torch.ones(1, 8, 8, dtype=torch.bool)
    where[:, 5:] = False
    filled = model.impute(x, where, samples=50)
    assert_close(filled[:, :, :5], x[:, :, :5], **exactly)
    assert_close(model.impute(x.masked_fill(~where, NAN), samples=50), filled, **exactly)
    centre = model.statistics.mean.expand_as(x)
    assert (filled - x).square().mean() < 0.9 * (torch.where(where, x, centre) - x).square().mean()


def test_an_autoencoder_fills_by_turns():
    """x_m = ψ(φ(x))_m is what is found: of a linear one with one direction, the point of the line that fits x_o."""
    model = pp.zoo.ae(3, 1, hidden=()).double()
    direction = torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64) / 3
    with torch.no_grad():
        model.encoder.network.layers[0].weight.copy_(direction[None])
        model.encoder.network.layers[0].bias.zero_()
        model.decoder.network.layers[0].weight.copy_(direction[:, None])
        model.decoder.network.layers[0].bias.zero_()
    x = torch.tensor([[2.0, 1.0, NAN], [NAN, 3.0, 0.0]], dtype=torch.float64)
    filled = model.impute(x)
    # At the fixed point z d_m = x_m, so that z = d_o·x_o / (1 - d_m²).
    wanted = torch.tensor([2 / 3 * (5 / 3) / (1 - 4 / 9), 2 / 3 * 1.0 / (1 - 4 / 9)], dtype=torch.float64)
    assert_close(torch.stack([filled[0, 2], filled[1, 0]]), wanted, **closely)
    with pytest.raises(ArgumentError, match="no density"):
        model.impute(x, exact=True)


@pytest.mark.parametrize("name", ["vae", "ae", "pca"])
def test_bad_masks(name):
    model = models[name].build(4, 2)
    x = torch.zeros(3, 4)
    for where, sentence in ((torch.ones(4), "bool"), (torch.ones(5, dtype=torch.bool), "where has shape")):
        with pytest.raises(PsiphiError, match=sentence):
            model.impute(x, where)
    x[1, 2] = NAN
    with pytest.raises(DataError, match="NaN"):
        model.impute(x, torch.ones(4, dtype=torch.bool))
    x[1, 2] = torch.inf
    with pytest.raises(DataError, match="infinity"):
        model.impute(x)


def test_pca_fills_what_nothing_tells_of_with_the_mean():
    x = randn(50, 4)
    model = pp.zoo.pca(4, 2).double()
    pp.fit(model, x, quiet=True)
    filled = model.impute(torch.full((2, 4), NAN, dtype=torch.float64))
    assert_close(filled, x.mean(0).expand(2, 4), **closely)
    assert_close(model.impute(x), x, **exactly)
