"""Row i of a stream depends on its key and on i, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from psiphi.basis.noise import BLOCK, Noise, forked, generator, mix

KINDS = ["normal", "uniform"]
exactly = dict(rtol=0, atol=0)


def draw(noise: Noise, kind: str = "normal", shape=(3,)):
    return getattr(noise, kind)(shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5), (1, 8, 8)])
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 129])
def test_fewer_rows_are_the_first_rows(kind, shape, rows):
    longest = draw(Noise.of(7, 200), kind, shape)
    assert longest.shape == (200, *shape)
    assert_close(draw(Noise.of(7, rows), kind, shape), longest[:rows], **exactly)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows",
    [
        range(5, 9),
        range(60, 70),
        range(64, 128),
        range(130, 131),
        range(3, 190, 7),
        range(150, 20, -9),
        torch.tensor([0]),
        torch.tensor([199, 0, 64, 63, 65, 128]),
        torch.tensor([5, 5, 130, 5, 130]),
        torch.randperm(200, generator=torch.Generator().manual_seed(0)),
    ],
    ids=lambda rows: (
        f"range{rows.start, rows.stop, rows.step}" if isinstance(rows, range) else f"{len(rows)} rows"
    ),
)
def test_rows_are_the_same_however_they_are_asked_for(kind, rows):
    whole = draw(Noise.of(7, 200), kind)
    index = torch.as_tensor(rows)
    assert_close(draw(Noise.of(7, rows), kind), whole[index], **exactly)
    assert_close(draw(Noise.of(7, 200).take(index), kind), whole[index], **exactly)


def test_taking_again_takes_from_what_was_taken():
    noise = Noise.of(7, 200)
    whole = noise.normal((3,))
    index = torch.tensor([150, 3, 70, 3])
    assert_close(noise.take(slice(10, 100)).normal((3,)), whole[10:100], **exactly)
    assert_close(noise.take(slice(10, 100)).take(slice(5, 60)).normal((3,)), whole[15:70], **exactly)
    assert_close(noise.take(index).take(torch.tensor([2, 0])).normal((3,)), whole[[70, 150]], **exactly)
    assert_close(noise.take(index).take(slice(1, 3)).normal((3,)), whole[[3, 70]], **exactly)
    assert_close(noise.take(slice(60, 80)).take(index % 20).normal((3,)), whole[60 + index % 20], **exactly)
    kept = torch.zeros(200, dtype=torch.bool)
    kept[[4, 99]] = True
    assert_close(noise.take(kept).normal((3,)), whole[[4, 99]], **exactly)
    assert len(noise.take(index)) == 4


def test_a_call_leaves_no_trace():
    noise = Noise.of(7, 100)
    first = noise.normal((3,))
    noise.uniform((4,))
    assert_close(noise.normal((3,)), first, **exactly)


def streams() -> dict[str, Noise]:
    base = Noise.of(0, 4096, dtype=torch.float64)
    return {
        "seed 0": base,
        "seed 1": Noise.of(1, base.rows, dtype=torch.float64),
        "seed -1": Noise.of(-1, base.rows, dtype=torch.float64),
        "seed 2^70": Noise.of(2**70, base.rows, dtype=torch.float64),
        "step 0": base.at(0),
        "step 1": base.at(1),
        "split a": base.split("a"),
        "split b": base.split("b"),
        "split a, step 1": base.split("a").at(1),
        "step 1, split a": base.at(1).split("a"),
        "next rows": Noise.of(0, range(4096, 8192), dtype=torch.float64),
    }


def test_streams_are_unrelated():
    """Correlations of n draws within four standard errors, 1/√n; also at a shift of a block."""
    drawn = torch.stack([noise.normal() for noise in streams().values()])
    assert len(drawn.unique(dim=0)) == len(drawn)
    n = drawn.shape[1]
    for shift in (0, 1, BLOCK):
        products = drawn @ drawn.roll(shift, 1).T / n
        if shift == 0:
            products.fill_diagonal_(0)
        assert products.abs().max() < 4 / n**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments(dtype):
    """Mean and variance within four standard errors, over rows and within a row."""
    noise = Noise.of(3, 5000, dtype=dtype)
    z, u = noise.normal((4,)).double(), noise.uniform((4,)).double()
    n = z.numel()
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs(u.mean() - 1 / 2) < 4 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 4 * (1 / 180 / n) ** 0.5
    assert u.min() >= 0
    assert u.max() < 1
    between = (z.T @ z / len(z) - torch.eye(4)).abs()
    assert between.fill_diagonal_(0).max() < 4 / len(z) ** 0.5


def test_dtype_and_device_are_those_asked_for():
    noise = Noise.of(0, 3, dtype=torch.float64)
    assert noise.normal((2,)).dtype == torch.float64
    assert noise.uniform((2,)).dtype == torch.float64
    assert Noise.of(0, 3).normal().dtype == torch.float32
    assert noise.normal().device.type == "cpu"


@pytest.mark.parametrize("rows", [0, range(5, 5), torch.empty(0, dtype=torch.long)])
def test_no_rows(rows):
    assert Noise.of(0, rows).normal((3, 2)).shape == (0, 3, 2)


def test_no_columns():
    assert Noise.of(0, 5).normal((3, 0)).shape == (5, 3, 0)


def test_the_global_state_is_untouched():
    before = torch.get_rng_state()
    noise = Noise.of(0, 300)
    noise.normal((3,))
    noise.take(torch.tensor([200, 3])).uniform()
    generator("name", 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_forked_restores_the_global_state_and_starts_from_its_words():
    before = torch.get_rng_state()
    drawn = []
    for words in (("a", 1), ("a", 1), ("a", 2)):
        with forked(*words):
            drawn.append(torch.rand(5))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), forked("a"):
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert_close(drawn[0], drawn[1], **exactly)
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("below", [1, 2, 7, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_integers_are_all_alike(below, dtype):
    """Each of 0 … below − 1 in its share of the draws, within four standard errors; rows as ever."""
    noise, n = Noise.of(5, 3000, dtype=dtype), 6000
    drawn = noise.integers(below, (2,))
    assert (drawn.shape, drawn.dtype) == ((3000, 2), torch.int64)
    counts = drawn.flatten().bincount()
    assert len(counts) == below
    assert ((counts - n / below).abs() <= 4 * (n * (1 - 1 / below) / below) ** 0.5).all()
    assert_close(noise.take(slice(100, 130)).integers(below, (2,)), drawn[100:130], **exactly)


@pytest.mark.parametrize("u", [1 - 2**-24, 1.0], ids=["the largest below 1", "rounded to 1"])
@pytest.mark.parametrize("below", [1, 3, 10, 1000, 2**20 + 1, 2**24 - 1, 2**24])
def test_integers_stay_below_whatever_is_rounded(below, u, monkeypatch):
    """From the largest u that single precision has below 1, and from 1, to which a device's own may round."""
    monkeypatch.setattr(Noise, "uniform", lambda self, shape=(): torch.full((len(self), *shape), u))
    assert torch.full((1,), 1 - 2**-24) == torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    assert (Noise.of(0, 4).integers(below) == below - 1).all()
    monkeypatch.setattr(Noise, "uniform", lambda self, shape=(): torch.zeros(len(self), *shape))
    assert (Noise.of(0, 4).integers(below) == 0).all()


def test_generators_of_the_same_words_agree():
    first, again = (torch.rand(4, generator=generator("law", 3)) for _ in range(2))
    assert_close(first, again, **exactly)
    assert not torch.equal(first, torch.rand(4, generator=generator("law", 4)))


def test_keys_differ():
    """Order, sign, size and names all count; no two of these collide."""
    words = [(i,) for i in range(-50, 200)] + [(i, j) for i in range(20) for j in range(2, 20)]
    words += [("step",), ("step", 0), (0, "step"), ("a", "b"), ("b", "a"), ("ab",), (2**64,), (2**130 + 1,)]
    keys = {mix(*each) for each in words}
    assert len(keys) == len(words)
    assert all(0 <= key < 2**64 for key in keys)
    ones = torch.tensor([[key >> bit & 1 for bit in range(64)] for key in keys], dtype=torch.float64)
    assert (ones.mean(0) - 0.5).abs().max() < 4 * 0.5 / len(keys) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counted_draws_depend_on_row_and_step_alone(dtype):
    noise = Noise.of(3, 400, dtype=dtype)
    step = torch.arange(400) % 7
    whole = noise.each(step).uniform((2, 5))
    mine = torch.tensor([399, 4, 17])
    assert torch.equal(noise.take(mine).each(step[mine]).uniform((2, 5)), whole[mine])
    assert torch.equal(
        Noise.of(3, range(100, 110), dtype=dtype).each(step[100:110]).uniform((2, 5)), whole[100:110]
    )
    assert not (noise.split("other").each(step).uniform((2, 5)) == whole).all(1).any()
    assert len(whole.flatten().unique()) > 3990
    shared = noise.each(step * 0).uniform((2, 5))
    assert torch.equal((shared == whole).flatten(1).all(1), step == 0)


def test_counted_draws_are_uniform_normal_and_independent():
    """Moments within 4 SE of 200 000 draws; correlations of neighbours in row, step and place as well."""
    n, m = 2000, 100
    noise = Noise.of(11, n, dtype=torch.float64)
    u = noise.each(torch.zeros(n).long()).uniform((m,))
    assert abs(u.mean() - 0.5) < 4 * (1 / 12 / (n * m)) ** 0.5
    assert abs(u.var() - 1 / 12) < 4 * (1 / 180 / (n * m)) ** 0.5
    z = noise.each(torch.ones(n).long()).normal((m,))
    assert abs(z.mean()) < 4 / (n * m) ** 0.5
    assert abs(z.var() - 1) < 4 * (2 / (n * m)) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / (n * m)) ** 0.5
    later = noise.each(torch.full((n,), 2)).normal((m,))
    for a, b in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z, later), (z[:, ::2], z[:, 1::2])):
        assert abs((a * b).mean()) < 4 / a.numel() ** 0.5
    below = torch.arange(1, n + 1)[:, None]
    drawn = noise.each(torch.zeros(n).long()).integers(below, (m,))
    assert (drawn >= 0).all()
    assert (drawn < below).all()
    assert torch.equal(noise.each(torch.zeros(n).long()).integers(3, (50,)).unique(), torch.arange(3))
