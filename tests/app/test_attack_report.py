"""`psiphi attack --report`: one page with the lowest number, the verdicts behind it and what to do next."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from psiphi.evaluation import Robustness

FEW = ("--data", "digits", "--limit", 24, "--steps", 5, "--quiet")


class Page(HTMLParser):
    """Tags, texts and what is loaded."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.alts: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.loaded += [found[k] for k in ("src", "href") if found.get(k)]  # pyright: ignore
        self.alts += [found.get("alt")] if tag == "img" else []


@pytest.fixture(scope="module")
def report(psiphi: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    to = tmp_path_factory.mktemp("report")
    words = (
        "attack",
        runs / "classifier",
        "--threat",
        "linf:0.15",
        "--eps",
        "0.05,0.15",
        "--report",
        "--out",
        to,
    )
    return to, psiphi.ask(*words, *FEW)


def test_the_page_is_whole_and_says_what_was_measured(report):
    folder, found = report
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert {"attacks", "gallery", "trust", "next"} <= set(page.ids)
    assert all(each.startswith(("data:", "#")) for each in page.loaded)
    assert page.alts
    assert all(page.alts)
    assert f"{found['headline']['value']:.1%} stand" in text
    (threat,) = found["honesty"]
    for verdict in found["honesty"][threat]["verdicts"]:
        assert verdict["name"].split(" ")[0] in text
    assert len(re.findall(r">(?:OK|WARN|FAIL|SKIP)</span>", text)) == len(
        found["honesty"][threat]["verdicts"]
    )
    assert str(folder / "report.html") in found["files"]


def test_its_numbers_are_those_of_the_record(report):
    folder, found = report
    judged = Robustness.load(folder / "robustness")
    assert judged.headline.value == pytest.approx(found["headline"]["value"])
    result = judged.attacks["pgd"]
    assert int(result.robust.sum()) == found["robust_accuracy"]["hits"]
    (curve,) = judged.curves.values()
    assert torch.equal(curve.accuracy, torch.tensor(found["curve"]["accuracy"], dtype=curve.accuracy.dtype))
    assert judged.headline.value <= found["robust_accuracy"]["value"]
    assert json.loads((folder / "summary.json").read_text())["headline"] == found["headline"]


def test_people_get_the_verdicts_too(psiphi, runs, tmp_path):
    words = ("attack", runs / "classifier", "--threat", "linf:0.05", "--report", "--out", tmp_path / "seen")
    said = psiphi.call(*words, *FEW).stdout
    assert "Lowest number:" in said
    assert "checks failed" in said or "Not to be trusted" in said


@pytest.mark.parametrize("extra", [(), ("--out", "x", "--shard", "1/2"), ("--out", "x", "--target", "3")])
def test_it_is_of_the_whole_run_and_needs_a_folder(psiphi, runs, extra):
    said = psiphi.call("attack", runs / "classifier", "--report", *FEW, *extra, code=2).stderr
    assert "--report writes a page about all rows" in said
