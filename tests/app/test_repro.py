"""`psiphi repro`: the list, a run, its record, and what is said when it cannot run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from psiphi import repro as package
from psiphi.app.cli import app
from psiphi.repro import Job, Recipe, Row


@dataclass(frozen=True)
class Setting:
    error: float


def measure(setting: Setting, job: Job) -> dict[str, float]:
    job.log(f"seed {job.seed}")
    return {"error": setting.error}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe on embedded data whose quick setting passes and whose full one falls short."""
    recipe = Recipe(
        "toy", "A title, 2006.", "A toy.", (Row("error", 3.0, quick=4.5, full=3.0),), Setting(4.0), Setting(3.5),
        measure, differs="everything",
    )  # fmt: skip
    monkeypatch.setitem(package.RECIPES, "toy", recipe)


def failing(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def test_help_has_an_example(psiphi: Any) -> None:
    text = psiphi.call("repro", "--help").stdout
    assert "Example" in text
    assert "psiphi repro" in text


def test_without_a_name_the_recipes_are_listed(psiphi: Any) -> None:
    listed = {each["name"]: each for each in psiphi.ask("repro")["recipes"]}
    assert set(listed) == set(package.RECIPES)
    assert listed["hinton2006"]["needs"] == "mnist"
    text = psiphi.call("repro").stdout
    assert all(name in text for name in package.RECIPES)


def test_a_run_writes_its_record_and_a_line_for_the_manual(psiphi: Any, toy: None, tmp_path: Path) -> None:
    done = psiphi.call("repro", "toy", "--quick", "--seed", 5, "--out", tmp_path)
    assert "pass" in done.stdout
    assert "| toy | error | 3 | 4 | 4.5 | quick" in done.stdout
    assert "seed 5" in done.stderr
    record = json.loads((tmp_path / "toy-quick.json").read_text())
    assert record["passes"] is True
    assert record["found"][0]["measured"] == 4.0
    assert record["setting"] == {"error": 4.0}
    assert {"versions", "machine", "date", "seed"} <= set(record)
    assert record["results"][0] in done.stdout


def test_falling_short_is_exit_code_1(psiphi: Any, toy: None, tmp_path: Path) -> None:
    assert "short" in psiphi.call("repro", "toy", "--out", tmp_path, "--quiet", code=1).stdout
    record = psiphi.ask("repro", "toy", "--out", tmp_path, "--quiet", code=1)
    assert record["passes"] is False
    assert (tmp_path / "toy-full.json").exists()


def test_bad_input_is_a_sentence(toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PSIPHI_DATA", raising=False)
    assert "no recipe is called 'hinton'; did you mean hinton2006?" in failing("repro", "hinton")
    assert "PSIPHI_DATA" in failing("repro", "hinton2006", "--quick")
    assert "holds neither" in failing("repro", "hinton2006", "--quick", "--data", tmp_path)
    (tmp_path / "file").write_text("")
    assert "file" in failing("repro", "toy", "--quick", "--out", tmp_path / "file")
