"""Files that are corrupt, cut short, or lie: a sentence each."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from psiphi.basis.errors import ArgumentError, DataError, FileError, PsiphiError
from psiphi.data import load


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def named(part: bytes | str) -> str:
    """Names of cases: the sentence expected."""
    return part if isinstance(part, str) else ""


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def images(n: int = 10) -> np.ndarray:
    return np.arange(n * 20, dtype=np.uint8).reshape(n, 5, 4)


@pytest.fixture
def mnist_like(tmp_path):
    for part, n in (("train", 10), ("t10k", 4)):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(packed(idx(images(n))))
        labels = np.arange(n, dtype=np.uint8) % 3
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_idx_folder_and_file(mnist_like):
    data = load(mnist_like)
    assert data.shape == (1, 5, 4)
    assert (len(data.train) + len(data.validation), len(data.test)) == (9 + 1, 4)
    assert torch.equal(data.test.x[:, 0], torch.from_numpy(images(4)))
    assert data.test.y.tolist() == [0, 1, 2, 0]
    assert data.classes == ["0", "1", "2"]
    one = load(mnist_like / "train-images-idx3-ubyte.gz")
    assert sum(map(len, one.splits.values())) == 10
    assert one.classes == ["0", "1", "2"]


def test_idx_of_other_types(tmp_path):
    path = tmp_path / "values.idx"
    path.write_bytes(idx(np.arange(12, dtype=">f4").reshape(4, 3), 0x0D))
    assert load(path, validation=0, test=0).train.x.sum() == 66


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (idx(images())[:-1], "cut short"),
        (idx(images()) + b"x", "longer"),
        (packed(idx(images()))[:-9], "corrupt"),
        (packed(idx(images())[:-1]), "cut short"),
        (packed(idx(images()))[:30], "cut short|corrupt"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "promises"),
        (packed(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 28, 28)), "promises"),
        (struct.pack(">BBBB", 0, 0, 8, 3), "header"),
        (struct.pack(">BBBB", 0, 0, 8, 0), "header"),
        (b"", "nothing"),
        (b"\x00\x00\x07\x01\x00\x00\x00\x00", "no idx file"),
        (b"PK\x03\x04 hello", "no idx file"),
        (packed(b"hello"), "no idx file"),
        (idx(images(0)), "empty"),
        (idx(images(1)), "one row"),
    ],
    ids=named,
)
def test_bad_idx(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises((FileError, DataError), match=sentence):
        load(path)


def test_bombs_are_not_unpacked(tmp_path):
    """A header that promises what deflate can give, but above the limit, is refused before it is read."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    head = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**20, 128, 128)
    path.write_bytes(packed(head) + b"\0" * (20 << 20))
    with pytest.raises(DataError, match="GiB"):
        load(path)


def test_idx_labels_that_do_not_fit(mnist_like):
    (mnist_like / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(9, np.uint8)))
    with pytest.raises(DataError, match="10 images"):
        load(mnist_like)


def npy(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(text: str) -> bytes:
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


BAD_NPY = [
    (npy(np.zeros((4, 3)))[:-1], "cut short"),
    (npy(np.zeros((4, 3))) + b"x", "longer"),
    (npy(np.zeros((4, 3)))[:20], "cannot be read"),
    (b"", "cannot be read"),
    (b"\x93NUMPY\x09\x00aaaaaaaaa", "cannot be read"),
    (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 99), }"),
        "promises|cut",
    ),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3), }"), "corrupt|cut"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': 'no', }"), "cannot be read"),
    (header("((((((((((((((((((((((("), "cannot be read"),
    (npy(np.zeros((0, 3))), "empty"),
    (npy(np.zeros(())), "shape"),
    (npy(np.zeros(7)), "rows of samples"),
    (npy(np.array([["a", "b"]] * 3)), "numbers"),
    (npy(np.zeros((4, 2), complex)), "complex"),
    (npy(np.zeros(4, dtype=[("a", "f4"), ("b", "i4")])), "numbers"),
]


@pytest.mark.parametrize(("content", "sentence"), BAD_NPY, ids=named)
@pytest.mark.parametrize("mapped", [False, True])
def test_bad_npy(tmp_path, content, sentence, mapped):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises((FileError, DataError), match=sentence):
        load(path, mapped=mapped)


def test_nothing_is_unpickled(tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "x.npy"
    objects = np.empty((3, 1), object)
    objects[:] = [[Trap(trap)]] * 3
    content = npy(objects, allow_pickle=True)
    path.write_bytes(content)
    archive = tmp_path / "x.npz"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("x.npy", content)
    raw = tmp_path / "x.pkl"
    raw.write_bytes(pickle.dumps(Trap(trap)))
    for bad, kind in ((path, DataError), (archive, DataError), (raw, FileError)):
        with pytest.raises(kind):
            load(bad)
    assert not trap.exists()


@pytest.mark.parametrize(("content", "sentence"), BAD_NPY[:9], ids=named)
def test_bad_npz_members(tmp_path, content, sentence):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x.npy", content)
    with pytest.raises((FileError, DataError), match=r"corrupt|cannot be read"):
        load(path)


def test_truncated_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 4)))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FileError, match="npz"):
            load(path)


def paint(folder, count=6, size=(4, 6), mode="L", suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    for i in range(count):
        shape = size if mode == "L" else (*size, len(mode))
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{i}.{suffix}")


def test_image_folders(tmp_path):
    paint(tmp_path / "cats")
    paint(tmp_path / "dogs", 4)
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    data = load(tmp_path, validation=0, test=0)
    assert data.shape == (1, 4, 6)
    assert data.classes == ["cats", "dogs"]
    assert torch.bincount(data.train.y).tolist() == [6, 4]
    for path in (tmp_path / "dogs").iterdir():
        pixels = torch.from_numpy(np.asarray(Image.open(path)).copy())
        same = (data.train.x[:, 0] == pixels).all(2).all(1)
        assert data.train.y[same].tolist() == [1]
    again = load(tmp_path)
    for split in again.splits.values():
        assert len(split.files) == len(split)
        assert split.rows is None
        for row, file in zip(split.x, split.files):
            assert np.array_equal(row[0].numpy(), np.asarray(Image.open(tmp_path / file)))
    flat = load(tmp_path / "cats")
    assert flat.train.y is None
    assert flat.classes == []
    assert load(f"{tmp_path}:size=8x10,channels=3").shape == (3, 8, 10)
    paint(tmp_path / "dogs", 1, mode="RGB")
    assert load(tmp_path).shape == (3, 4, 6)


def test_image_folder_with_its_own_test(tmp_path):
    for part, n in (("train", 6), ("test", 3)):
        for kind in "ab":
            paint(tmp_path / part / kind, n)
    data = load(tmp_path)
    assert data.provenance.own_test
    assert data.test.y.sort().values.tolist() == [0, 0, 0, 1, 1, 1]
    assert sorted(data.test.files) == [f"test/{kind}/{i}.png" for kind in "ab" for i in range(3)]
    assert len(data.train) + len(data.validation) == 12


def test_sixteen_bits(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / f"{i}.png")
    assert load(tmp_path).train.x.unique().tolist() == [255]


def test_image_sizes_must_agree(tmp_path):
    paint(tmp_path, 3)
    paint(tmp_path, 1, size=(9, 9))
    with pytest.raises(DataError, match=r"0\.png is 9x9 and .*1\.png is 4x6 .*size=\(9, 9\).*:size=9x9"):
        load(tmp_path)
    assert load(tmp_path, size=5).shape == (1, 5, 5)
    for wrong in (0, "5", (1, 2, 3), -1, 1.5):
        with pytest.raises(ArgumentError, match="size"):
            load(tmp_path, size=wrong)
    with pytest.raises(ArgumentError, match="channels"):
        load(tmp_path, channels=2)
    with pytest.raises(ArgumentError, match="it takes size, channels"):
        load(tmp_path, sizes=5)


def test_bad_images(tmp_path):
    with pytest.raises(DataError, match="no images"):
        load(tmp_path)
    paint(tmp_path / "a", 3, size=(40, 40))
    path = tmp_path / "a" / "1.png"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello", whole[:40] + b"\0" * 50):
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"1\.png"):
            load(tmp_path)
    path.write_bytes(whole)
    (tmp_path / "top.png").write_bytes(whole)
    with pytest.raises(DataError, match="sub-folder"):
        load(tmp_path)
    with pytest.raises(DataError, match="one image"):
        load(path)


def test_images_that_claim_to_be_huge(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(bomb)
    with pytest.raises(FileError, match=r"pixels|DecompressionBomb"):
        load(tmp_path)


def test_other_files(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("hello")
    with pytest.raises(FileError, match="no kind"):
        load(path)
    with pytest.raises(PsiphiError):
        load(tmp_path / "none.npy")


def test_rows_say_where_they_were_read():
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    data = load(x)
    for split in data.splits.values():
        assert split.files == ()
        assert np.array_equal(split.x.numpy(), x[split.rows.numpy()])
