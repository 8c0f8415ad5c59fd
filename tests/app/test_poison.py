"""`psiphi poison`: the table, the files, and what is said of bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

TINY = ("--rows", 400, "--limit", 100, "--epochs", 6, "--hidden", 32, "--quiet")


def test_a_backdoor_with_a_filter_writes_data_pictures_and_numbers(psiphi, tmp_path):
    said = psiphi.call(
        *(
            "poison",
            "backdoor",
            "--target",
            0,
            "--fraction",
            0.05,
            "--trials",
            2,
            "--filter",
            "reconstruction",
        ),
        *(*TINY, "--out", tmp_path),
    )
    assert "poisons removed (recall)" in said.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["means"]["success"]["value"] > summary["means"]["the same of clean models"]["value"]
    assert len(summary["trials"]) == 2
    assert summary["trials"][0]["poisons"] == 20
    with np.load(tmp_path / "poisoned.npz", allow_pickle=False) as arrays:
        assert arrays["x"].shape == (400, 1, 8, 8)
        assert (arrays["y"][arrays["rows"]] == 0).all()
        assert (arrays["x"][arrays["rows"], 0, -2:, -2:] == 1).all()
    assert (tmp_path / "poisons.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "words",
    [
        ("label_flip", "--fraction", 0.1),
        ("outliers", "--fraction", 0.1, "--set", "reach=0.8"),
        ("feature_collision", "--eps", 0.3, "--set", "steps=3"),
        ("gradient-matching", "--eps", 0.2, "--target", 1, "--set", "steps=3", "--set", "restarts=1"),
    ],
)
def test_every_poison_has_a_record(psiphi, words):
    found = psiphi.ask("poison", *words, "--trials", 1, *TINY)
    assert found["poison"].startswith(words[0].replace("-", "_"))
    assert 0 <= found["means"]["success"]["value"] <= 1
    assert found["trials"][0]["poisons"] == int(400 * (0.1 if "--fraction" in words else 0.01))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nothing",), "no poison is called"),
        (("backdoor",), "name it, e.g. --target 0"),
        (("backdoor", "--target", 0, "--source", 1), "does not take these arguments"),
        (("label_flip", "--filter", "no"), "no filter is called"),
        (("label_flip", "--fraction", 2), "share of the rows"),
        (("label_flip", "--set", "nothing=1"), "does not take these arguments"),
    ],
)
def test_bad_input_is_a_sentence(psiphi, words, says):
    assert says in psiphi.call("poison", *words, "--trials", 1, *TINY, code=2).stderr


def test_data_without_labels_are_a_sentence(psiphi, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 5), dtype=np.float32))
    said = psiphi.call("poison", "label_flip", "--data", tmp_path / "x.npy", *TINY, code=2).stderr
    assert "no labels" in said
