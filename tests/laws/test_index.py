"""The index of formulas: every public name, and the laws that execute it."""

from __future__ import annotations

from pathlib import Path

from psiphi.laws import LAWS, _index, _marks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formulas-index.md"
WRITE = "write it anew: psiphi verify --index docs/formulas-index.md"


def test_the_page_has_every_public_formula_and_no_other():
    assert list(_index.read(PAGE.read_text(encoding="utf-8"))) == [each.key for each in _index.formulas()], (
        WRITE
    )


def test_the_page_names_laws_that_there_are():
    listed = {number for laws in _index.read(PAGE.read_text(encoding="utf-8")).values() for number in laws}
    quick = {law.number for law in LAWS if not law.slow}
    assert listed == quick & listed, WRITE


def test_what_is_written_is_read():
    marks = {
        "7a": [_marks.Mark("bounds", 1, "log_weights")],
        "8": [_marks.Mark("bounds", 1, "ImportanceSums.of")],
    }
    found = _index.read(_index.page(marks))
    assert found["bounds.log_weights"] == ["7a"]
    assert found["bounds.ImportanceSums"] == ["8"]
    assert found["geometry.Box"] == []


def test_equations_and_sources_are_found():
    of = {each.key: each for each in _index.formulas()}
    assert "x ← Π(x + ε d + √(2 ε T) ξ)" in of["calculus.ascent_step"].says
    assert of["bounds.log_mean_exp"].source.endswith("eq. 8.")
