"""`measure`, `describe`, `fingerprint`, `binarize`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from psiphi.basis.errors import DataError
from psiphi.basis.noise import Noise
from psiphi.data import _fingerprint as fingerprint_module
from psiphi.data import as_source, binarize, describe, fingerprint, load, measure
from psiphi.data.toys import gaussian


@pytest.fixture(params=["float32", "float64", "float16", "uint8", "int32", "bool"])
def x(request):
    draw = np.random.default_rng(0).normal(5, 40, (3000, 2, 5)).clip(0, 255)
    return torch.from_numpy((draw > 5) if request.param == "bool" else draw.astype(request.param))


def test_moments_equal_numpy(x, monkeypatch):
    monkeypatch.setattr("psiphi.data.streams.Indexed.chunks.__defaults__", (700,))
    seen = measure(x)
    plain = x.numpy().astype("f8") / (255 if x.dtype == torch.uint8 else 1)
    assert np.allclose(seen.mean, plain.mean(0), rtol=1e-6)
    assert np.allclose(seen.std, plain.std(0), rtol=1e-6)
    assert np.allclose(seen.sigma, np.sqrt(((plain - plain.mean(0)) ** 2).mean()), rtol=1e-6)
    assert np.allclose((seen.low, seen.high), (plain.min(), plain.max()))
    assert np.allclose(seen.lows, plain.min(0))
    assert np.allclose(seen.highs, plain.max(0))
    assert (seen.count, seen.missing, seen.bad, seen.bad_rows) == (3000, 0, 0, ())
    assert seen.binary == (x.dtype == torch.bool)
    expected = len(np.unique(plain))
    assert (None if seen.levels is None else len(seen.levels)) == (expected if expected <= 256 else None)


def test_far_from_zero():
    """A mean 1e8 times the spread: sums of squares would give nonsense."""
    x = 1e8 + torch.randn(5000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = measure(x)
    assert torch.allclose(seen.std, x.std(0, correction=0), rtol=1e-6)
    assert float(measure(torch.full((100, 2), 0.1)).sigma) == 0.0


def test_the_data_are_left_alone():
    x = torch.randn(50, 3, dtype=torch.float64)
    before = x.clone()
    measure(x)
    assert torch.equal(x, before)


def test_missing_values():
    x = torch.randn(100, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[3, 0], x[5, 1:3], x[99] = torch.nan, torch.inf, torch.nan
    seen = measure(x)
    assert (seen.missing, seen.bad, seen.bad_rows) == (7, 3, (3, 5, 99))
    clean = x.numpy().copy()
    clean[~np.isfinite(clean)] = np.nan
    assert np.allclose(seen.mean, np.nanmean(clean, 0))
    assert np.allclose(seen.std, np.nanstd(clean, 0))
    with pytest.raises(DataError, match="no finite value"):
        measure(torch.full((4, 2), torch.nan))
    empty = x.clone()
    empty[:, 1] = torch.nan
    assert torch.isnan(measure(empty).mean).tolist() == [False, True, False, False]


def test_every_source(tmp_path):
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", x.numpy())
    whole = measure(x)
    for what in (
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        DataLoader(TensorDataset(x), batch_size=30),
        list(x.numpy()),
    ):
        assert torch.allclose(measure(what).mean, whole.mean)
        assert measure(what).count == 500
    assert measure(x, limit=10).count == 10
    assert measure(DataLoader(TensorDataset(x), batch_size=30), limit=40).count == 40
    drawn = measure(gaussian(), limit=5000)
    assert drawn.count == 5000
    assert torch.allclose(drawn.std, torch.ones(2, dtype=torch.float64), atol=4 / (2 * 5000) ** 0.5)
    assert measure(as_source(gaussian())).count == 10_000


def test_binary_and_levels():
    assert measure(torch.eye(6)).binary
    assert not measure(torch.eye(6) * 2).binary
    assert not measure(torch.eye(6).masked_fill(torch.eye(6) == 1, torch.nan)).binary
    assert measure((torch.eye(6) * 255).to(torch.uint8)).binary
    assert measure(torch.eye(6) * 2).levels.tolist() == [0, 2]


def sentences(data) -> str:
    return "\n".join(describe(data).warnings)


def test_describe_digits():
    seen = describe("digits")
    assert seen.classes == describe(load("digits")).classes
    assert sum(seen.classes.values()) == 1797
    assert (seen.low, seen.high, seen.levels, seen.constant) == (0, 1, 17, 3)
    assert "grey values in [0, 1]" in sentences("digits")
    assert json.loads(json.dumps(seen.as_dict()))["rows"] == {"train": 1258, "validation": 180, "test": 359}
    assert "1258 train + 180 validation + 359 test" in str(seen)
    assert "17 levels" in str(seen)


def test_describe_warns():
    rng = np.random.default_rng(0)
    x = rng.random((400, 5))
    assert "values reach 16" in sentences(np.rint(x * 16).clip(16 * (x > 0.9), 16))
    assert "no labels" in sentences(x)
    assert "one class" in sentences((x, np.zeros(400)))
    assert "unbalanced" in sentences((x, np.arange(400) < 3))
    assert "columns are constant" in sentences(np.where(np.arange(5) == 2, 1.0, x))
    assert "standardise" in sentences(x * [1, 1, 1, 1, 1e4])
    assert "few rows" in sentences(x[:20])
    assert "fewer rows" in sentences(rng.random((100, 200)))
    assert "Bernoulli" not in sentences((x > 0.5).astype("f4"))
    x[3] = np.nan
    assert "NaN or infinity in" in sentences((x, np.arange(400) % 2))
    assert describe(x).missing in (0, 5)


def test_fingerprint():
    x = torch.arange(24.0).reshape(6, 4)
    same = fingerprint(x)
    assert len(same) == 64
    assert fingerprint(x.numpy()) == same == fingerprint(x.clone())
    others = [x.double(), x.reshape(4, 6), x + 1, x.flip(0)]
    assert len({same, fingerprint(x, torch.zeros(6)), *map(fingerprint, others)}) == 6


def test_fingerprint_of_large_data(monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprint_module, "WHOLE", 100)
    monkeypatch.setattr(fingerprint_module, "EDGE", 64)
    monkeypatch.setattr(fingerprint_module, "STRIDED", 10)
    x = torch.arange(4000.0).reshape(1000, 4)
    np.save(tmp_path / "x.npy", x.numpy())
    assert fingerprint(x) == fingerprint(np.load(tmp_path / "x.npy", mmap_mode="r"))
    for row in (0, 999, 111):
        changed = x.clone()
        changed[row] = -1
        assert fingerprint(changed) != fingerprint(x)


def test_binarize():
    x = torch.linspace(0, 1, 11)[None].expand(4000, 11)
    drawn = binarize(x, Noise.of(0, 4000))
    assert drawn.unique().tolist() == [0, 1]
    p = x[0].double()
    assert bool(((drawn.double().mean(0) - p).abs() <= 4 * (p * (1 - p) / 4000).sqrt()).all())
    assert torch.equal(drawn[:10], binarize(x[:10], Noise.of(0, 10)))
    assert binarize(torch.full((2, 3), 255, dtype=torch.uint8), Noise.of(0, 2)).tolist() == [[1] * 3] * 2
    with pytest.raises(DataError, match="reach"):
        binarize(x * 16, Noise.of(0, 4000))
