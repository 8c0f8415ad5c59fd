"""What every model of the zoo promises on the command line. A new model is tested by being registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from typer.testing import CliRunner

import psiphi as pp
from psiphi.app.cli import app
from psiphi.app.commands._apply import NUMBERS_OUT, ROWS_OUT
from psiphi.basis.registry import models
from psiphi.models import LabelledModel


def call(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*(str(word) for word in words), "--json"], catch_exceptions=False)
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.output}"
    return json.loads(result.stdout) if code == 0 else result.stderr


@pytest.fixture(scope="module", params=[entry.name for entry in models])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Each model, trained for three steps by `psiphi train`."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    small = {"latent_dim": ["--latent-dim", 4], "hidden": ["--hidden", 8]}
    options = [word for key, words in small.items() if key in models[name].parameters for word in words]
    if not hasattr(models[name].build(shape=(1, 8, 8)), "solve"):
        options += ["--steps", 3]
    call("train", name, "--data", "digits", *options, "--quiet", "--out", folder)
    return name, folder


def test_every_verb_answers_as_in_python(run: tuple[str, Path]):
    name, folder = run
    model = pp.load(folder)
    x = pp.data.load("digits").test.x[:20]
    sigma = getattr(getattr(model, "corruption", None), "sigma", 0.5)
    for verb in ROWS_OUT + NUMBERS_OUT:
        words: list[object] = ["apply", folder, verb, "--limit", 20]
        arguments: dict[str, Any] = {}
        if verb in ("denoise", "score"):
            words += ["--sigma", sigma]
            arguments = {"sigma": sigma}
        if verb == "log_prob":
            words += ["--samples", 5]
            arguments = {"samples": 5}
        if verb not in model.can:
            assert f"{name} cannot {verb}" in call(*words, code=2)
            continue
        record = call(*words)
        answer = getattr(model, verb)(x, **arguments).detach().numpy()
        assert record["shape"] == list(answer.shape)
        assert_close(np.load(folder / f"{verb}.npy", allow_pickle=False), answer)


def test_sample_and_evaluate_answer_or_say_why_not(run: tuple[str, Path]):
    name, folder = run
    can = pp.load(folder).can
    if "sample" in can:
        call("sample", folder, "-n", 3, "-o", folder / "some.npy")
        assert np.load(folder / "some.npy", allow_pickle=False).shape == (3, 1, 8, 8)
        label = ["sample", folder, "-n", 3, "--label", 7, "-o", folder / "seven.npy"]
        if isinstance(pp.load(folder), LabelledModel) or name == "semi_supervised_aae":
            assert call(*label)["label"] == 7
            assert_close(np.load(folder / "seven.npy"), pp.load(folder).sample(3, y=7).detach().numpy())
        else:
            assert f"{name} knows no labels" in call(*label, code=2)
    else:
        assert f"{name} cannot sample" in call("sample", folder, code=2)
    if "reconstruct" in can:
        assert call("evaluate", folder, "--samples", 5, "--limit", 40)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["encoed"], "no verb is called 'encoed'; use encode"),
        (["sample"], "sample is not asked of rows of data; use psiphi sample"),
        (["encode", "--sigma", "1"], "encode takes no --sigma"),
        (["encode", "--samples", "5"], "encode takes no --samples"),
        (["encode", "-o", "codes.txt"], "answers are written as .npy or .csv; got codes.txt"),
        (["predict"], "pca cannot predict"),
    ],
)
def test_what_cannot_be_applied_gets_a_sentence(words: list[str], sentence: str, tmp_path: Path):
    call("train", "pca", "--data", "moons:n=50", "--latent-dim", 1, "--quiet", "--out", tmp_path / "run")
    assert sentence in " ".join(call("apply", tmp_path / "run", *words, code=2).split())


def test_answers_are_written_as_csv_too(tmp_path: Path):
    call("train", "pca", "--data", "moons:n=50", "--latent-dim", 1, "--quiet", "--out", tmp_path / "run")
    call("apply", tmp_path / "run", "reconstruct", "-o", tmp_path / "x.csv")
    test = pp.data.load("moons:n=50").test
    wanted = pp.load(tmp_path / "run").reconstruct(test.x).numpy()
    head, *lines = (tmp_path / "x.csv").read_text().splitlines()
    assert head.split(",")[0] == "row"
    found = np.array([line.split(",") for line in lines])
    assert found[:, 0].astype(int).tolist() == list(test.rows)
    assert_close(found[:, 1:].astype(np.float32), wanted, rtol=1e-6, atol=1e-6)


def test_train_hides_labels_that_are_not_to_be_told(tmp_path: Path):
    few = [
        "train",
        "semi_supervised_aae",
        "--data",
        "digits",
        "--hidden",
        "16",
        "--steps",
        2,
        "--out",
        tmp_path,
    ]
    assert call(*few, "--labels", 20)["rows"]
    assert "25 labels are not as many of each of the 10 classes" in call(*few, "--labels", 25, code=2)
    assert call(*few, "--labels", 0)["last"]["model_class_nll"] == 0
    told = pp.data.some_labels(torch.arange(100) % 10, 30, seed=1)
    assert torch.bincount(told + 1).tolist() == [70, *[3] * 10]


def test_an_average_can_be_switched_off(tmp_path: Path):
    words = ["train", "gan", "--data", "digits", "--hidden", "8", "--steps", 1, "--out", tmp_path]
    assert call(*words, "--set", "ema=None")["arguments"]["ema"] is None
    assert "--patience waits for a better validation loss" in call(*words, "--patience", 2, code=2)
