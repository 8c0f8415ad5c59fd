"""Every example runs from a fresh folder on small settings, without the shared data, and says what is true."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import psiphi as pp

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
Run = dict[str, Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A script's names after `python examples/NAME.py --quick` in an empty folder, and what it printed as `said`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setenv("PSIPHI_DATA", str(tmp_path / "none"))

    def ran(name: str, *words: str) -> Run:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words, "--quick"])
        names = runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        return names | {"said": capsys.readouterr().out}

    return ran


def picture(path: str) -> np.ndarray:
    """The grey levels of a picture that a script wrote; it is not blank."""
    with Image.open(path) as page:
        grey = np.asarray(page.convert("L"))
    assert grey.std() > 10
    return grey


def percent(said: str, line: str) -> list[float]:
    """The percentages of the first line that begins so."""
    found = next(each for each in said.splitlines() if each.startswith(line))
    return [float(each) for each in re.findall(r"([\d.]+) ?%", found)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_short_and_told(name: str) -> None:
    text = (ROOT / "examples" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 80
    told = ast.get_docstring(ast.parse(text)) or ""
    assert f"python examples/{name}.py" in told
    assert f"{name}.py" in (ROOT / "docs" / "uses" / "examples.md").read_text()
    assert f"def test_{name}(" in Path(__file__).read_text() or name == "resnet50"  # it has a file of its own


def test_own_pictures(run: Any, tmp_path: Path) -> None:
    done = run("own_pictures")
    written = sorted(Path("runs/own_pictures/digits").glob("*/*.png"))
    assert len(written) == 1258
    assert done["pictures"].classes == list("0123456789")
    for name in ("pictures", "drawn", "strangest"):
        picture(f"runs/own_pictures/{name}.png")
    score, order = done["vae"].anomaly_score(done["x"]), done["strange"]
    assert score[order[0]] == score.max()
    assert done["found"].odd == len(done["x"])


def test_own_pictures_of_another_folder(run: Any, tmp_path: Path) -> None:
    for i, level in enumerate(np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)):
        Image.fromarray(level).save(tmp_path / f"{i}.png")
    done = run("own_pictures", str(tmp_path))
    assert done["vae"].shape == (3, 6, 5)
    assert not Path("runs/own_pictures/digits").exists()


def test_own_classifier(run: Any) -> None:
    done = run("own_classifier")
    report = done["report"]
    assert report.clean_accuracy > 0.8
    assert report.headline.value < report.clean_accuracy - 0.1
    assert report.headline.value <= min(result.accuracy for result in report.attacks.values())
    assert not done["network"].training
    again = pp.evaluation.Robustness.load("runs/own_classifier")
    assert again.headline == report.headline
    assert f"{report.headline.value:.1%}" in done["said"]


def test_own_table(run: Any) -> None:
    pytest.importorskip("pandas")
    done = run("own_table")
    assert Path("runs/own_table.csv").read_text().startswith("mean radius,")
    assert done["filled"].isnan().sum() == 0
    assert done["error"](done["filled"]) < 0.9 * done["error"](done["centre"])
    assert np.isin(done["first"], done["rows"]).mean() > 0.5  # a fifth by chance
    assert done["told"] > len(done["rows"]) / 2


def test_faces(run: Any) -> None:
    said = run("faces")["said"]
    assert "digits and their classes serve instead" in said
    for kind in ("eigenfaces", "autoencoder", "denoising autoencoder", "variational autoencoder"):
        assert percent(said, f"{kind}, 16")[0] > 30  # a tenth by chance


def test_anomalies(run: Any) -> None:
    said = run("anomalies")["said"]
    assert "malignant among benign tumours serve instead" in said
    scores = [float(each) for each in re.findall(r"([\d.]+) ±", said)]
    assert len(scores) == 3
    assert min(scores) > 70  # a half by chance


def test_words(run: Any) -> None:
    done = run("words")
    assert len(done["a"]) == 50
    total = done["first"] + done["second"]
    assert (total != done["test"]).nnz == 0  # no word is lost or counted twice
    assert percent(done["said"], "tf-idf")[0] > 50
    assert done["nearest"]("bessel", done["lsa"].components_.T, done["words"])


def test_denoising(run: Any) -> None:
    said = run("denoising")["said"]
    assert [line.split()[0] for line in said.splitlines() if " dB" in line] == [
        "gaussian:0.2",
        "salt_and_pepper:0.3",
    ]
    noisy, *better = (float(each) for each in re.findall(r"([\d.]+) dB", said)[:4])
    assert max(better) > noisy
    picture("runs/denoising.png")


def test_inpainting(run: Any) -> None:
    done = run("inpainting")
    x, where = done["x"], done["where"]
    for guess in done["filled"].values():
        assert ((guess == x) | ~where).all()  # what is seen stays
    gone = (done["filled"]["mixture, mean (exact)"] - x).square().sum()
    assert gone < (done["filled"]["mean of the pixel"] - x).square().sum()
    picture("runs/inpainting.png")


def test_custom_attack(run: Any) -> None:
    done = run("custom_attack")
    mine, x, y = done["mine"], done["x"], done["y"]
    found = mine(done["oracle"], x, y)
    assert found.accuracy < found.clean_accuracy
    assert (found.x - x).abs().max() <= 0.2 + 1e-6
    assert found.backwards.sum() == 0
    assert (found.forwards <= done["queries"] + 2).all()
    parts = [mine(done["oracle"], x[i : i + 8], y[i : i + 8], rows=range(i, i + 8)) for i in range(0, 16, 8)]
    assert (pp.attacks.Result.cat(parts).success == found.success).all()  # rows are independent


def test_poisoning(run: Any) -> None:
    done = run("poisoning")
    assert len(done["tainted"].rows) == 25
    trial = done["found"].lines[0]
    assert trial.success > trial.control + 0.05
    assert trial.filtered_success < trial.success
    picture("runs/poisoning.png")


def test_smoothing(run: Any) -> None:
    said = run("smoothing")["said"]
    rows = [line for line in said.splitlines() if re.match(r".{24} +0\.(25|5) ", line)]
    assert len(rows) == 6
    for line in rows:
        certified, _, _, left, _, _ = (float(each) for each in re.findall(r"([\d.]+)%", line))
        assert certified <= left  # what is proved is never more than what an attack leaves


def test_the_manual_says_what_it_runs() -> None:
    """Every script that the examples' page names is there."""
    named = set(re.findall(r"`(\w+)\.py`", (ROOT / "docs" / "uses" / "examples.md").read_text()))
    assert named == set(SCRIPTS)
