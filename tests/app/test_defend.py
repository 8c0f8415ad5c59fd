"""`psiphi defend`: the table, its files, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import psiphi as pp

FEW = ("--limit", 12, "--steps", 3, "--quiet")
LEVELS = ["gray-box", "bpda", "exact gradient", "fixed noise", "expectation"]


@pytest.fixture(scope="module")
def denoiser(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusion of a few steps of training."""
    folder = tmp_path_factory.mktemp("defend") / "ddpm"
    x = pp.data.load("digits").train.x
    model = pp.zoo.ddpm((1, 8, 8), hidden=(16,), parametrisation="velocity")
    pp.fit(model, x, steps=30, quiet=True)
    pp.save(model, folder)
    return folder


def test_the_table_is_that_of_python(psiphi: Any, runs: Path) -> None:
    record = psiphi.ask("defend", runs / "classifier", "--with", runs / "vae", "--threat", "linf:0.1", *FEW)
    found = record["purifiers"]["vae"]
    data = pp.data.load("digits")
    x, y = data.test.x[:12], torch.as_tensor(data.test.y[:12])
    safe = pp.defenses.purify(pp.load(runs / "classifier"), pp.load(runs / "vae"))
    table = pp.evaluation.adaptive(safe, x, y, pp.attacks.pgd(pp.attacks.Linf(0.1), steps=3))
    assert list(found["levels"]) == LEVELS
    for name in LEVELS:
        assert found["levels"][name]["value"] == table.levels[name].value
    assert found["worst"] == {"level": table.worst[0], "value": table.worst[1]}
    assert found["purifier"] == "purify(classifier, vae)"
    assert record["rows"] == 12


def test_several_purifiers_give_one_table_pictures_and_a_record(
    psiphi: Any, runs: Path, denoiser: Path, tmp_path: Path
) -> None:
    said = psiphi.call(
        "defend", runs / "classifier", "--with", runs / "pca", "--with", denoiser, "--threat", "linf:0.3",
        "--set", "steps=2", "--draws", 2, "--out", tmp_path / "out", *FEW,
    ).stdout  # fmt: skip
    assert "is the number to report" in said
    assert "proves nothing" in said
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(record["purifiers"]) == ["pca", "ddpm"]
    assert record["purifiers"]["ddpm"]["purifier"] == "purify(classifier, ddpm, steps=2, seed=0)"
    assert record["purifiers"]["pca"]["purifier"] == "purify(classifier, pca)"
    for name in record["files"]:
        assert Path(name).exists()
    with Image.open(tmp_path / "out" / "levels.png") as picture:
        assert picture.width > 300


def test_fresh_noise_is_judged_on_draws_and_a_level_is_chosen(
    psiphi: Any, runs: Path, denoiser: Path
) -> None:
    record = psiphi.ask(
        "defend", runs / "classifier", "--with", denoiser, "--fresh", "--tune", "--draws", 2, "--verify", 5,
        "--set", "steps=2", *FEW,
    )  # fmt: skip
    found = record["purifiers"]["ddpm"]
    assert found["provenance"]["random"]
    assert "noise_held" in found["levels"]["fixed noise"]
    assert len(found["tuned"]["table"]) == 6
    chosen = found["tuned"]["chosen"]["sigma"]
    assert f"sigma={chosen!r}, seed=None" in found["purifier"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the model that stands in front: --with runs/vae"),
        (("--with", "nowhere"), "there is no run at nowhere"),
        (("--with", "{classifier}"), "classifier cannot project"),
        (("--with", "{vae}", "--set", "sigma=0.2"), "vae cannot project with sigma=0.2; it takes steps"),
        (
            ("--with", "{vae}", "--with", "{pca}", "--set", "sigma=0.2"),
            "none of the models projects with sigma",
        ),
        (("--with", "{vae}", "--attack", "ddn", "--threat", "l2"), "has no radius"),
        (("--with", "{vae}", "--draws", 0), "draws is a whole number"),
    ],
)
def test_bad_input_is_a_sentence(psiphi: Any, runs: Path, words: tuple[Any, ...], said: str) -> None:
    places = {name: runs / name for name in ("classifier", "vae", "pca")}
    told = [str(word).format(**places) for word in words]
    answer = psiphi.call("defend", runs / "classifier", *told, "--limit", 8, "--quiet", code=2)
    assert said in " ".join(answer.stderr.split())
    assert answer.stdout == ""
