"""Corrupt files thrown at `load`: it loads them or raises a psiphi error, never anything else."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from psiphi.basis.errors import PsiphiError
from psiphi.data import Data, load

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 5), np.uint8)


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, PIXELS.astype("f4"))
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez would write the time
        for name, array in (("x", PIXELS), ("y", np.arange(12) % 3)):
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def idx() -> bytes:
    return struct.pack(">BBBB3I", 0, 0, 8, 3, *PIXELS.shape) + PIXELS.tobytes()


def table() -> pandas.DataFrame:
    numbers = np.arange(12) / 7
    kinds = [["red", "green, blue", None][i % 3] for i in range(12)]
    return pandas.DataFrame({"number": numbers, "kind": kinds, "yes": numbers > 1, "count": np.arange(12)})


def parquet() -> bytes:
    stream = io.BytesIO()
    table().to_parquet(stream, index=False)
    return stream.getvalue()


def image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(stream, kind)
    return stream.getvalue()


def alone(name: str):
    def put(folder: Path, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return put


def among_images(suffix: str):
    def put(folder: Path, content: bytes) -> Path:
        (folder / f"a.{suffix}").write_bytes(image("PNG"))
        (folder / f"b.{suffix}").write_bytes(content)
        return folder

    return put


KINDS = {
    "npy": (npy(), alone("x.npy")),
    "npz": (npz(), alone("x.npz")),
    "idx": (idx(), alone("train-images-idx3-ubyte")),
    "idx.gz": (gzip.compress(idx(), mtime=0), alone("train-images-idx3-ubyte.gz")),
    "unnamed": (gzip.compress(idx(), mtime=0), alone("data.bin")),
    "csv": (table().to_csv(index=False).encode(), alone("x.csv")),
    "parquet": (parquet(), alone("x.parquet")),
    "png": (image("PNG"), among_images("png")),
    "bmp": (image("BMP"), among_images("bmp")),
    "gif": (image("GIF"), among_images("gif")),
    "jpeg": (image("JPEG"), among_images("jpg")),
    "tiff": (image("TIFF"), among_images("tif")),
    "webp": (image("WEBP"), among_images("webp")),
    "ppm": (image("PPM"), among_images("ppm")),
}


def outcome(what: Path | str) -> Data | str:
    """What loads, or the sentence of a psiphi error; any other error passes through and fails the test."""
    try:
        return load(what)
    except PsiphiError as error:
        return str(error)


def attempt(kind: str, content: bytes) -> Data | str:
    folder = Path(tempfile.mkdtemp())
    try:
        found = outcome(KINDS[kind][1](folder, content))
    finally:
        shutil.rmtree(folder)
    assert isinstance(found, Data) or len(found) > 20
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_file_loads(kind):
    assert isinstance(attempt(kind, KINDS[kind][0]), Data)


@pytest.mark.parametrize("kind", KINDS)
@given(content=st.binary(max_size=300))
def test_random_bytes(kind, content):
    attempt(kind, content)


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.floats(0, 1, exclude_max=True))
def test_cut_short(kind, size):
    whole = KINDS[kind][0]
    attempt(kind, whole[: int(size * len(whole))])


@pytest.mark.parametrize("kind", KINDS)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    early=st.booleans(),
)
def test_changed_bytes(kind, changes, early):
    """Half of the changes fall into the first 130 bytes, where headers are."""
    content = bytearray(KINDS[kind][0])
    for place, value in changes:
        content[place % min(len(content), 130 if early else len(content))] = value
    attempt(kind, bytes(content))


@given(
    text=st.text(alphabet=st.sampled_from(' ,;\t\n\r"ab01.-e\0é'), max_size=120)
    | st.lists(st.lists(st.text(max_size=5), max_size=3).map(",".join), max_size=5).map("\n".join)
)
def test_any_text_as_csv(text):
    attempt("csv", text.encode("utf-8", "surrogatepass"))


@given(text=st.text(max_size=80))
def test_npy_headers(text):
    head = text.encode() + b"\n"
    attempt("npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", len(head)) + head + b"\0" * 64)


@given(
    descr=st.sampled_from(
        ["<f4", ">i8", "|u1", "|b1", "|O", "<U3", "<c8", "<M8[s]", "|V5", "<f16", "<f2", "f0", "", 3, None]
    ),
    shape=st.lists(st.integers(-2, 2**70) | st.integers(0, 5), max_size=4).map(tuple)
    | st.none()
    | st.integers(),
    fortran=st.booleans() | st.none(),
    rest=st.integers(0, 400),
)
def test_npy_headers_that_lie(descr, shape, fortran, rest):
    record = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    attempt("npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(record)) + record + b"\0" * rest)


@given(
    code=st.integers(0, 20),
    sizes=st.lists(st.integers(0, 6) | st.integers(0, 2**32 - 1), max_size=5),
    rest=st.binary(max_size=200),
    packed=st.booleans(),
)
def test_idx_headers_that_lie(code, sizes, rest, packed):
    content = struct.pack(f">BBBB{len(sizes)}I", 0, 0, code, len(sizes), *sizes) + rest
    attempt("idx", gzip.compress(content, mtime=0) if packed else content)


@given(text=st.text(max_size=60))
def test_any_name(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = outcome(text)
    assert isinstance(found, Data) or len(found) > 20
