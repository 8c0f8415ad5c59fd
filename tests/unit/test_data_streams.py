"""What training reads: rows of memory, of mapped files, of data sets and loaders, draws."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from psiphi.basis.errors import ArgumentError, DataError, FileError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.data import Indexed, Loader, Mapped, Sampler, Split, as_source, check_finite, load
from psiphi.data import _mapped as mapped_module
from psiphi.data.toys import ring

X = torch.randn(70, 2, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(70) % 4
ROWS = torch.tensor([5, 3, 3, 69, 0])


class Items(Dataset):
    def __init__(self, x, y=None):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] if self.y is None else (self.x[i], int(self.y[i]))


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    return tmp_path / "x.npy"


@pytest.mark.parametrize(
    "kind", ["tensor", "array", "list", "pair", "split", "memmap", "items", "dataset", "subset"]
)
def test_indexed_sources_gather_the_same_rows(kind, file):
    made = {
        "tensor": lambda: as_source(X, Y),
        "array": lambda: as_source(X.numpy(), Y.numpy()),
        "list": lambda: as_source(X.tolist(), Y.tolist()),
        "pair": lambda: as_source((X, Y)),
        "split": lambda: as_source(Split(X, Y)),
        "memmap": lambda: as_source(np.load(file, mmap_mode="r"), Y),
        "items": lambda: as_source(Items(X, Y)),
        "dataset": lambda: as_source(TensorDataset(X, Y)),
        "subset": lambda: as_source(Subset(Items(torch.cat([X, X]), torch.cat([Y, Y])), range(70))),
    }[kind]()
    assert isinstance(made, Indexed)
    assert (len(made), made.shape, made.labelled) == (70, (2, 3), True)
    x, y = made.gather(ROWS)
    assert torch.allclose(x.float(), X[ROWS])
    assert torch.equal(y, Y[ROWS])
    x, y = made.gather(slice(4, 9))
    assert torch.allclose(x.float(), X[4:9])
    assert torch.equal(y, Y[4:9])
    assert (made.tensors is None) == (kind in ("memmap", "items", "subset"))
    assert torch.allclose(torch.cat([x for x, _ in made.chunks(20)]).float(), X)
    assert as_source(made) is made
    assert "70 rows" in repr(made)


def test_dtypes_stay_native():
    assert as_source((X * 10).to(torch.uint8)).gather(ROWS)[0].dtype == torch.uint8
    assert as_source(X.double()).dtype == torch.float64
    assert as_source(X).gather(ROWS)[1] is None


def test_mapped_views(file, tmp_path):
    array = np.load(file, mmap_mode="r")
    for view, same in (
        (array, X),
        (array[10:], X[10:]),
        (array[3:60:2], X[3:60:2]),
        (array[::-1], X.flip(0)),
    ):
        made = Mapped(view)
        assert made._window.path is not None
        assert torch.equal(made[:], same)
        assert torch.equal(made[ROWS[:3]], same[ROWS[:3]])
    permuted = Mapped(array.transpose(0, 2, 1)[:, None])
    assert torch.equal(permuted[ROWS], X[ROWS].permute(0, 2, 1)[:, None])
    made = Mapped(array)
    assert torch.equal(made[-1], X[-1])
    assert torch.equal(made[2:5, 1], X[2:5, 1])
    assert torch.equal(made[3, 1], X[3, 1])
    assert torch.equal(made[Y == 1], X[Y == 1])
    assert torch.equal(made[[-1, 0]], X[[-1, 0]])
    assert torch.equal(torch.as_tensor(made), X)
    assert np.array_equal(np.asarray(made), X.numpy())
    assert torch.equal(pickle.loads(pickle.dumps(made))[:], X)
    assert "70, 2, 3" in repr(made)
    part = made.subset(torch.tensor([9, 2, 4]))
    assert torch.equal(part[:], X[[9, 2, 4]])
    assert torch.equal(part.subset(torch.tensor([2, 0]))[:], X[[4, 9]])
    assert torch.equal(part[1:], X[[2, 4]])
    for wrong in (70, [70], [-71]):
        with pytest.raises(IndexError):
            made[wrong]
    for wrong in ("a", [0.5], torch.ones(3, dtype=torch.bool), [[1]]):
        with pytest.raises(ArgumentError):
            made[wrong]


def test_maps_are_dropped_and_opened_anew(file, monkeypatch):
    monkeypatch.setattr(mapped_module, "BUDGET", 200)
    monkeypatch.setattr(mapped_module, "FAULT_AROUND", 10)
    made = Mapped(np.load(file, mmap_mode="r"))
    index = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made[index], X[index])
    assert torch.equal(made[:], X)
    assert made._window.touched <= 200
    with file.open("r+b") as whole:
        whole.truncate(500)
    with pytest.raises(FileError, match="cut short"):
        made[index]
    file.unlink()
    with pytest.raises(FileError, match="opened again"):
        made[index]


def test_maps_that_cannot_be_opened_anew(file):
    private = np.load(file, mmap_mode="c")
    private[0] = 7
    assert float(Mapped(private)[0].mean()) == 7
    assert isinstance(as_source(np.load(file, mmap_mode="r") + 1).tensors, tuple)


def test_columns_are_refused_when_mapped(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(X.flatten(1).numpy()))
    with pytest.raises(DataError, match="ascontiguousarray"):
        as_source(np.load(tmp_path / "f.npy", mmap_mode="r"))
    assert load(tmp_path / "f.npy").shape == (6,)


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (X[:0], None, "empty"),
        (X[:1], None, "one row"),
        (X[:, :0], None, "empty"),
        (X[:, 0, 0], None, "rows of samples"),
        (np.array([[None]] * 3), None, "Python objects"),
        ([[1], [2, 3]], None, "no array"),
        (X, Y[:5], "70 rows"),
        (X, Y + 0.5, "no integers"),
        (X, Y - 3, "-1 means unknown"),
        (X, Y * 10_000, "number the classes"),
        (X, torch.eye(70), "argmax"),
        (X, ["a"] * 70, "numbers"),
        ("digits", None, r"psiphi\.data\.load"),
        (torch.nn.Linear(1, 1), None, "sampler"),
        (Items(X[:1]), None, "1 rows"),
        (Items([X[0] / 0, X[0]]), None, "item 0"),
        (X.to_sparse(), None, "dense"),
    ],
)
def test_bad_sources(x, y, sentence):
    with pytest.raises(DataError, match=sentence):
        as_source(x, y)


def test_unknown_labels_pass():
    assert as_source(X, torch.full((70,), -1)).gather(ROWS)[1].tolist() == [-1] * 5


def test_nan_is_counted_and_named(file, tmp_path):
    bad = X.clone()
    bad[7, 1, 2], bad[9, 0, 0], bad[40:] = torch.nan, torch.inf, -torch.inf
    np.save(tmp_path / "bad.npy", bad.numpy())
    for x in (bad, np.load(tmp_path / "bad.npy", mmap_mode="r"), bad.half()):
        with pytest.raises(DataError, match=r"32 of 70 rows \(rows 7, 9, 40, 41, 42, …\)"):
            as_source(x)
        assert len(as_source(x, check=False)) == 70
    check_finite(as_source(X))
    big = torch.full((4, 3), 3e38)
    assert len(as_source(big)) == 4


def test_shapes_of_items_and_batches():
    ragged = Items([torch.zeros(2), torch.zeros(2), torch.zeros(3)])
    with pytest.raises(ShapeError, match="item 2"):
        as_source(ragged).gather(torch.tensor([1, 2]))
    loader = DataLoader([torch.zeros(2), torch.zeros(3)], batch_size=1)
    with pytest.raises(ShapeError, match="batch 1"):
        list(as_source(loader).batches())
    with pytest.raises(DataError, match="DataLoader"):
        as_source(type("Stream", (IterableDataset,), {"__iter__": lambda self: iter([])})())
    with pytest.raises(DataError, match="no batch"):
        as_source(DataLoader(TensorDataset(X), batch_size=99, drop_last=True))
    for what in (loader, Items(X), ring()):
        with pytest.raises(ArgumentError, match="leave y out"):
            as_source(what, Y)


def test_loaders():
    state = torch.random.get_rng_state()
    made = as_source(DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True))
    assert torch.equal(state, torch.random.get_rng_state())
    assert isinstance(made, Loader)
    assert (made.length, made.shape, made.labelled) == (70, (2, 3), True)
    x, y = (torch.cat(parts) for parts in zip(*made.batches()))
    assert torch.allclose(x.sum(), X.sum(), atol=1e-4)
    assert torch.equal(y.sort().values, Y.sort().values)


def test_samplers():
    made = as_source(ring())
    assert isinstance(made, Sampler)
    assert made.length is None
    x, y = made.draw(6, Noise.of(1, 6))
    assert x.shape == (6, 2)
    assert y is None
    assert torch.equal(x[:3], made.draw(3, Noise.of(1, 3))[0])
    labelled = as_source(ring().draw)
    assert labelled.labelled
    liar = as_source(lambda n, noise: torch.zeros(min(n, 3), 2))
    with pytest.raises(ShapeError, match="asked for 5"):
        liar.draw(5, Noise.of(0, 5))
