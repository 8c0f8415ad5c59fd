"""`psiphi evaluate` and `psiphi compare`: what they judge, say and write."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from psiphi.app.cli import app

TINY = ["--epochs", 1, "--hidden", 8, "--latent-dim", 2, "--quiet"]


def train(*words: object) -> None:
    assert CliRunner().invoke(app, ["train", *map(str, words)], catch_exceptions=False).exit_code == 0


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, and a VAE of points in the plane."""
    folder = tmp_path_factory.mktemp("more")
    train("ae", *TINY, "--out", folder / "ae")
    plane = ["--data", "moons:n=300", "--epochs", 1, "--hidden", 8, "--latent-dim", 1, "--quiet"]
    train("vae", *plane, "--likelihood", "gaussian", "--out", folder / "plane")
    return folder


def test_evaluate_judges_bound_and_codes(psiphi: Any, runs: Path) -> None:
    words = ["evaluate", runs / "vae", "--samples", 10, "--limit", 100]
    vae, pca = psiphi.ask(*words)["models"]
    parts = ("index_code", "total_correlation", "dimension_wise")
    assert sum(vae["elbo"][name] for name in parts) == pytest.approx(vae["elbo"]["rate"], abs=1e-6)
    assert vae["elbo"]["index_code"] <= math.log(100)
    assert vae["latents"]["probe"]["n"] == vae["latents"]["neighbours"]["n"] == 100
    assert vae["latents"]["trustworthiness"] is None
    assert pca["elbo"] is None
    assert "posterior" in pca["missing"]["elbo"]
    text = psiphi.call(*words).stdout
    for heading in ("active units", "linear probe", "index-code", "Bound on ln density (nats)"):
        assert heading in text


def test_evaluate_all(psiphi: Any, runs: Path) -> None:
    words = ["evaluate", runs / "vae", "--samples", 10, "--limit", 100, "--all"]
    vae, pca = psiphi.ask(*words)["models"]
    assert vae["bits"]["measure"] == pca["bits"]["measure"] == "dequantised"
    assert pca["latents"]["cycle"]["at_codes"] < 1e-5
    assert 0 <= vae["latents"]["information"]["gap"] <= 1
    text = psiphi.call(*words).stdout
    for words_of in (
        "trustworthiness",
        "draws off the data",
        "bits per dimension",
        "ln density",
        "lower is better",
    ):
        assert words_of in text


def test_a_class_set_apart_is_odd(psiphi: Any, runs: Path) -> None:
    record = psiphi.ask("evaluate", runs / "vae", "--samples", 10, "--odd", 3)
    found = record["models"][0]["anomalies"]
    assert found["odd"] + found["normal"] == 359
    assert found["normal"] == record["rows"]
    assert set(found["scores"]) == {"anomaly_score", "reconstruction", "elbo", "nll", "latent"}
    text = psiphi.call("evaluate", runs / "vae", "--samples", 10, "--odd", 3).stdout
    assert "AUROC" in text
    assert "met in training" in text


def test_other_data_are_odd(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).random((60, 1, 8, 8)).astype(np.float32))
    words = ["evaluate", runs / "pca", "--odd", tmp_path / "noise.npy"]
    (pca,) = psiphi.ask(*words)["models"]
    assert pca["anomalies"]["scores"]["reconstruction"]["auroc"] > 0.99


def test_a_sweep_of_beta(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = ["evaluate", runs / "vae", "--betas", "0.01,10", "--quiet", "--out", tmp_path / "rd.png"]
    points = psiphi.ask(*words)["sweep"]["points"]
    assert [point["beta"] for point in points] == [0.01, 10]
    assert points[0]["rate"] > points[1]["rate"]
    assert (tmp_path / "rd.png").read_bytes().startswith(b"\x89PNG")


def test_compare_sets_runs_side_by_side(psiphi: Any, runs: Path, more: Path, tmp_path: Path) -> None:
    words = [
        "compare",
        runs / "vae",
        more / "ae",
        runs / "classifier",
        "--samples",
        5,
        "--limit",
        120,
        "--odd",
        3,
        "--quiet",
    ]
    record = psiphi.ask(*words, "--out", tmp_path / "table.csv")
    names = [each["name"] for each in record["models"]]
    assert names == ["vae", "ae", "classifier", "pca-2", "pca-3"]
    by_name = {each["name"]: each for each in record["models"]}
    assert by_name["ae"]["likelihood"] is None
    assert by_name["classifier"]["accuracy"]["n"] == record["rows"]
    assert by_name["pca-3"]["latent_dim"] == by_name["vae"]["latent_dim"] == 3
    alone = psiphi.ask("evaluate", runs / "vae", "--samples", 5, "--odd", 3, "--limit", 120)["models"][0]
    assert by_name["vae"]["likelihood"] == alone["likelihood"]
    assert by_name["vae"]["latents"] == alone["latents"]
    columns, *rows = list(csv.reader((tmp_path / "table.csv").open(encoding="utf-8")))
    assert columns[:4] == ["model", "code", "squared error", "ln density (nats)"]
    assert {"active units", "linear probe", "AUROC", "accuracy"} <= set(columns)
    assert [row[0] for row in rows] == names
    text = psiphi.call(*words, "--out", tmp_path / "page.html").stdout
    assert max(map(len, text.splitlines()[:12])) <= 120
    assert "AUROC" in text
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "reconstruction" in page
    assert "pca-2" in page
    assert "http" not in page.split("</style>")[1]


def test_compare_has_one_column_a_measure(psiphi: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "bits.npy", (np.random.default_rng(0).random((200, 6)) > 0.5).astype(np.float32))
    data = ["--data", tmp_path / "bits.npy"]
    for name in ("bernoulli", "gaussian"):
        psiphi.call("train", "vae", *data, "--likelihood", name, *TINY, "--out", tmp_path / name)
    words = ["compare", tmp_path / "bernoulli", tmp_path / "gaussian", "--samples", 10, "--quiet"]
    psiphi.call(*words, "--all", "--out", tmp_path / "t.csv")
    columns, *rows = list(csv.reader((tmp_path / "t.csv").open(encoding="utf-8")))
    table = {row[0]: dict(zip(columns, row)) for row in rows}
    measures = ["ln probability (nats)", "ln density (nats)", "bits per dimension"]
    assert [
        [table[name].get(each) != "—" for each in measures] for name in ("bernoulli", "gaussian", "pca-2")
    ] == [
        [True, False, False],
        [False, True, True],
        [False, True, True],
    ]


def test_compare_passes_over_what_is_no_model(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    said = psiphi.call("compare", runs / "pca", tmp_path)
    assert "holds no saved model and is left out" in said.stderr
    assert "pca" in said.stdout


CASES = [
    (["compare", "nowhere"], "psiphi train"),
    (["compare", "runs/vae", "nowhere"], "psiphi train"),
    (["compare", "."], "holds no saved model"),
    (["compare", "runs/vae", "more/plane"], "samples of shape (1, 8, 8), plane of (2)"),
    (["compare", "runs/vae", "--out", "table.pdf"], ".html or .csv"),
    (["compare", "runs/vae", "--odd", "nowhere"], "nowhere"),
    (["compare", "runs/vae", "--odd", "moons:n=50"], "samples of shape"),
    (["evaluate", "runs/vae", "--betas", "some"], "0.1,1,4"),
    (["evaluate", "runs/vae", "--betas", "-1"], "at least 0"),
    (["evaluate", "runs/pca", "--betas", "1"], "no weight of the rate"),
    (["evaluate", "runs/vae", "--out", "x.png"], "--betas"),
]


@pytest.mark.parametrize(
    ("words", "says"), CASES, ids=lambda each: " ".join(map(str, each)) if isinstance(each, list) else ""
)
def test_a_sentence(
    psiphi: Any,
    runs: Path,
    more: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    (tmp_path / "runs").symlink_to(runs)
    (tmp_path / "more").symlink_to(more)
    monkeypatch.chdir(tmp_path)
    said = psiphi.call(*words, code=2)
    assert said.stdout == ""
    assert says in said.stderr
    assert len(said.stderr.strip().splitlines()) <= 2  # a note may come before


def test_runs_of_different_data_need_the_data_named(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    psiphi.call(
        "train", "pca", "--data", "digits:seed=5", "--latent-dim", 3, "--quiet", "--out", tmp_path / "other"
    )
    words = ["compare", runs / "pca", tmp_path / "other"]
    assert "--data" in psiphi.call(*words, code=2).stderr
    assert len(psiphi.ask(*words, "--data", "digits")["models"]) == 2


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_help_has_an_example(psiphi: Any, verb: str) -> None:
    text = psiphi.call(verb, "--help").stdout
    assert f"psiphi {verb}" in text
    assert "--odd" in text
