"""The report: one whole file that any browser, and any reader of a screen, can make sense of."""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from tests.helpers import manual
from tests.helpers.pages import Page, Redo, browser, redone, seen
from typer.testing import CliRunner

from psiphi.app.cli import app
from psiphi.app.tour import _attacks, _defences, report

TOO_LONG = {"laws"}  # lines that run every law
ATTACKS = replace(
    _attacks.QUICK,
    steps=3,
    queries=8,
    budget=20,
    angles=3,
    learnt=40,
    trials=2,
    epochs=1,
    radii=(0.1, 0.3),
)
DEFENCES = replace(
    _defences.QUICK, purifiers=_defences.QUICK.purifiers[:1], steps=2, search_steps=2, queries=8, epochs=1,
    fresh_rows=4, noisy_epochs=1, votes=40,
)  # fmt: skip
COMMANDS: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    from psiphi.app.tour import Settings, run

    tiny = Settings(
        shortened={"epochs": 2, "steps": 5, "hidden": (16,)},
        classifier={"hidden": (16,), "epochs": 3},
        draws=10,
        generated=100,
        rows=80,
        attacks=ATTACKS,
        defences=DEFENCES,
        laws=False,
        quick=True,
    )
    folder = tmp_path_factory.mktemp("tour")
    said: list[str] = []
    record = run(folder, tiny, seed=1, say=said.append)
    assert any("diffusion" in sentence for sentence in said)
    return folder, record


@pytest.fixture(scope="module")
def text(tour: tuple[Path, dict[str, Any]]) -> str:
    return (tour[0] / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed(text: str) -> None:
    page = Page(text)
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {name for name, _ in report.SECTIONS} <= set(ids)
    for tag, attrs in page.tags:
        target = attrs.get("href") or ""
        if tag in ("a", "use") and target.startswith("#"):
            assert target[1:] in ids, target


def test_the_page_is_whole_and_small(text: str) -> None:
    assert len(text.encode()) < 8_000_000
    for _, attrs in Page(text).tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), attrs
    assert not re.search(r"url\(\s*['\"]?\s*(?!#|['\"]?data:)", text)
    assert "@import" not in text


def test_pictures_have_words(text: str) -> None:
    tags = Page(text).tags
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")
    charts = [attrs for tag, attrs in tags if tag == "svg"]
    assert len(charts) >= 11
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
    models = tour[1]["models"]
    assert [each["model"] for each in models] == [
        "pca", "ae", "k_sparse", "contractive", "vae", "aae", "wgan_gp", "denoising", "diffusion",
    ]  # fmt: skip
    rows = text[text.index('class="sortable pinned"') :]

    listed = html.unescape(re.sub("</?code>", "`", text[text.index('class="whys"') :]))
    for each in models:
        for what, value in (
            ("reconstruction", "squared_error"),
            ("frechet", "value"),
            ("likelihood", "mean"),
        ):
            if each[what] is not None:
                assert f'data-v="{each[what][value]}"' in rows
            else:
                assert each["why"]["drawn" if what == "frechet" else what] in listed


def test_two_measures_of_likelihood_never_share_a_column(
    text: str, tour: tuple[Path, dict[str, Any]]
) -> None:
    measures = {
        each["model"]: each["likelihood"]["measure"] for each in tour[1]["models"] if each["likelihood"]
    }
    assert measures == {"pca": "continuous", "vae": "continuous", "diffusion": "smoothed"}
    head = text[text.index('class="sortable pinned"') :]
    head = head[: head.index("</thead>")]
    assert head.count("ln density (nats)") == 1
    assert head.count("ln density blurred by the least noise (nats)") == 1


def test_claims_follow_from_what_was_measured(tour: tuple[Path, dict[str, Any]], text: str) -> None:
    found = {each["model"]: each for each in tour[1]["models"]}
    drawn = {name: each["frechet"]["value"] for name, each in found.items() if each["frechet"]}
    titles = {
        "pca": "PCA",
        "vae": "VAE",
        "aae": "Adversarial",
        "wgan_gp": "WGAN-GP",
        "denoising": "Denoising",
    }
    best = min(drawn, key=lambda name: drawn[name])
    worst = max(drawn, key=lambda name: drawn[name])
    for name, said in (
        (best, "nearest to the test digits are the samples of"),
        (worst, "farthest are those of"),
    ):
        assert f"{said} {titles.get(name, 'Diffusion')}" in text


def test_runs_and_pictures_lie_beside_it(tour: tuple[Path, dict[str, Any]], psiphi: Any) -> None:
    folder, record = tour
    kept = {each.name for each in (folder / "runs").iterdir() if each.is_dir()}
    assert kept >= {each["model"] for each in record["models"]} | {"classifier", "plane", "hard", "noisy"}
    for name in ("hero", "modes", "field", "flow", "plane", "latent-map-vae", "samples-diffusion"):
        assert (folder / "pictures" / f"{name}.png").stat().st_size > 1000
    found = psiphi.ask("evaluate", folder / "runs" / "pca", "--limit", 80)
    assert found["models"][0]["reconstruction"] == pytest.approx(record["models"][0]["reconstruction"])


def test_the_map_decodes_what_its_vae_decodes(text: str, tour: tuple[Path, dict[str, Any]]) -> None:
    from psiphi import models

    told = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)[0])
    plane, classifier = (models.load(tour[0] / "runs" / name) for name in ("plane", "classifier"))
    n, k = told["n"], 7 * told["n"] + 30  # row 7 from the top, column 30
    step = (told["high"] - told["low"]) / (n - 1)
    z = torch.tensor([[told["low"] + 30 * step, told["high"] - 7 * step]])
    answer = classifier(plane.decode(z)).softmax(1).detach()
    assert int(answer.argmax()) == told["labels"][k]
    assert abs(100 * float(answer.max()) - told["sure"][k]) <= 0.51


def test_the_same_seed_draws_the_same_charts() -> None:
    from psiphi.app import plots

    draw = plots.curves([("a", [0, 1], [1.0, 0.5], "vae", False)], "x", "y")
    assert plots.svg(draw, "n", "words") == plots.svg(draw, "n", "words")


def test_laws_of_another_process_are_those_of_this_one(psiphi: Any, tmp_path: Path) -> None:
    """What `psiphi verify --json` writes is read back whole; where it wrote nothing, a sentence says what to do."""
    from psiphi.app.tour._laws import Measuring
    from psiphi.basis.errors import PsiphiError
    from psiphi.laws import LAWS

    ended: Any = SimpleNamespace(wait=lambda: 1, returncode=1)
    told = psiphi.ask("verify", "--only", "3")
    (tmp_path / "laws.json").write_text(json.dumps(told))
    (outcome,), skipped = Measuring(ended, tmp_path / "laws.json").outcomes()
    law = next(each for each in LAWS if each.number == "3")
    assert (outcome.number, outcome.title, outcome.holds, skipped) == ("3", law.title, True, [])
    assert outcome.measured == tuple(law.run())
    (tmp_path / "none.json").write_text("")
    with pytest.raises(PsiphiError, match=r"exit code 1.*psiphi verify"):
        Measuring(ended, tmp_path / "none.json").outcomes()


# ------------------------------------------------------------------------------------------ do this again
def test_every_chapter_says_how_to_do_it_again(text: str) -> None:
    told = redone(text)
    commanded = {each.section for each in told if each.commands}
    assert {name for name, _ in report.SECTIONS} - commanded <= {"time", "again"}
    for each in told:
        compile(each.python, each.section, "exec")
        for words in each.commands:
            COMMANDS.commands[words[0]].make_context(words[0], list(words[1:]))


def test_the_python_lines_of_the_page_run(
    text: str, tour: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(tour[0] / "runs", tmp_path / "runs")  # the lines may take those of the tour
    told = [each for each in redone(text) if each.section not in TOO_LONG]
    with manual.small(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        namespace: dict[str, Any] = {}
        for each in told:
            exec(compile(each.python, f"the lines of {each.section}", "exec"), namespace)


def test_the_commands_of_the_page_run(text: str, tmp_path: Path) -> None:
    with manual.small(tmp_path):
        for each in redone(text):
            for words in each.commands if each.section not in TOO_LONG else ():
                _run(each, words)


def _run(each: Redo, words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{each.section}: psiphi {' '.join(words)}\n{result.output}"


def test_the_lines_of_a_model_make_the_run_of_the_tour(
    tour: tuple[Path, dict[str, Any]], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the page and its Python lines give the very weights that the tour saved."""
    import psiphi as pp

    monkeypatch.chdir(tmp_path)
    told = next(each for each in redone(text) if each.section == "models")
    words = next(words for words in told.commands if words[1] == "vae")
    _run(told, [*words, "--quiet"])
    lines = [line for line in told.python.splitlines() if line.startswith(("vae =", "pp.fit(vae,"))]
    namespace: dict[str, Any] = {"pp": pp, "digits": pp.data.load("digits")}
    exec("\n".join(lines), namespace)
    kept = pp.load(tour[0] / "runs" / "vae").state_dict()
    for other in (pp.load("runs/vae"), namespace["vae"]):
        for name, value in other.state_dict().items():
            torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


# ------------------------------------------------------------------------------------------ in a browser
@browser
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_its_window_without_an_error(text: str, tmp_path: Path, width: int, dark: bool) -> None:
    """The page in a frame tells its parent how wide it is; a window cannot be made as narrow as a phone."""
    script = "var root = document.documentElement, ink = getComputedStyle(document.body).color;"
    script += "tell(innerWidth + ' ' + root.scrollWidth + ' ' + ink)"
    inner, needed, *colour = seen(tmp_path, text, script, width=width, dark=dark).split(" ", 2)
    assert int(inner) == width
    assert int(needed) <= width
    red = int(re.findall(r"\d+", colour[0])[0])
    assert (red > 128) is dark  # light ink on dark paper


@browser
def test_tables_are_sorted_by_their_heads(text: str, tmp_path: Path) -> None:
    script = """
    var table = document.querySelector("table.pinned"), column = 2, told = [];
    function values() {
      return [].map.call(table.tBodies[0].rows, function (row) { return row.cells[column].getAttribute("data-v"); });
    }
    var button = table.tHead.rows[0].cells[column].querySelector("button");
    told.push(values());
    for (var i = 0; i < 3; i++) {
      button.focus();
      button.click();
      told.push([table.tHead.rows[0].cells[column].getAttribute("aria-sort"), values()]);
    }
    tell(JSON.stringify(told));
    """
    before, up, down, again = json.loads(seen(tmp_path, text, script))
    numbers = sorted(float(value) for value in before if value)
    empty = [""] * (len(before) - len(numbers))
    assert (up[0], down[0], again[0]) == ("ascending", "descending", None)
    assert [float(value) for value in up[1] if value] == numbers
    assert [float(value) for value in down[1] if value] == numbers[::-1]
    assert up[1][len(numbers) :] == down[1][len(numbers) :] == empty
    assert again[1] == before


@browser
def test_the_map_is_moved_by_its_sliders_and_by_hand(text: str, tmp_path: Path) -> None:
    script = """
    var pad = document.querySelector(".pad"), sliders = pad.querySelectorAll("input"), told = [pad.hidden];
    function state() { return [sliders[0].value, sliders[1].value, pad.querySelector("output").textContent,
      pad.querySelector(".decoded").style.backgroundPosition]; }
    sliders[0].value = 30; sliders[0].dispatchEvent(new Event("input"));
    sliders[1].value = 33; sliders[1].dispatchEvent(new Event("input"));
    told.push(state());
    var map = pad.querySelector("svg"), box = map.getBoundingClientRect();
    map.setPointerCapture = function () {};
    var at = { clientX: box.left + 0.25 * box.width, clientY: box.top + 0.1 * box.height, pointerId: 1 };
    map.dispatchEvent(new PointerEvent("pointerdown", at));
    told.push(state());
    tell(JSON.stringify(told));
    """
    told = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)[0])
    hidden, slid, dragged = json.loads(seen(tmp_path, text, script))
    assert not hidden
    assert slid[:2] == ["30", "33"]
    k = (told["n"] - 1 - 33) * told["n"] + 30
    assert (
        slid[2]
        == f"z₁ = 1.50, z₂ = 1.95: read as {told['names'][told['labels'][k]]}, {told['sure'][k]}% sure"
    )
    assert slid[3] == "75% 17.5%"
    assert dragged[:2] == ["10", "36"]


@browser
def test_without_a_script_all_is_there_to_read(text: str) -> None:
    """What needs a script is hidden until one runs; the rest is in the page itself."""
    page = Page(text)
    pad = next(attrs for tag, attrs in page.tags if tag == "div" and attrs.get("class") == "pad")
    assert "hidden" in pad
    assert not any(tag == "button" for tag, _ in page.tags)
    assert "decoded digits over the square of codes" in text
