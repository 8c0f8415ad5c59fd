"""Every code block of the manual runs: Python in order, a page at a time; commands in order, in a folder of runs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.helpers import manual
from typer.testing import CliRunner

from psiphi.app.cli import app

PAGES = {page: manual.blocks(page) for page in manual.pages()}
LONG = {"tour", "verify"}  # have tests of their own, and take minutes
EXCUSED = 8  # blocks that say why they are not run, in the whole manual
COMMANDS: Any = typer.main.get_command(app)


def is_long(words: list[str]) -> bool:
    return words[0] in LONG or (words[0] == "repro" and len(words) > 1)


def parsed(words: list[str]) -> None:
    """Every word is known to the command line; raises what the command line would say."""
    verb = COMMANDS.commands[words[0]]
    verb.make_context(words[0], words[1:])


@pytest.mark.parametrize(
    "page", [page for page, blocks in PAGES.items() if any(each.language == "python" for each in blocks)]
)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    with manual.world(tmp_path) as namespace, contextlib.redirect_stdout(io.StringIO()):
        for block in PAGES[page]:
            if block.language == "python" and block.why is None:
                lines = "\n" * (block.line - 1)  # so that a traceback names the page's own line
                exec(compile(lines + block.text, str(manual.ROOT / page), "exec"), namespace)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    with manual.small(folder):
        for name, how in manual.RUNS.items():
            result = CliRunner().invoke(app, ["train", *how.split(), "--out", f"runs/{name}", "--quiet"])
            assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize(
    "page", [page for page, blocks in PAGES.items() if any(each.commands for each in blocks)]
)
def test_the_commands_of_a_page_run(page: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    with manual.small(tmp_path):
        manual.furnish(tmp_path)
        for block in PAGES[page]:
            for words in block.commands:
                parsed(words)
                if block.why is None and not is_long(words):
                    result = CliRunner().invoke(app, globbed(words))
                    said = f"{page}, psiphi {shlex.join(words)}\n{result.output}"
                    assert result.exit_code == 0, said


def globbed(words: list[str]) -> list[str]:
    """As a shell hands them over: `runs/*` is every run."""
    return [
        each for word in words for each in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]


def test_commands_within_sentences_are_known() -> None:
    found = []
    for page in PAGES:
        text = (manual.ROOT / page).read_text(encoding="utf-8")
        found += [(page, each) for each in re.findall(r"`psiphi ([a-z][^`]*)`", text)]
    for page, text in found:
        words = shlex.split(text, comments=True)
        assert words[0] in COMMANDS.commands, f"{page}: psiphi {text}"
        options = {
            name for each in COMMANDS.commands[words[0]].params for name in each.opts + each.secondary_opts
        }
        unknown = [word for word in words[1:] if word.startswith("-") and word.split("=")[0] not in options]
        assert not unknown, f"{page}: psiphi {text}: {unknown}"
    assert len(found) >= 15


def test_few_blocks_are_excused() -> None:
    why = [(each.page, each.why) for blocks in PAGES.values() for each in blocks if each.why is not None]
    assert len(why) <= EXCUSED, why
    texts = [(manual.ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    marks = sum(len(re.findall(r"^<!-- not run", text, re.M)) for text in texts)
    assert marks == len(why), "a mark stands elsewhere than on the line before its block"
