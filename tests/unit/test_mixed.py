"""Rows of mixed columns: their likelihood, and what networks see of them."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.testing import assert_close

from helpers.tables import NAN, randn
from psiphi.basis.errors import DataError
from psiphi.basis.noise import Noise
from psiphi.data import measure
from psiphi.formulas.distributions import DiagonalNormal
from psiphi.formulas.mixed import Mixed, unroll
from psiphi.parts.tables import MixedDecoder, TableStatistics, seen_width, told_width

closely = dict(rtol=1e-10, atol=1e-10)
exactly = dict(rtol=0, atol=0, equal_nan=True)

SIZES = (3, 0, 2, 0, 1)
B = 6


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
