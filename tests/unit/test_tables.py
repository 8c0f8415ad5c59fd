"""Tables in models: the likelihood of mixed columns, what networks see, training through gaps, imputation."""

from __future__ import annotations

import functools
import itertools
from copy import deepcopy

import pytest
import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, PsiphiError
from psiphi.basis.noise import Noise
from psiphi.basis.registry import models
from psiphi.data import Column, Columns, measure
from psiphi.formulas.distributions import DiagonalNormal
from psiphi.formulas.mixed import Mixed, unroll
from psiphi.laws.likelihoods import displaced_model
from psiphi.parts import END
from psiphi.parts.tables import MixedDecoder, TableStatistics, seen_width, told_width

closely = dict(rtol=1e-10, atol=1e-10)
exactly = dict(rtol=0, atol=0, equal_nan=True)
NAN = float("nan")
SIZES = (3, 0, 2, 0, 1)
B = 6


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixed(*batch: int, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> Mixed:
    numbers, logits = randn(*batch, sizes.count(0), seed=seed), 2 * randn(*batch, sum(sizes), seed=seed + 1)
    return Mixed(numbers, 0.3 * randn(sizes.count(0), seed=seed + 2), logits, sizes)


def rows(n: int = B, seed: int = 5) -> Tensor:
    """Rows of the columns SIZES."""
    gen = torch.Generator().manual_seed(seed)
    codes = [torch.randint(max(size, 1), (n,), generator=gen).double() for size in SIZES]
    return torch.stack(
        [c if size else randn(n, seed=seed + i) for i, (c, size) in enumerate(zip(codes, SIZES))], 1
    )


# ------------------------------------------------------------------------------------------ the likelihood
def by_torch(p: Mixed, x: Tensor) -> Tensor:
    """ln p(x_j) of each column by torch.distributions, (*batch, D)."""
    numbers, parts = 0, []
    logits = iter(p.logits.split([size for size in SIZES if size], -1))
    for place, size in enumerate(SIZES):
        if size:
            parts.append(td.Categorical(logits=next(logits)).log_prob(x[..., place]))
        else:
            normal = td.Normal(p.numbers[..., numbers], p.log_scale[numbers].exp())
            parts.append(normal.log_prob(x[..., place]))
            numbers += 1
    return torch.stack(torch.broadcast_tensors(*parts), -1)


def test_log_prob_is_the_sum_over_columns():
    p, x = mixed(B), rows()
    assert p.measure == "mixed"
    assert_close(p.log_prob(x), by_torch(p, x).sum(-1), **closely)
    many = mixed(4, B)
    assert_close(many.log_prob(x), by_torch(many, x).sum(-1), **closely)


@pytest.mark.parametrize("marked", ["where", "nan", "both"])
def test_missing_values_are_left_out_with_their_gradient(marked):
    p, x = mixed(3, B), rows()
    p = Mixed(p.numbers.requires_grad_(), p.log_scale.requires_grad_(), p.logits.requires_grad_(), SIZES)
    where = randn(*x.shape, seed=9) > 0
    gappy = x if marked == "where" else torch.where(where, x, NAN)
    found = p.log_prob(gappy, None if marked == "nan" else where)
    wanted = torch.where(where, by_torch(p, x), 0).sum(-1)
    assert_close(found, wanted, **closely)
    mine = torch.autograd.grad(found.sum(), [p.numbers, p.log_scale, p.logits])
    theirs = torch.autograd.grad(wanted.sum(), [p.numbers, p.log_scale, p.logits])
    assert_close(mine, theirs, **closely)


def test_codes_that_are_none_have_no_probability():
    p, x = mixed(B), rows()
    for bad in (3, -1, 0.5):
        assert (p.log_prob(x.index_fill(1, torch.tensor([0]), bad)) == -torch.inf).all()
    assert (p.log_prob(x.index_fill(1, torch.tensor([2]), 2)) == -torch.inf).all()


def test_numbers_alone_are_a_diagonal_normal():
    p, x = mixed(B, sizes=(0, 0, 0)), randn(B, 3, seed=7)
    assert p.measure == "continuous"
    assert_close(p.log_prob(x), DiagonalNormal(p.numbers, p.log_scale).log_prob(x), **closely)
    assert_close(p.mean, p.numbers, **exactly)
    noise = Noise.of(0, B, dtype=torch.float64)
    assert_close(p.rsample(noise, 2), DiagonalNormal(p.numbers, p.log_scale).rsample(noise, 2), **exactly)


def test_categories_alone():
    """The pairs of codes share the whole mass, and are drawn each by its own: within four standard errors."""
    n, p = 4000, mixed(B, sizes=(2, 3))
    each = [torch.tensor(codes, dtype=torch.float64) for codes in itertools.product(range(2), range(3))]
    total = torch.stack([p.log_prob(codes.expand(B, 2)) for codes in each]).logsumexp(0)
    assert_close(total, torch.zeros(B, dtype=torch.float64), **closely)
    drawn = p.rsample(Noise.of(0, B, dtype=torch.float64), n)
    for codes in each:
        mass, share = p.log_prob(codes.expand(B, 2)).exp(), (drawn == codes).all(-1).double().mean(0)
        assert ((share - mass).abs() <= 4 * (mass * (1 - mass) / n).sqrt()).all()


def test_mean_and_average():
    p = mixed(2, B)
    logits = p.logits.split([3, 2, 1], -1)
    most = [part.argmax(-1).double() for part in logits]
    wanted = torch.stack([most[0], p.numbers[..., 0], most[1], p.numbers[..., 1], most[2]], -1)
    assert_close(p.mean, wanted, **exactly)
    w = torch.tensor([0.25, 0.75]).double()[:, None].expand(2, B)
    found = p.average(w)
    assert_close(found[:, [1, 3]], 0.25 * p.numbers[0] + 0.75 * p.numbers[1], **closely)
    both = 0.25 * logits[0][0].softmax(-1) + 0.75 * logits[0][1].softmax(-1)
    assert_close(found[:, 0], both.argmax(-1).double(), **exactly)
    assert (found[:, 0] != p.mean[:, :, 0]).any()


def test_draws_have_the_distribution():
    """Frequencies of codes, and means and spreads of numbers, within four standard errors of 20 000 draws."""
    n, p = 20_000, mixed(1)
    x = p.rsample(Noise.of(3, 1, dtype=torch.float64), n)[:, 0]
    for place, logits in zip((0, 2, 4), p.logits[0].split([3, 2, 1])):
        for code, probability in enumerate(logits.softmax(0).tolist()):
            share = float((x[:, place] == code).double().mean())
            assert abs(share - probability) <= 4 * (probability * (1 - probability) / n) ** 0.5 + 1e-12
    for j, place in enumerate((1, 3)):
        sigma = float(p.log_scale[j].exp())
        assert abs(float(x[:, place].mean() - p.numbers[0, j])) <= 4 * sigma / n**0.5
        assert abs(float(x[:, place].std()) - sigma) <= 4 * sigma / (2 * n) ** 0.5


def test_a_draw_does_not_depend_on_how_many_there_are():
    p = mixed(B)
    few = Mixed(p.numbers[2:4], p.log_scale, p.logits[2:4], SIZES)
    noise = Noise.of(1, B, dtype=torch.float64)
    assert_close(few.rsample(noise.take(slice(2, 4)), 3), p.rsample(noise, 3)[:, 2:4], **exactly)


def test_unflatten():
    p, x = mixed(3 * B), rows()
    assert_close(p.unflatten(3).log_prob(x), p.log_prob(x.repeat(3, 1)).view(3, B), **exactly)


# ----------------------------------------------------------------------------------- what networks see
def test_unroll():
    x = torch.tensor([[2, 0.5, NAN, -1.5, 0], [NAN, NAN, 1, 3, NAN]])
    wanted = torch.tensor(
        [
            [0.5, -1.5, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1],
            [0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0],
        ]
    )
    assert_close(unroll(x, SIZES), wanted, **exactly)
    assert (seen_width(SIZES), told_width(SIZES)) == (13, 8)


def test_statistics_of_each_column():
    x = torch.tensor([[0, 1.0, 5, NAN], [2, 3.0, 5, NAN], [1, NAN, 5, NAN], [NAN, 8.0, 5, NAN]])
    statistics = TableStatistics((3, 0, 0, 0))
    statistics.load(measure(x))
    assert_close(statistics.mean, torch.tensor([0.0, 4, 5, 0]), **exactly)
    assert_close(statistics.sigma, torch.tensor([1.0, (26 / 3) ** 0.5, 1, 1]))
    assert_close(statistics(x)[:, 0], x[:, 0], **exactly)
    assert_close(statistics.inverse(statistics(x)), x, equal_nan=True)


def test_the_decoder_is_in_the_units_of_the_data():
    """σ_j begins at that of the data, and falls to its floor, each column's its own."""
    sizes = (0, 2, 0)
    statistics = TableStatistics(sizes)
    statistics.load(measure(torch.tensor([[10.0, 0, 0], [30, 1, 0.2], [20, 1, 0.1]])))
    network = nn.Linear(2, told_width(sizes))
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    decoder = MixedDecoder(network, sizes, statistics)
    assert decoder.measure == "mixed"
    p = decoder(torch.zeros(4, 2))
    assert_close(p.mean, torch.tensor([20.0, 0, 0.1]).expand(4, 3))
    sigma = statistics.sigma[[0, 2]]
    assert_close(p.log_scale.exp() / sigma, torch.ones(2), rtol=2e-3, atol=0)
    nn.init.constant_(decoder.raw, -100.0)
    assert_close(decoder(torch.zeros(4, 2)).log_scale.exp() / sigma, torch.full((2,), 1e-3))


def test_codes_beyond_the_schema_are_refused():
    decoder = MixedDecoder(nn.Linear(2, 4), (0, 3), TableStatistics((0, 3)))
    decoder.check_columns(torch.tensor([-5.0, 0]), torch.tensor([5.0, 2]))
    decoder.check_columns(torch.tensor([-5.0, NAN]), torch.tensor([5.0, NAN]))
    for low, high in ((0, 3), (-1, 2)):
        with pytest.raises(DataError, match="column 1 is categorical with the codes 0 to 2"):
            decoder.check_columns(torch.tensor([-5.0, low]), torch.tensor([5.0, high]))


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
