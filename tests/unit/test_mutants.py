"""The mutation check itself: what is changed, what is left alone, and that every importer sees a change."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mutants import page, running
from mutants.making import mutants, mutated
from psiphi.laws import Law, Measured, equal
from psiphi.laws._marks import FOLDER, Mark

SOURCE = '''
"""A file with 1 + 1 in its docstring."""
LIMIT: int = 3

def f(x: Float[Tensor, "1"], k: float = 0.5):
    """x + 1."""
    if x < 0:
        raise ValueError(f"{x + 1}")
    a = -x[1] * max(k, 2)
    return a.sum(dim=-1, keepdim=True) if a >= 0 and k == 0 else a.clamp(min=0)

class C:
    n: int = 1

g = lambda s: s - 1
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_every_kind_of_change_is_made(file: Path):
    found = [(each.where, each.kind, each.part) for each in mutants(file)]
    expected = {
        ("source", "3 to 4", "module"),
        ("source.f", "0.5 to 0.25", "default"),
        ("source.f", "minus dropped", "body"),
        ("source.f", "* to /", "body"),
        ("source.f", "index -1", "body"),
        ("source.f", "index +1", "body"),
        ("source.f", "max to min", "body"),
        ("source.f", "2 to 3", "body"),
        ("source.f", "1 to 0", "body"),
        ("source.f", "True to False", "body"),
        ("source.f", ">= to >", "body"),
        ("source.f", ">= to <=", "body"),
        ("source.f", "and to or", "body"),
        ("source.f", "== to !=", "body"),
        ("source.f", "min= to max=", "body"),
        ("source.C", "1 to 0", "class"),
        ("source.<lambda>", "- to +", "body"),
        ("source.<lambda>", "1 to 0", "body"),
    }
    assert expected <= set(found)


def test_sentences_and_checks_are_left_alone(file: Path):
    lines = {each.at[0] for each in mutants(file)}
    docstrings, annotation_and_default, check, message = {2, 6}, 5, 7, 8
    assert not lines & {*docstrings, check, message}
    assert [each.kind for each in mutants(file) if each.at[0] == annotation_and_default] == ["0.5 to 0.25"]


def test_each_mutant_is_one_change_with_a_name_of_its_own():
    path = FOLDER / "levels.py"
    found = mutants(path)
    assert len(found) > 50
    assert len({each.id for each in found}) == len(found)
    texts = {compile_text(path, each.number) for each in found}
    assert len(texts) == len(found)
    assert path.read_text(encoding="utf-8") not in texts


def compile_text(path: Path, number: int) -> str:
    import ast

    tree = mutated(path, number)
    compile(tree, str(path), "exec")
    return ast.unparse(tree)


# In a process of its own, since a mutant is for good.
SEEN = """
import torch
from pathlib import Path
from psiphi.evaluation import _likelihood
from psiphi.formulas import distributions, geometry, mixtures
from psiphi.formulas.geometry import Box, l1_norm
from psiphi.laws._marks import FOLDER
from mutants.making import mutants
from mutants.patching import put

def one(file, where, kind):
    return next(m for m in mutants(FOLDER / f"{file}.py") if m.where == where and m.kind == kind)

x = torch.tensor([[1.0, -2.0]])
assert float(l1_norm(x)) == 3
put(one("geometry", "geometry.l1_norm", "minus added"), FOLDER / "geometry.py")
assert float(l1_norm(x)) == -3
assert Box().hi == 1
put(one("geometry", "geometry.Box", "1 to 0"), FOLDER / "geometry.py")
assert Box().hi == 0
before = mixtures.LOG_2PI
put(one("distributions", "distributions", "2 to 3"), FOLDER / "distributions.py")
assert mixtures.LOG_2PI == distributions.LOG_2PI != before
"""


def test_every_importer_sees_a_mutant():
    here = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", SEEN], check=True, cwd=here.parent, env={"PYTHONPATH": str(here)})


def _trial(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[], list[Measured]], put: Callable[..., None]
) -> dict:
    """What becomes of a mutant of `levels.falling` that one law is asked about."""
    mutant = next(each for each in mutants(FOLDER / "levels.py") if each.owner == "falling")
    monkeypatch.setattr(running, "put", put)
    monkeypatch.setattr(running, "_GRACE", 0.2)
    monkeypatch.setattr(running, "_SLOWED", 20)
    asked = running.Asked(
        Law("0", "a law", run), 0.0, frozenset({Mark("levels", mutant.line, "falling")}), ""
    )
    try:
        ((_, outcome),) = running.trials([mutant], [asked], 1)
    finally:
        gc.unfreeze()
    return outcome


def test_a_law_that_fails_or_never_ends_kills(monkeypatch: pytest.MonkeyPatch):
    def never() -> list[Measured]:
        while True:
            pass

    changed = lambda *_: None  # noqa: E731
    assert _trial(monkeypatch, lambda: [equal("x", 0, 1)], changed)["killed"] == "0"
    assert _trial(monkeypatch, lambda: [equal("x", 1, 1)], changed)["killed"] is None
    assert _trial(monkeypatch, never, changed)["killed"] == "0"


def test_what_ends_before_a_law_begins_kills_nothing(monkeypatch: pytest.MonkeyPatch):
    outcome = _trial(monkeypatch, lambda: [equal("x", 0, 1)], lambda *_: os._exit(1))
    assert outcome["killed"] is None


def test_every_reason_is_of_a_mutant_that_exists():
    found = [each for path in FOLDER.glob("*.py") for each in mutants(path)]
    for known in page.reasons():
        assert any(page.reason(each, [known]) for each in found), known


def test_the_page_counts_and_gives_reasons(file: Path):
    found = mutants(file)
    tried = [(each, {"killed": None if i < 2 else "1", "laws": i}) for i, each in enumerate(found)]
    text = page.text(tried, len(found), "all", 60.0, 2)
    assert f"{len(found) - 2} of {len(found)} mutants are killed" in text
    assert f"| source | {len(found)} | {len(found) - 2} |" in text
    assert text.count("no reason yet") == 2
    assert text.count("no law executes it") == 1
