"""The command line of attacks beyond gradients and norms: their numbers, files and sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import nn

from psiphi.attacks.threats import L1, L2, Chain, Columns, Features, Linf, Patch, Pixels, Spatial, parse
from psiphi.basis.errors import ArgumentError

FEW = ("--limit", 12, "--quiet", "--data", "digits")


def test_threats_are_read_from_text():
    assert parse("pixels:3") == Pixels(3)
    assert repr(parse("spatial:30,3")) == repr(Spatial(30.0, 3.0))
    assert repr(parse("spatial:10,2,0.1")) == repr(Spatial(10.0, 2.0, 0.1))
    assert repr(parse("spatial")) == repr(Spatial())
    assert repr(parse("patch:5x7@2,3")) == repr(Patch((5, 7), (2, 3)))
    assert repr(parse("patch:5")) == repr(Patch(5))
    assert repr(parse("spatial:30,3+linf:8/255")) == repr(Chain(Spatial(30.0, 3.0), Linf(8 / 255)))
    table = parse("l2:0.5 immutable=0,3 integers=5 ranges=2:0:10,4:-1:1")
    assert table == Columns(L2(0.5), (0, 3), (5,), {2: (0.0, 10.0), 4: (-1.0, 1.0)})
    network = nn.Identity()
    assert parse("features:0.5", network) == Features(network, eps=0.5)
    assert parse("l1:3") == L1(3.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pixels:half",
        "spatial:1,2,3,4",
        "patch:axb",
        "linf:0.1 fixed=3",
        "linf:0.1 ranges=2:0",
        "sphere:1",
    ],
)
def test_a_threat_that_cannot_be_read_gets_a_sentence(text):
    with pytest.raises(ArgumentError, match="no threat can be read"):
        parse(text)


def test_features_are_those_of_a_network():
    with pytest.raises(ArgumentError, match="those of a network"):
        parse("features:1")


KINDS = [
    ("spatial", ("--threat", "spatial:20,1", "--set", "counts=3")),
    ("spatial", ("--set", "search=gradient", "--set", "steps=3")),
    ("pgd", ("--threat", "spatial:20,1+linf:0.05", "--steps", 3)),
    ("pgd", ("--threat", "patch:3@1,1", "--steps", 3, "--step", 0.3)),
    ("pgd", ("--threat", "pixels:2", "--steps", 3)),
    ("perceptual", ("--threat", "features:0.5", "--steps", 3)),
    ("one_pixel", ()),
    ("one_pixel", ("--set", "pixels=2", "--set", "population=6", "--set", "generations=2")),
    ("nes", ("--threat", "linf:0.2", "--steps", 2, "--set", "samples=4", "--reveal", "scores")),
    ("hop_skip_jump", ("--reveal", "labels", "--budget", 60)),
]


@pytest.mark.parametrize(("name", "words"), KINDS)
def test_each_kind_is_told_in_numbers_and_files(
    psiphi: Any, runs: Path, tmp_path: Path, name: str, words: Any
) -> None:
    found = psiphi.ask("attack", runs / "classifier", "--attack", name, *words, "--out", tmp_path, *FEW)
    assert found["rows"] == 12
    assert found["forwards"] >= 12
    assert json.loads((tmp_path / "summary.json").read_text())["attack"] == found["attack"]
    if found["broken"]:
        assert Image.open(tmp_path / "attack.png").width > 50
    if "--reveal" in words:
        assert found["backwards"] == 0


def test_a_black_box_run_draws_success_against_queries(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = (
        "--attack",
        "square",
        "--threat",
        "linf:0.3",
        "--set",
        "queries=60",
        "--reveal",
        "scores",
        "--budget",
        50,
    )
    found = psiphi.ask("attack", runs / "classifier", *words, "--out", tmp_path, *FEW)
    queries = found["queries"]
    assert max(queries["queries"]) <= 50
    assert queries["success"] == sorted(queries["success"])
    assert queries["success"][-1] == pytest.approx(found["success_rate"])
    assert Image.open(tmp_path / "queries.png").width > 300
    said = psiphi.call("attack", runs / "classifier", *words, *FEW)
    assert "queries a sample" in said.stdout


def test_the_battery_says_which_attack_broke_which_row(psiphi: Any, runs: Path) -> None:
    words = ("--attack", "auto", "--threat", "linf:0.1", "--set", "steps=5", "--set", "queries=20")
    found = psiphi.ask("attack", runs / "classifier", *words, *FEW)
    assert sum(found["broken_by"].values()) == found["broken"]
    said = psiphi.call("attack", runs / "classifier", *words, "--reveal", "scores", *FEW)
    assert "broken by" in said.stdout
    assert "Left out: " in said.stdout


def test_one_change_for_all_inputs(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = (
        "universal",
        runs / "classifier",
        "--threat",
        "linf:0.3",
        "--steps",
        20,
        "--rows",
        200,
        "--limit",
        40,
    )
    found = psiphi.ask(*words, "--data", "digits", "--out", tmp_path, "--quiet")
    (shares,) = found["classifiers"].values()
    assert shares["fooling_rate"]["n"] == shares["error"]["n"] == 40
    assert Image.open(tmp_path / "universal.png").width > 20
    said = psiphi.call(*words, "--data", "digits", "--target", 3, "--quiet")
    assert "taken for 3" in said.stdout
    sentence = psiphi.call("universal", runs / "classifier", "--threat", "spatial:3,1", code=2).stderr
    assert "one change for all inputs" in sentence


def test_a_transfer_table(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    psiphi.call("train", "classifier", "--epochs", 2, "--hidden", 8, "--quiet", "--lr", 0.01, "--out", other)
    words = ("transfer", runs / "classifier", other, "--threat", "linf:0.2", "--steps", 3)
    found = psiphi.ask(*words, *FEW, "--out", tmp_path / "table")
    assert set(found["table"]) == {"clean", "noise", "classifier", "other"}
    assert set(found["table"]["noise"]) == {"classifier", "other"}
    assert json.loads((tmp_path / "table" / "transfer.json").read_text())["rows"] == 12
    assert "noise" in psiphi.call(*words, *FEW).stdout
    assert "twice" in psiphi.call("transfer", other, other, code=2).stderr


def test_a_universal_change_is_a_verb(psiphi: Any, runs: Path) -> None:
    assert (
        "psiphi universal"
        in psiphi.call("attack", runs / "classifier", "--attack", "universal", code=2).stderr
    )
