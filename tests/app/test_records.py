"""`psiphi repro --compare` and `psiphi verify --page`: what was measured, and the pages made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from psiphi import laws
from psiphi.app.cli import app
from psiphi.repro import RECIPES, _records

ROOT = Path(__file__).resolve().parents[2]
PAGE = "before\n<!-- records -->\nold\n<!-- /records -->\nafter\n"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A full record of hinton2006 that falls short in one of two lines; the manual's own records are out of sight."""
    found = [
        {"what": row.what, "measured": measured}
        for row, measured in zip(RECIPES["hinton2006"].rows, (13.87, 3.5), strict=True)
    ]
    told = {
        "recipe": "hinton2006",
        "passes": False,
        "date": "2026-01-02",
        "cpu_seconds": 600.0,
        "found": found,
    }
    path = tmp_path / "hinton2006-full.json"
    path.write_text(json.dumps(told))
    monkeypatch.setattr(_records, "KEPT", tmp_path / "none")
    return path


def test_published_stands_beside_ours(psiphi: Any, record: Path) -> None:
    lines = psiphi.ask("repro", "hinton2006", "--compare", "--out", record.parent)["lines"]
    assert [line["published"] for line in lines] == [13.87, 3.0]
    assert [line["full"] for line in lines] == [13.87, 3.5]
    assert [line["quick"] for line in lines] == [None, None]
    text = psiphi.call("repro", "hinton2006", "--compare", "--out", record.parent).stdout
    assert "3.5, short" in text
    assert "13.87, short" not in text
    assert "no record" in text


def test_the_list_says_which_records_there_are(psiphi: Any, record: Path) -> None:
    listed = {
        each["name"]: each["records"] for each in psiphi.ask("repro", "--out", record.parent)["recipes"]
    }
    assert listed.pop("hinton2006") == {"full": "short, 2026-01-02"}
    assert not any(listed.values())


def test_the_table_goes_between_the_marks(psiphi: Any, record: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for _ in range(2):  # the second time changes nothing
        psiphi.call("repro", "--compare", "--out", record.parent, "--page", page)
        text = page.read_text()
        assert text.startswith("before\n<!-- records -->\n")
        assert text.endswith("<!-- /records -->\nafter\n")
        assert "old" not in text
        assert text.count("3.5, short | [full](results/hinton2006-full.json)") == 0
        assert text.count("| 3.5, short |") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--page", "page.md"), "give both"),
        (("--compare", "--page", "none.md"), "there is no page"),
    ],
)
def test_a_page_that_cannot_be_made_is_a_sentence(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["repro", *words])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_record_of_something_else_is_refused(record: Path) -> None:
    record.write_text(json.dumps({"recipe": "m2"}))
    result = CliRunner().invoke(app, ["repro", "--compare", "--out", str(record.parent)])
    assert result.exit_code == 2
    assert "is a record of m2" in " ".join(result.stderr.split())


def test_the_manual_has_the_records_that_it_shows() -> None:
    """Each kept record is read, and its judged numbers stand in the table of docs/results.md."""
    kept = _records.records(RECIPES.values(), ROOT / "docs" / "results")
    assert len(kept) >= 7
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    shown = text.split("<!-- records -->")[1].split("<!-- /records -->")[0]
    assert shown.strip().splitlines() == _records.table(RECIPES.values(), kept)


def test_the_laws_as_a_page(psiphi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = [laws.Measured("near", 1.0, 1.01, 0.1), laws.Measured("a | nearer", 2.0, 2.09, 0.1)]
    good = laws.Law("1", "one is one", lambda: measured)
    bad = laws.Law("2", "two is three", lambda: [laws.at_most("three", 2.0, 3.0)])
    slow = laws.Law("3a", "patience", list, slow=True)
    monkeypatch.setattr(laws, "LAWS", [good, bad, slow])
    psiphi.call("verify", "--quiet", "--page", tmp_path / "page.md", code=1)
    text = (tmp_path / "page.md").read_text()
    assert "**1 of 2 laws hold**: 3 measurements" in text
    assert "| 1 | one is one | 2 | a \\| nearer | = 2 | 2.09 | 0.1 |" in text
    assert "**FAILS** two is three" in text
    assert "| 3a | patience |" in text.split("## Not run")[1]
    assert text.count("| near | = 1 | 1.01 | 0.1 |") == 1
