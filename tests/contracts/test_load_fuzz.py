"""Corrupt model folders thrown at `psiphi.load`: a `FileError`, or a model; never anything else."""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import psiphi as pp
from psiphi.basis.errors import FileError

MEGABYTES = 300  # what a load may add to the largest memory this process ever held


def whole() -> dict[str, bytes]:
    model = pp.zoo.vae((2, 2), 2, hidden=(3,), seed=1)
    pp.fit(model, torch.linspace(0, 1, 32).reshape(8, 2, 2), steps=2, quiet=True)
    folder = Path(tempfile.mkdtemp())
    try:
        model.save(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}
    finally:
        shutil.rmtree(folder)


WHOLE = whole()
RECORD = json.loads(WHOLE["model.json"])
WEIGHTS = WHOLE["model.safetensors"]
HEADER = struct.unpack("<Q", WEIGHTS[:8])[0] + 8


def attempt(changes: dict[str, bytes | None]) -> Any:
    """The model a changed folder loads as, or the sentence of its `FileError`; another error fails the test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = Path(tempfile.mkdtemp())
    try:
        for name, content in {**WHOLE, **changes}.items():
            if content is not None:
                (folder / name).write_bytes(content)
        found = pp.load(folder)
    except FileError as error:
        found = str(error)
        assert str(folder) in found
        assert len(found) > len(str(folder)) + 20
    finally:
        shutil.rmtree(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
    if not isinstance(found, str):
        usable(found)
    return found


def usable(model: Any) -> None:
    """A loaded model is of a floating-point type and answers."""
    assert model.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    assert isinstance(model.provenance, dict)
    assert model.encode(torch.zeros(3, *model.shape)).shape == (3, model.latent_dim)
    assert repr(model.can)


def signed(weights: bytes, record: Any = RECORD) -> dict[str, bytes]:
    """Weights with a record that vouches for them."""
    record = {**record, "sha256": hashlib.sha256(weights).hexdigest()}
    return {"model.safetensors": weights, "model.json": json.dumps(record).encode()}


def flipped(content: bytes, places: list[tuple[int, int]], first: int) -> bytes:
    changed = bytearray(content)
    for place, value in places:
        changed[place % min(first, len(changed))] = value
    return bytes(changed)


places = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**30, 2**70)
    | st.integers(-3, 9)
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(
        ["vae", "pca", "ae", "classifier", "float64", "complex64", "int8", "bool", "Tensor", "gaussian:0"]
    )
    | st.sampled_from(["float8_e4m3fn", "conv", "mlp", "bernoulli", "gaussian:optimal", "1", "custom"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6) | st.just("custom"), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_the_whole_folder_loads():
    assert not isinstance(attempt({}), str)


@pytest.mark.parametrize("name", WHOLE)
def test_a_missing_file(name):
    assert name in attempt({name: None})


def test_no_folder_at_all(tmp_path):
    for path in (tmp_path / "nothing", tmp_path / "a" / "b", "", "\0", tmp_path):
        with pytest.raises(FileError):
            pp.load(path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FileError):
        pp.load(tmp_path / "file")


@pytest.mark.parametrize("name", WHOLE)
@given(content=st.binary(max_size=200))
def test_random_bytes(name, content):
    assert isinstance(attempt({name: content}), str)


@pytest.mark.parametrize("name", WHOLE)
@given(size=st.floats(0, 1, exclude_max=True))
def test_cut_short(name, size):
    cut = WHOLE[name][: int(size * len(WHOLE[name].rstrip()))]
    assert isinstance(attempt({name: cut}), str)


@given(changes=places)
def test_changed_bytes_of_the_weights_are_noticed(changes):
    changed = flipped(WEIGHTS, changes, len(WEIGHTS))
    found = attempt({"model.safetensors": changed})
    assert isinstance(found, str) == (changed != WEIGHTS)


@given(changes=places)
def test_changed_bytes_of_the_record(changes):
    attempt({"model.json": flipped(WHOLE["model.json"], changes, 10_000)})


@given(changes=places, early=st.booleans())
def test_changed_weights_that_the_record_vouches_for(changes, early):
    attempt(signed(flipped(WEIGHTS, changes, HEADER if early else len(WEIGHTS))))


@given(content=st.binary(max_size=200), claimed=st.integers(0, 2**64 - 1) | st.integers(0, 300))
def test_headers_that_lie(content, claimed):
    attempt(signed(struct.pack("<Q", claimed) + content))


@given(
    dtype=st.sampled_from(
        ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "C64", "F8_E4M3", "X", ""]
    ),
    shape=st.lists(st.integers(0, 2**62) | st.integers(0, 4), max_size=4),
    which=st.integers(0, 30),
    ends=st.tuples(st.integers(0, 500), st.integers(0, 2**62) | st.integers(0, 500)),
    keep=st.booleans(),
)
def test_tensors_that_lie(dtype, shape, which, ends, keep):
    """One tensor of the header claims another type, shape or place."""
    header = json.loads(WEIGHTS[8:HEADER])
    name = sorted(header)[which % len(header)]
    old = header[name]
    header[name] = {"dtype": dtype, "shape": old.get("shape", []) if keep else shape}
    header[name]["data_offsets"] = old.get("data_offsets", [0, 0]) if keep else list(ends)
    text = json.dumps(header).encode()
    attempt(signed(struct.pack("<Q", len(text)) + text + WEIGHTS[HEADER:]))


def paths(value: Any, at: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(path for key, each in inner for path in paths(each, (*at, key)))]


PATHS = paths(RECORD)


@given(path=st.sampled_from(PATHS), value=anything)
def test_any_value_anywhere_in_the_record(path, value):
    attempt({"model.json": edited(path, value)})


ARGUMENTS = [path for path in PATHS if path[:2] == ("recipe", "arguments") and len(path) > 2]


@given(path=st.sampled_from(ARGUMENTS), value=anything, other=st.sampled_from(ARGUMENTS), another=anything)
def test_any_arguments_in_the_recipe(path, value, other, another):
    attempt({"model.json": edited(path, value, other, another)})


def edited(path: tuple, value: Any, other: tuple = (), another: Any = None) -> bytes:
    record = copy.deepcopy(RECORD)
    for where, what in ((path, value), (other, another)):
        place = record
        for key in where[:-1]:
            place = place[key] if isinstance(place, list | dict) and has(place, key) else {}
        if where and isinstance(place, dict | list) and has(place, where[-1]):
            place[where[-1]] = what
    return json.dumps(record).encode()


def has(place: Any, key: Any) -> bool:
    return key in place if isinstance(place, dict) else isinstance(key, int) and key < len(place)


@given(removed=st.sampled_from(PATHS), added=st.text(max_size=8), value=anything)
def test_fields_that_are_missing_or_unknown(removed, added, value):
    record = copy.deepcopy(RECORD)
    place = record
    for key in removed[:-1]:
        place = place[key]
    del place[removed[-1]]
    if isinstance(place, dict):
        place[added] = value
    attempt({"model.json": json.dumps(record).encode()})


@pytest.mark.parametrize(
    "dtype", ["complex64", "float8_e4m3fn", "int8", "bool", "Tensor", "nn", "", None, 3, ["float32"]]
)
def test_types_that_are_none_of_a_model(dtype):
    found = attempt({"model.json": json.dumps({**RECORD, "dtype": dtype}).encode()})
    assert "the type of its weights is" in found


def test_whole_numbers_are_no_weights():
    """Of the same size in bytes, so that only their type tells."""
    text = WEIGHTS[8:HEADER].replace(b'"F32"', b'"I32"')
    assert len(text) == HEADER - 8
    assert "holds torch.int32, the model needs torch.float32" in attempt(
        signed(WEIGHTS[:8] + text + WEIGHTS[HEADER:])
    )


@given(record=anything)
def test_records_that_are_none(record):
    assert isinstance(attempt({"model.json": json.dumps(record).encode()}), str)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, r"file format 2; this psiphi reads 1: use psiphi"),
        ({"recipe": None}, r"names no recipe; pass pp\.load\(path, into=model\)"),
        ({"recipe": {"model": "vea", "arguments": {}}}, "no builder is called 'vea'"),
        (
            {"recipe": {"model": "vae", "arguments": {"shape": [2, 2], "encoder": {"custom": "Own"}}}},
            "encoder=Own of your",
        ),
        (
            {"recipe": {"model": "pca", "arguments": {"shape": [2, 2], "latent_dim": 2}}},
            "belong to another model",
        ),
        ({"recipe": {"model": "vae", "arguments": {"shape": [2, 2], "latent_dim": 9}}}, "cannot be built"),
        ({"recipe": {"model": "vae", "arguments": {"shape": [2, 2], "latent_dim": 2}}}, "another model"),
    ],
)
def test_what_is_wrong_is_said(change, sentence):
    import re

    found = attempt({"model.json": json.dumps({**RECORD, **change}).encode()})
    assert re.search(sentence, found)
