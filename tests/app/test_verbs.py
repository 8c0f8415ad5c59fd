"""Every verb on tiny settings: what it writes, what it prints, what it says to machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

VERBS = (
    "tour", "train", "sample", "apply", "impute", "evaluate", "compare", "attack", "merge", "verify", "repro",
    "models", "data",
)  # fmt: skip


def test_help_imports_neither_torch_nor_numpy() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from psiphi.app.cli import app\n"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'jinja2'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(psiphi: Any, verb: str) -> None:
    text = psiphi.call(verb, "--help").stdout
    assert "Example" in text
    assert f"psiphi {verb}" in text


def test_version(psiphi: Any) -> None:
    import psiphi as package

    assert package.__version__ in psiphi.call("--version").stdout


def test_train_writes_a_run_that_knows_its_data(psiphi: Any, tmp_path: Path) -> None:
    import psiphi as pp

    record = psiphi.ask(
        "train", "vae", "--data", "moons:n=200", "--latent-dim", 1, "--likelihood", "gaussian:0.1", "--hidden", "8,4",
        "--steps", 6, "--batch-size", 32, "--schedule", "cosine", "--clip", 1, "--ema", 0.9, "--patience", 5,
        "--set", "samples=2", "--quiet", "--out", tmp_path / "run",
    )  # fmt: skip
    assert record["arguments"]["hidden"] == [8, 4]
    assert record["arguments"]["samples"] == 2
    assert record["last"]["step"] == 6
    assert record["best"]["validation_loss"] >= 0 or record["best"]["validation_loss"] < 0
    model = pp.load(tmp_path / "run")
    assert model.provenance["data_spec"] == "moons:n=200"
    assert model.recipe["arguments"]["latent_dim"] == 1
    assert (tmp_path / "run" / "log.csv").read_text().startswith("step,epoch,loss")
    table = psiphi.call("evaluate", tmp_path / "run", "--samples", 20).stdout
    assert "pca" in table
    assert "moons:n=200" in table


def test_train_resumes(psiphi: Any, tmp_path: Path) -> None:
    run = [
        "train",
        "ae",
        "--hidden",
        8,
        "--latent-dim",
        2,
        "--epochs",
        2,
        "--quiet",
        "--out",
        tmp_path / "run",
    ]
    first = psiphi.ask(*run)
    again = psiphi.ask(*run, "--resume")
    assert again["last"]["loss"] == first["last"]["loss"]
    assert again["rows"] == 2


def test_classes_come_from_the_data(psiphi: Any, tmp_path: Path) -> None:
    run = ["train", "classifier", "--data", "ring:n=300,modes=5", "--hidden", 8, "--steps", 3, "--quiet"]
    assert psiphi.ask(*run, "--out", tmp_path / "run")["arguments"]["classes"] == 5


def test_sample_writes_pictures_and_numbers(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    record = psiphi.ask("sample", runs / "vae", "-n", 5, "--seed", 3, "--out", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy")
    assert x.shape == (5, 1, 8, 8)
    assert record["shape"] == [5, 1, 8, 8]
    psiphi.call("sample", runs / "vae", "-n", 9, "--seed", 3, "--out", tmp_path / "more.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "more.npz")["x"][:5], x)
    psiphi.call("sample", runs / "vae", "-n", 9, "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == picture.height >= 300
    psiphi.call("sample", runs / "pca", "-n", 4, "--exact", "--out", tmp_path / "exact.npy")
    assert np.load(tmp_path / "exact.npy").std() > 0


def test_sample_of_points_is_a_scatter_plot(psiphi: Any, tmp_path: Path) -> None:
    psiphi.call("train", "pca", "--data", "moons:n=100", "--latent-dim", 1, "--out", tmp_path / "run")
    psiphi.call("sample", tmp_path / "run", "-n", 20)
    assert (tmp_path / "run" / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_sets_a_model_beside_pca(psiphi: Any, runs: Path) -> None:
    words = [
        "evaluate",
        runs / "vae",
        "--samples",
        20,
        "--limit",
        50,
        "--classifier",
        runs / "classifier",
        "--draws",
        60,
    ]
    record = psiphi.ask(*words)
    vae, pca = record["models"]
    assert (vae["name"], pca["name"]) == ("vae", "pca")
    assert vae["latent_dim"] == pca["latent_dim"] == 3
    assert vae["likelihood"]["samples"] == 20
    assert pca["likelihood"]["samples"] == 0
    assert pca["likelihood"]["effective"] is None  # infinite, which JSON has no word for
    assert sum(record["samples"]["counts"]) == 60
    text = psiphi.call(*words).stdout
    assert "density (nats)" in text
    assert "Class entropy" in text


def test_measures_never_share_a_column(psiphi: Any, tmp_path: Path) -> None:
    """A Bernoulli VAE on binary data is a probability, PCA a density."""
    np.save(tmp_path / "bits.npy", (np.random.default_rng(0).random((200, 6)) > 0.5).astype(np.float32))
    run = tmp_path / "run"
    data = ["--data", tmp_path / "bits.npy"]
    psiphi.call(
        "train",
        "vae",
        *data,
        "--likelihood",
        "bernoulli",
        "--latent-dim",
        2,
        "--hidden",
        8,
        "--epochs",
        1,
        "--quiet",
        "--out",
        run,
    )
    text = psiphi.call("evaluate", run, "--samples", 20).stdout
    assert "probability (nats)" in text
    assert "density (nats)" in text


def test_evaluate_says_why_there_is_no_likelihood(psiphi: Any, tmp_path: Path) -> None:
    words = ["train", "vae", "--likelihood", "bernoulli", "--hidden", 8, "--epochs", 1, "--quiet"]
    psiphi.call(*words, "--out", tmp_path / "run")
    assert "no density on grey values" in psiphi.call("evaluate", tmp_path / "run", "--samples", 5).stdout


def test_evaluate_a_classifier(psiphi: Any, runs: Path) -> None:
    found = psiphi.ask("evaluate", runs / "classifier")["accuracy"]
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert found["n"] == 359


def test_evaluate_notes_other_data(psiphi: Any, runs: Path) -> None:
    assert (
        "not what the model was trained on"
        in psiphi.call("evaluate", runs / "pca", "--data", "digits:seed=5").stderr
    )


def test_attack_with_and_without_a_purifier(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = [
        "attack",
        runs / "classifier",
        "--threat",
        "linf:0.2",
        "--steps",
        5,
        "--limit",
        40,
        "--with",
        runs / "vae",
    ]
    record = psiphi.ask(*words, "--out", tmp_path / "adv", "--quiet")
    assert record["attack"].startswith("pgd(Linf(0.2), steps=5")
    assert record["robust_accuracy"]["value"] <= record["clean_accuracy"]["value"]
    assert record["rows"] == record["purifier"]["white"]["n"] == 40
    for name in ("result.npz", "result.json", "summary.json", "attack.png"):
        assert (tmp_path / "adv" / name).stat().st_size > 0
    text = psiphi.call(*words, "--quiet").stdout
    assert "white-box" in text
    assert "proves nothing" in text


def test_attack_on_code_of_ones_own(psiphi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_code.py").write_text(
        "import torch\n"
        "def build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["attack", "own_code:build", "--data", "digits", "--attack", "fgsm", "--limit", 8, "--quiet"]
    assert psiphi.ask(*words)["rows"] == 8
    assert "--data" in psiphi.call("attack", "own_code:build", code=2).stderr


def test_models_and_attacks_are_listed(psiphi: Any) -> None:
    record = psiphi.ask("models")
    names = {each["name"]: each["verbs"] for each in record["models"]}
    assert "sample" in names["vae"]
    assert "sample" not in names["ae"]
    assert {"pgd", "fgsm"} <= {each["name"] for each in record["attacks"]}
    assert "vae" in psiphi.call("models").stdout


def test_data_is_described(psiphi: Any) -> None:
    assert psiphi.ask("data", "digits")["rows"] == {"train": 1258, "validation": 180, "test": 359}
    assert "10 (0: 178" in psiphi.call("data", "digits").stdout


def test_verify_runs_the_laws_asked_for(psiphi: Any) -> None:
    record = psiphi.ask("verify", "--only", "7a", "--quiet")
    assert record["holds"]
    assert [law["law"] for law in record["laws"]] == ["7a"]
    assert "holds" in psiphi.call("verify", "--only", "7a", "--quiet").stdout


def test_verify_fails_with_code_1(psiphi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from psiphi import laws

    broken = laws.Law("0", "one is two", lambda: [laws.Measured("one", 2.0, 1.0, 0.1)])
    crash = laws.Law("00", "nothing is over nothing", lambda: [laws.Measured("nothing", 0.0, 0 / 0, 0.1)])
    slow = laws.Law("000", "patience", list, slow=True)
    monkeypatch.setattr(laws, "LAWS", [broken, crash, slow])
    record = psiphi.ask("verify", "--quiet", code=1)
    assert [law["holds"] for law in record["laws"]] == [False, False]
    assert "ZeroDivisionError" in record["laws"][1]["failure"]
    assert record["skipped"] == ["000"]
    assert "000 patience" in psiphi.call("verify", "--quiet", code=1).stdout
