"""Bad input gets exit code 2 and one sentence on stderr, never a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def refused(psiphi: Any, *words: object) -> str:
    said = psiphi.call(*words, code=2)
    assert said.stdout == ""
    sentence = said.stderr.strip().split("\r")[-1].strip()
    assert sentence.startswith("psiphi: ")
    assert "\n" not in sentence
    assert "Traceback" not in said.stderr
    return sentence


CASES = [
    (["train", "vea"], "did you mean vae"),
    (["train", "vae", "--data", "nowhere.npy"], "nowhere.npy"),
    (["train", "vae", "--epochs", "many"], "psiphi train --help"),
    (["train", "vae", "--loss", "huber"], "it takes --latent-dim"),
    (["train", "ae", "--beta", 2], "ae has no argument --beta"),
    (["train", "vae", "--set", "bta=3"], "did you mean --beta"),
    (["train", "vae", "--set", "beta"], "name=value"),
    (["train", "vae", "--set", "encoder=3"], "only Python"),
    (["train", "vae", "--hidden", "wide"], "512,256"),
    (["train", "vae", "--net", "transformer"], "mlp or conv"),
    (["train", "vae", "--latent-dim", 100], "larger than the data"),
    (["train", "vae", "--schedule", "stairs"], "cosine or linear"),
    (["train", "vae", "--device", "abacus"], "no device"),
    (["train", "vae", "--clip", -1], "positive"),
    (["train", "vae", "--epochs", 1, "--steps", 1], "not both"),
    (["train", "pca", "--epochs", 3], "closed form"),
    (["train", "classifier", "--data", "swiss_roll:n=50"], "needs labels"),
    (["train", "vae", "--devices", 2, "--quiet"], "torchrun"),
    (["sample", "nowhere"], "psiphi train"),
    (["data", "nowhere"], "nowhere"),
    (["verify", "--only", "99"], "no law is called '99'"),
    (["attack", "no_such_module:f"], "no module"),
    (["attack", "json:loads"], "failed"),
    (["attack", "json:nothing"], "json"),
    (["frobnicate"], "psiphi --help"),
]


@pytest.mark.parametrize(
    ("words", "says"), CASES, ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else ""
)
def test_a_sentence(
    psiphi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[object], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(psiphi, *words)


RUN_CASES = [
    (["sample", "classifier"], "Models that can"),
    (["sample", "vae", "--out", "x.gif"], ".png, .npy or .npz"),
    (["sample", "vae", "-n", 0], "at least 1"),
    (["evaluate", "vae", "--data", "moons:n=50"], "samples of shape"),
    (["evaluate", "vae", "--limit", 0], "at least 1"),
    (["attack", "vae"], "no classes"),
    (["attack", "classifier", "--threat", "cube:0.1"], "linf:0.2"),
    (["attack", "classifier", "--threat", "linf:-1"], "at least 0"),
    (["attack", "classifier", "--attack", "pdg"], "did you mean pgd"),
    (["attack", "classifier", "--attack", "fgsm", "--steps", 3], "it takes --targets"),
    (["attack", "classifier", "--bounds", "wide"], "0,1"),
    (["attack", "classifier", "--bounds", "0,0.5", "--quiet"], "outside the bounds"),
    (["attack", "classifier", "--with", "classifier"], "cannot project"),
]


@pytest.mark.parametrize(
    ("words", "says"),
    RUN_CASES,
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_sentence_about_a_run(
    psiphi: Any, runs: Path, monkeypatch: pytest.MonkeyPatch, words: list[object], says: str
) -> None:
    monkeypatch.chdir(runs)
    assert says in refused(psiphi, *words)


def test_nan_in_the_data(psiphi: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((60, 5)).astype(np.float32)
    x[7, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    words = [
        "train",
        "ae",
        "--data",
        tmp_path / "x.npy",
        "--latent-dim",
        2,
        "--quiet",
        "--out",
        tmp_path / "run",
    ]
    assert "NaN" in refused(psiphi, *words)


def test_a_corrupt_run(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "vae", tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "cut short or changed" in refused(psiphi, "sample", tmp_path / "run")
    (tmp_path / "run" / "model.json").write_text("{")
    assert "JSON" in refused(psiphi, "evaluate", tmp_path / "run")


def test_a_place_that_cannot_be_written(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(psiphi, "sample", runs / "vae", "--out", tmp_path / "file" / "x.npy")
    refused(psiphi, "tour", "--out", tmp_path / "file" / "tour")


def test_a_full_disk(psiphi: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from psiphi.basis import files

    def full(handle: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "write", full)
    assert "No space left" in refused(psiphi, "sample", runs / "vae", "--out", tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())


def test_a_diverged_run_is_saved(psiphi: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [
        "train",
        "vae",
        "--likelihood",
        "gaussian",
        "--lr",
        "1e9",
        "--hidden",
        8,
        "--epochs",
        2,
        "--quiet",
        "--out",
        run,
    ]
    assert "diverged" in refused(psiphi, *words)
    psiphi.call("sample", run, "-n", 4)


def test_debug_shows_the_error(psiphi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from psiphi.basis.errors import FileError

    monkeypatch.setenv("PSIPHI_DEBUG", "1")
    with pytest.raises(FileError):
        psiphi.call("sample", "nowhere")
