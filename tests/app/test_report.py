"""The report: one whole file that any browser, and any reader of a screen, can make sense of."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use", "rect", "circle"}
SECTIONS = (
    "data",
    "codes",
    "training",
    "samples",
    "map",
    "judged",
    "modes",
    "downhill",
    "attack",
    "laws",
    "time",
    "again",
)


class Page(HTMLParser):
    """Tags with their attributes; `open` is empty at the end if every tag was closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}> (line {self.getpos()[0]})"
            self.open.pop()


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    from psiphi.app.tour import Settings, run

    tiny = Settings(
        epochs=2, classifier_epochs=3, hidden=16, latent_dim=3, draws=10, generated=100, rows=120, steps=4,
        radii=(0.0, 0.2), laws=False, quick=True, ring_steps=5,
        denoiser_steps=5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tour")
    said: list[str] = []
    record = run(folder, tiny, seed=1, say=said.append)
    assert any("Attacking" in sentence for sentence in said)
    return folder, record


@pytest.fixture(scope="module")
def text(tour: tuple[Path, dict[str, Any]]) -> str:
    return (tour[0] / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed(text: str) -> None:
    page = Page(text)
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(SECTIONS) <= set(ids)
    for tag, attrs in page.tags:
        target = attrs.get("href") or ""
        if tag in ("a", "use") and target.startswith("#"):
            assert target[1:] in ids, target


def test_the_page_is_whole_and_small(text: str) -> None:
    assert len(text.encode()) < 3_000_000
    for _, attrs in Page(text).tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), attrs
    assert not re.search(r"url\(\s*['\"]?\s*(?!#|['\"]?data:)", text)
    assert "@import" not in text


def test_pictures_have_words(text: str) -> None:
    tags = Page(text).tags
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")
    charts = [attrs for tag, attrs in tags if tag == "svg"]
    assert len(charts) == 11
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in charts)


def test_charts_take_the_colours_of_the_page(text: str) -> None:
    chart = text[text.index('<svg viewBox="0 0') :]
    assert "currentColor" in chart
    assert "var(--vae)" in chart
    assert "#0102" not in text


def test_headings_go_down_one_at_a_time(text: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(text).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_numbers_of_the_page_are_those_of_the_record(text: str, tour: tuple[Path, dict[str, Any]]) -> None:
    white = tour[1]["attack"]["purified_white"]
    assert f"{white['hits']} of {white['n']}" in text
    assert "proves nothing" in text


def test_runs_and_pictures_lie_beside_it(tour: tuple[Path, dict[str, Any]], psiphi: Any) -> None:
    folder, record = tour
    assert {each.name for each in (folder / "runs").iterdir() if each.is_dir()} == {
        "pca",
        "ae",
        "vae",
        "classifier",
    }
    assert (folder / "pictures" / "latent-map.png").stat().st_size > 1000
    found = psiphi.ask("evaluate", folder / "runs" / "pca", "--limit", 120)
    assert found["models"][0]["reconstruction"] == pytest.approx(record["models"][0]["reconstruction"])


def test_the_same_seed_draws_the_same_charts(tour: tuple[Path, dict[str, Any]]) -> None:
    from psiphi.app import plots

    draw = plots.curves([("a", [0, 1], [1.0, 0.5], "vae", False)], "x", "y")
    assert plots.svg(draw, "n", "words") == plots.svg(draw, "n", "words")


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_phone_needs_no_sideways_scrolling(text: str, tmp_path: Path) -> None:
    """The page in a frame of 360 pixels tells its parent how wide it is; a window cannot be made that narrow."""
    probe = (
        "<script>parent.postMessage(innerWidth + ' ' + document.documentElement.scrollWidth, '*')</script>"
    )
    (tmp_path / "page.html").write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    frame = "<script>onmessage = e => document.title = e.data</script>"
    frame += '<iframe src="page.html" width="360" height="800" style="border:0"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html>{frame}")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--hide-scrollbars",
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    address = (tmp_path / "frame.html").as_uri()
    dom = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<title>(\d+) (\d+)</title>", dom)
    assert found, dom[:500]
    assert int(found[1]) == 360
    assert int(found[2]) <= 360
