"""HTML pages as the tests read them: their tags, the lines that redo a section, and what a browser makes of them."""

from __future__ import annotations

import html
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use", "rect", "circle"}
browser = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")


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


@dataclass(frozen=True)
class Redo:
    """How a section is done again: its id, the words of each command, the Python lines."""

    section: str
    commands: list[list[str]]
    python: str


def redone(text: str) -> list[Redo]:
    """Every `Do this again` of a page, in its order."""
    found = []
    for each in re.finditer(r'<details class="redo">.*?</details>', text, re.DOTALL):
        section = re.findall(r'<section id="([^"]+)"', text[: each.start()])[-1]
        shown, python = re.findall(r"<pre><code[^>]*>(.*?)</code></pre>", each[0], re.DOTALL)
        lines = _plain(shown).splitlines()
        words = [shlex.split(line, comments=True)[1:] for line in lines if line]
        assert all(each[0] in ("psiphi", "cd") for each in words), lines
        found.append(Redo(section, [each[1:] for each in words if each[0] == "psiphi"], _plain(python)))
    return found


def _plain(shown: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", shown))


def seen(folder: Path, text: str, script: str, *, width: int = 1280, dark: bool = False) -> str:
    """What `script` tells of the page in Chromium by `tell(text)`, in a frame of this width.

    An error that nobody caught, and every word on the console's error, is told first, after `error:`.
    """
    begin = (
        "<script>function tell(t) { parent.postMessage(String(t), '*'); }\n"
        "window.addEventListener('error', function (e) { tell('error: ' + e.message); });\n"
        "console.error = function () { tell('error: ' + [].join.call(arguments, ' ')); };</script>"
    )
    text = text.replace("<head>", f"<head>{begin}", 1).replace("</body>", f"<script>{script}</script></body>")
    (folder / "page.html").write_text(text, encoding="utf-8")
    frame = (
        "<!doctype html><script>var heard; onmessage = e => { if (!heard) { heard = e.data; "
        "document.title = e.data; } }</script>"
        f'<iframe src="page.html" width="{width}" height="800" style="border:0"></iframe>'
    )
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--hide-scrollbars",
    ]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    told = subprocess.run(
        [*command, (folder / "frame.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    found = re.search(r"<title>(.*?)</title>", told, re.DOTALL)
    assert found, told[:500]
    return html.unescape(found[1])
