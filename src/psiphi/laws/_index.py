"""docs/formulas-index.md, from the code: symbol, file and line, law, source. `psiphi verify --index FILE` writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psiphi.laws._marks import FOLDER, Mark

_HEAD = """# Formulas index

Every formula of `psiphi.formulas`, the ground floor that all models, attacks and measurements stand on: what it says,
where it is written, the [laws](laws.md) that execute it, and its source. The laws of a row were found by watching them
run. [How well they would see a mistake](mutants.md) is measured too. This page is written by

```
psiphi verify --index docs/formulas-index.md
```
"""
_EQUATION = re.compile(r"[=←∝≥≤~]")


@dataclass(frozen=True)
class Formula:
    """A public function or class: its name, its line, what it says, and its source."""

    file: str
    name: str
    line: int
    says: str
    source: str

    @property
    def key(self) -> str:
        return f"{self.file}.{self.name}"


def formulas() -> list[Formula]:
    """Every public function and class of `psiphi.formulas`, in the order of files and lines."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list):
                continue
            text = ast.get_docstring(node) or ""
            found.append(Formula(path.stem, node.name, node.lineno, _says(text), _source(text)))
    return found


def page(executed: Mapping[str, Iterable[Mark]]) -> str:
    """The page; `executed`: law number -> the functions that it executes, laws in their order."""
    laws: dict[str, list[str]] = {}
    for number, marks in executed.items():
        for key in sorted({mark.outermost for mark in marks}):
            laws.setdefault(key, []).append(number)
    lines, file = [_HEAD.rstrip()], ""
    for each in formulas():
        if each.file != file:
            file = each.file
            about = ast.get_docstring(ast.parse((FOLDER / f"{file}.py").read_text(encoding="utf-8"))) or ""
            lines += [f"## {file}", "", about.split("\n\n")[0].replace("\n", " "), "",
                      "| formula | what it says | line | laws | source |", "|---|---|---|---|---|"]  # fmt: skip
        numbers = ", ".join(laws.get(each.key, ["none"]))
        cells = (f"`{each.name}`", _cell(each.says), f"{file}.py:{each.line}", numbers, _cell(each.source))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(_apart(lines)) + "\n"


def read(text: str) -> dict[str, list[str]]:
    """The laws of each formula that a page lists, by `file.name`."""
    found, file = {}, ""
    for line in text.splitlines():
        if line.startswith("## "):
            file = line[3:].strip()
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            numbers = cells[3].split(", ")
            found[f"{file}.{cells[0].strip('`')}"] = [] if numbers == ["none"] else numbers
    return found


def _says(text: str) -> str:
    """The summary, and the first paragraph that is an equation where the summary has none."""
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    summary = parts[0].split(" Source: ")[0]
    if _EQUATION.search(summary):
        return summary
    equation = next((part for part in parts[1:] if len(part) < 90 and _EQUATION.search(part)), "")
    return f"{summary} {equation}".strip()


def _source(text: str) -> str:
    """What follows "Source:", to the end of its paragraph."""
    found = re.search(r"Source: (.*?)(?:\n\n|\Z)", text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _cell(text: str) -> str:
    """Of a table of Markdown, taken as it stands."""
    for sign in "\\|*_`[]<":
        text = text.replace(sign, "\\" + sign if sign != "<" else "&lt;")
    return text


def _apart(lines: list[str]) -> list[str]:
    """An empty line before each heading."""
    found: list[str] = []
    for line in lines:
        if line.startswith("## ") and found:
            found.append("")
        found.append(line)
    return found
