"""docs/mutants.md: how many mutants of each file the laws kill, and each survivor with its reason."""

from __future__ import annotations

import platform
import tomllib
from collections import Counter
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .making import Mutant

REASONS = Path(__file__).with_name("reasons.toml")
Tried = list[tuple[Mutant, dict[str, Any]]]


def reasons() -> list[dict[str, str]]:
    return tomllib.loads(REASONS.read_text(encoding="utf-8")).get("reason", [])


def reason(mutant: Mutant, known: list[dict[str, str]]) -> str:
    """Why this survivor may survive; "" where nobody has said."""
    for each in known:
        if fnmatchcase(mutant.where, _literal(each["where"])) and fnmatchcase(
            mutant.change, _literal(each["change"])
        ):
            return each["why"]
    return ""


def _literal(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def text(tried: Tried, found: int, how: str, seconds: float, jobs: int) -> str:
    """The page."""
    known = reasons()
    survivors = [
        (mutant, reason(mutant, known), outcome) for mutant, outcome in tried if outcome["killed"] is None
    ]
    explained = sum(bool(why) for _, why, _ in survivors)
    killed = len(tried) - len(survivors)
    lines = [
        "# Mutants",
        "",
        "Do the laws see a wrong formula? Each file of `psiphi.formulas` is changed in one place at a time: a sign, a",
        "comparison, a constant, an index, min for max. The laws that execute the changed function are run, the",
        "cheapest first, until one fails. This page is written by",
        "",
        "```",
        "make mutants                                                 # a seeded sample of 400",
        'make mutants ARGS="--all --out runs/mutants.jsonl"           # every mutant; goes on where it was interrupted',
        'make mutants ARGS="formulas/geometry.py"                     # one file: survivors as they are found',
        "```",
        "",
        f"**{killed} of {len(tried)} mutants are killed by the laws: {killed / max(1, len(tried)):.1%}.** "
        f"Of {len(survivors)} survivors {explained} have a reason below. Mutants: {how}, of {found} in all. "
        f"{seconds / 60:.0f} minutes, {jobs} processes, Python {platform.python_version()}, {date.today()}.",
        "",
        "Not changed: docstrings, annotations, decorators; sentences, that is f-strings and all within `raise` and",
        "`warn`; the test of an `if` under which stands nothing but `raise` or `warn`: it only chooses a sentence.",
        "Which laws execute a function is measured at the start of each run. A mutant that no law executes survives.",
        "",
        "| file | mutants | killed | share |",
        "|---|---|---|---|",
    ]
    files = Counter(mutant.file for mutant, _ in tried)
    alive = Counter(mutant.file for mutant, _, _ in survivors)
    for file, number in sorted(files.items()):
        dead = number - alive[file]
        lines.append(f"| {file} | {number} | {dead} | {dead / number:.0%} |")
    lines += ["", "## Survivors", "", "| where | change | reason |", "|---|---|---|"]
    for mutant, why, outcome in survivors:
        why = why or ("no reason yet" if outcome["laws"] else "no reason yet: no law executes it")
        place = f"{mutant.where}, line {mutant.at[0]}"
        lines.append(f"| {_cell(place)} | {_code(mutant.change)} | {_cell(why)} |")
    return "\n".join(lines) + "\n"


def _cell(content: str) -> str:
    return content.replace("|", "\\|").replace("<", "&lt;")


def _code(change: str) -> str:
    before, after = change.split(" → ", 1)
    shown = (f"<code>{each.replace('&', '&amp;').replace('<', '&lt;').replace('|', '&#124;')}</code>"
             for each in (before, after))  # fmt: skip
    return " → ".join(shown)
