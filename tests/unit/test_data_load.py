"""`load`: every kind of input, splits, labels, options."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from psiphi.basis.errors import ArgumentError, DataError, FileError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.data import Data, Mapped, Split, load, names
from psiphi.data._hub import from_splits


def rows_of(data: Data) -> list[int]:
    return [int(row.flatten()[0]) for split in data.splits.values() for row in split.x[:]]


def numbered(n: int = 50, width: int = 3) -> np.ndarray:
    """Row i starts with i, so that splits can be told apart."""
    x = np.zeros((n, width), np.float32)
    x[:, 0] = np.arange(n)
    return x


def test_digits():
    data = load("digits")
    assert data.shape == (1, 8, 8)
    assert data.train.x.dtype == torch.float32
    assert (float(data.train.x.min()), float(data.train.x.max())) == (0.0, 1.0)
    assert data.classes == [str(k) for k in range(10)]
    assert data.provenance.rows == {"train": 1258, "validation": 180, "test": 359}
    assert data.provenance.fingerprint == load("digits", seed=5).provenance.fingerprint
    assert "1797" not in repr(data)
    assert "1258 train" in repr(data)
    assert load(data) is data


def test_splits_are_disjoint_complete_and_repeatable():
    x = numbered(101)
    data, again, other = load(x, seed=1), load(x, seed=1), load(x, seed=2)
    assert sorted(rows_of(data)) == list(range(101))
    assert rows_of(data) == rows_of(again) != rows_of(other)
    assert len(load(x, validation=0, test=7).test) == 7
    assert len(load(x, validation=0.0, test=0).train) == 101
    assert len(load(x, validation=0).validation) == 0


@pytest.mark.parametrize(
    "shares", [dict(validation=0.9), dict(test=1.5), dict(test=-1), dict(test=100), dict(test="x")]
)
def test_shares_that_make_no_sense(shares):
    with pytest.raises(ArgumentError, match=r"test|validation"):
        load(numbered(), **shares)


def test_labels_travel_with_rows():
    x = numbered()
    y = np.arange(50) % 5
    for given in (load((x, y)), load(x, labels=y), load(Split(torch.from_numpy(x), torch.from_numpy(y)))):
        for split in given.splits.values():
            assert torch.equal(split.x[:, 0].long() % 5, split.y)
        assert given.classes == ["0", "1", "2", "3", "4"]


def test_labels_of_any_kind_are_numbered():
    x = numbered(6)
    assert load(x, labels=["b", "a", "b", "c", "a", "a"]).classes == ["a", "b", "c"]
    gaps = load(x, labels=[3, 9, 3, -1, 9, 9], validation=0, test=0)
    assert gaps.classes == ["3", "9"]
    assert [int(gaps.train.y[gaps.train.x[:, 0] == i]) for i in range(6)] == [0, 1, 0, -1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 1], "6 rows"),
        ([0.5] * 6, "no integers"),
        (np.zeros((6, 3)), r"argmax"),
        ([None] * 6, "Python objects"),
        (["a"] * 5, "6 rows"),
    ],
)
def test_bad_labels(labels, sentence):
    with pytest.raises(DataError, match=sentence):
        load(numbered(6), labels=labels)


def test_images_get_a_channel():
    assert load(np.zeros((9, 5, 4), np.uint8)).shape == (1, 5, 4)
    assert load(np.zeros((9, 5, 4, 3), np.uint8)).shape == (3, 5, 4)
    assert load(torch.zeros(9, 3, 5, 4)).shape == (3, 5, 4)
    assert load(np.zeros((9, 5, 4), np.uint8)).train.x.dtype == torch.uint8


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (np.zeros(5), ShapeError),
        (np.zeros((0, 3)), DataError),
        (np.zeros((5, 0)), DataError),
        (np.zeros((1, 3)), DataError),
        ([[1, 2], [3]], DataError),
        ([["a"], ["b"]], DataError),
        (np.array([[None], [1]]), DataError),
        (np.zeros((3, 2), complex), DataError),
        (torch.zeros(3, 2, dtype=torch.complex64), DataError),
        (np.zeros((3, 2), "datetime64[s]"), DataError),
        (7, DataError),
        (None, DataError),
        (torch.nn.Linear(2, 2), DataError),
        (lambda: 1, ArgumentError),
        (lambda n, noise: torch.zeros(n), ShapeError),
        (lambda n, noise: torch.zeros(5, 2), ShapeError),
        (b"digits", DataError),
        ({"x": 1}, DataError),
    ],
)
def test_useless_input_gets_a_sentence(x, kind):
    with pytest.raises(kind) as caught:
        load(x)
    assert len(str(caught.value)) > 40
    assert str(caught.value).endswith((".", "]"))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">f4", "u2", "u4", "f2", "g", "?"])
def test_dtypes(dtype):
    x = (numbered() % 2).astype(dtype)
    data = load(x, validation=0, test=0)
    assert float(data.train.x.float().sum()) == 25


def test_names_options_and_misspellings():
    assert names() == ["digits", "gaussian", "grid", "moons", "ring", "swiss_roll"]
    data = load("ring:n=500,modes=6,test=0.5", seed=3)
    assert data.provenance.rows == {"train": 200, "validation": 50, "test": 250}
    assert len(data.classes) == 6
    assert len(data.reference.means) == 6
    assert torch.equal(data.train.x, load("ring", n=500, modes=6, test=0.5, seed=3).train.x)
    assert load("swiss_roll:dimension=3,n=100").shape == (3,)
    for wrong, sentence in [
        ("digit", "did you mean digits"),
        ("ring:mods=5", "it takes n, modes|modes, radius"),
        ("digits:n=5", "takes none"),
        ("nowhere/at/all", "neither a file"),
        ("ring:n=1", "at least 2"),
        ("ring:modes=0", "modes"),
        ("ring:sigma=abc", "sigma"),
        ("gaussian:correlation=1", "correlation"),
        ("hub:mnist", "psiphi\\[hub\\]"),
        ("torchvision:MNIST", "psiphi\\[vision\\]"),
    ]:
        with pytest.raises((ArgumentError, FileError), match=sentence):
            load(wrong)


def test_samplers_and_toys():
    def sampler(n, noise):
        return noise.normal((3,)) + 2

    data = load(sampler, n=400, seed=7)
    assert data.shape == (3,)
    assert data.reference is sampler
    x = torch.cat([split.x for split in data.splits.values()])
    wanted = sampler(400, Noise.of(7, 400).split("data"))
    assert torch.equal(x[x[:, 0].argsort()], wanted[wanted[:, 0].argsort()])
    assert len(load("ring:n=100").reference.means) == 8
    data = load(lambda n, noise: (noise.normal((3,)), torch.ones(n)), n=400)
    assert data.classes == ["1"]
    assert all((split.y == 0).all() and len(split.y) == len(split) for split in data.splits.values())
    with pytest.raises(ArgumentError, match="sampler has no option"):
        load(lambda n, noise: noise.normal((3,)), rows=3)


class Pairs(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.full((2,), float(i)) for i in range(20)])


def test_torch_data_sets_and_loaders():
    x, y = torch.from_numpy(numbered()), torch.arange(50) % 2
    for what in (
        TensorDataset(x, y),
        DataLoader(TensorDataset(x, y), batch_size=7),
        Pairs([(x[i], int(y[i])) for i in range(50)]),
        [(x[i], int(y[i])) for i in range(50)],
        [{"x": x[i], "y": int(y[i])} for i in range(50)],
        Pairs([{"data": x[i], "label": y[i]} for i in range(50)]),
    ):
        data = load(what)
        assert sorted(rows_of(data)) == list(range(50))
        assert torch.equal(data.train.x[:, 0].long() % 2, data.train.y)
    assert load(Pairs(list(x))).train.y is None
    assert sum(map(len, load(Stream()).splits.values())) == 20
    with pytest.raises(DataError, match="keys"):
        load(Pairs([{"a": 1}] * 4))
    with pytest.raises(ShapeError, match="item 1"):
        load(Pairs([torch.zeros(2), torch.zeros(3)]))
    with pytest.raises(DataError, match="3 parts"):
        load(Pairs([(x[0], 1, 2)] * 4))


class Frame:
    """The part of a pandas data frame that is used."""

    def __init__(self, **columns):
        self.data = {name: np.asarray(values) for name, values in columns.items()}
        self.columns = list(self.data)
        self.dtypes = [values.dtype for values in self.data.values()]

    def to_numpy(self, dtype=None):
        return np.stack(list(self.data.values()), 1).astype(dtype)

    def drop(self, columns):
        return Frame(**{name: values for name, values in self.data.items() if name != columns})

    def __getitem__(self, name):
        return types.SimpleNamespace(to_numpy=lambda: self.data[name])


def test_data_frames():
    frame = Frame(a=np.arange(30.0), b=np.ones(30), kind=["x", "y", "z"] * 10)
    data = load(frame, labels="kind")
    assert data.shape == (2,)
    assert data.classes == ["x", "y", "z"]
    with pytest.raises(DataError, match="kind"):
        load(frame)
    with pytest.raises(DataError, match="no column"):
        load(frame, labels="nope")


def test_sparse_matrices():
    from scipy.sparse import csr_matrix

    assert load(csr_matrix(numbered())).shape == (3,)


class Table(Pairs):
    """The part of a Hugging Face data set that is used."""

    features = {"image": None, "label": types.SimpleNamespace(names=["cat", "dog"])}  # noqa: RUF012


def test_hub_tables():
    from PIL import Image

    grey = [{"image": Image.new("L", (4, 6), i), "label": i % 2} for i in range(10)]
    raw = from_splits({"train": Table(grey), "test": Table(grey[:4])}, "hub:x")
    assert raw.x.shape == (10, 1, 6, 4)
    assert raw.x.dtype == torch.uint8
    assert raw.test[0].shape == (4, 1, 6, 4)
    assert raw.classes == ["cat", "dog"]
    with pytest.raises(DataError, match="called train"):
        from_splits({"validation": Table(grey)}, "hub:x")


def test_hub_is_asked_and_its_failures_are_sentences(monkeypatch):
    grey = Table([{"image": torch.zeros(1, 2, 2), "label": i % 2} for i in range(10)])
    asked = []

    def load_dataset(name, config, cache_dir=None):
        asked.append((name, config))
        if name == "gone":
            raise ConnectionError("no network")
        return {"train": grey}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    data = load("hub:some/name:config=plain")
    assert asked == [("some/name", "plain")]
    assert data.classes == ["cat", "dog"]
    with pytest.raises(FileError, match="no network"):
        load("hub:gone")


def test_npy_in_memory_and_mapped(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, numbered())
    assert isinstance(load(path).train.x, torch.Tensor)
    mapped = load(f"{path}:mapped=True")
    assert isinstance(mapped.train.x, Mapped)
    assert rows_of(mapped) == rows_of(load(str(path)))
    assert mapped.provenance.fingerprint == load(path).provenance.fingerprint
    np.save(tmp_path / "y.npy", np.arange(50) % 3)
    labelled = load(path, labels=tmp_path / "y.npy")
    assert torch.equal(labelled.test.x[:, 0].long() % 3, labelled.test.y)
    assert load(np.load(path, mmap_mode="r")).train.x.subset(torch.tensor([0])).shape == (1, 3)


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    for keys in (("x", "y"), ("X", "y"), ("images", "labels")):
        np.savez_compressed(path, **{keys[0]: numbered(), keys[1]: np.arange(50) % 2})
        data = load(path)
        assert torch.equal(data.train.x[:, 0].long() % 2, data.train.y)
    np.savez(path, x_train=numbered(), y_train=np.arange(50) % 2, x_test=numbered(4), y_test=[0, 1, 0, 1])
    data = load(path)
    assert data.provenance.own_test
    assert data.test.x[:, 0].tolist() == [0, 1, 2, 3]
    np.savez(path, only=numbered())
    assert load(path).train.y is None
    np.savez(path, a=numbered(), kind=np.arange(50) % 2, x=numbered())
    assert load(path, labels="kind").classes == ["0", "1"]
    np.savez(path, a=numbered(), b=numbered())
    with pytest.raises(DataError, match="holds a, b"):
        load(path)


def test_shared_data(shared_data):
    mnist = load(shared_data / "mnist")
    assert mnist.shape == (1, 28, 28)
    assert mnist.train.x.dtype == torch.uint8
    assert mnist.provenance.rows == {"train": 54000, "validation": 6000, "test": 10000}
    assert mnist.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert load(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz").classes == [str(k) for k in range(10)]
    assert load(shared_data / "freyfaces" / "freyfaces_u8_1965x28x20.npy").shape == (1, 28, 20)
    for path in sorted((shared_data / "adbench").glob("*.npz")):
        assert load(path).classes == ["0", "1"]
