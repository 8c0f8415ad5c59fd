"""The records that runs left, beside the published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psiphi.basis.errors import FileError
from psiphi.basis.files import read_json
from psiphi.repro._recipe import Recipe, Row, show

KEPT = (
    Path(__file__).resolve().parents[3] / "docs" / "results"
)  # of a checkout; an installed package has none
MODES = ("quick", "full")


@dataclass(frozen=True)
class Record:
    """What a run of one recipe in one mode left in `NAME-MODE.json`."""

    path: Path
    passes: bool
    date: str
    cpu: float
    measured: Mapping[str, float]

    def __str__(self) -> str:
        return f"{'pass' if self.passes else 'short'}, {self.date}"


def records(recipes: Iterable[Recipe], *folders: Path) -> dict[tuple[str, str], Record]:
    """The record of each recipe and mode, by (name, mode): that of the first of `folders` that has one.

    Errors: `FileError` where a record cannot be read, or is another recipe's.
    """
    found: dict[tuple[str, str], Record] = {}
    for recipe in recipes:
        for mode in MODES:
            paths = [folder / f"{recipe.name}-{mode}.json" for folder in folders]
            if path := next((path for path in paths if path.is_file()), None):
                found[recipe.name, mode] = _read(path, recipe.name)
    return found


def _read(path: Path, name: str) -> Record:
    told: Any = read_json(path)
    try:
        if told["recipe"] != name:
            raise FileError(f"{path} is a record of {told['recipe']}, not of {name}: give it its own name.")
        measured = {each["what"]: float("nan") if each["measured"] is None else float(each["measured"])
                    for each in told["found"]}  # fmt: skip
        return Record(path, bool(told["passes"]), str(told["date"]), float(told["cpu_seconds"]), measured)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{path} is no record of psiphi repro ({error}): run psiphi repro {name} again."
        ) from None


@dataclass(frozen=True)
class Line:
    """A published or judged line with our numbers in either mode; None where there is no record of it."""

    recipe: str
    row: Row
    quick: float | None
    full: float | None

    def said(self, mode: str) -> str:
        """The number, and "short" where it is worse than its limit."""
        value, limit = getattr(self, mode), getattr(self.row, mode)
        if value is None:
            return "—"
        short = limit is not None and not (value >= limit if self.row.higher else value <= limit)
        return show(value, self.row.unit) + (", short" if short else "")

    def as_dict(self) -> dict[str, Any]:
        row = self.row
        limits = {"limit_quick": row.quick, "limit_full": row.full, "higher": row.higher, "unit": row.unit}
        ours = {"published": row.published, "quick": self.quick, "full": self.full}
        return {"recipe": self.recipe, "what": row.what, **ours, **limits}


def compare(recipe: Recipe, kept: Mapping[tuple[str, str], Record]) -> list[Line]:
    """Of a recipe the lines that have a published number or a limit, beside what its records measured."""
    of = [kept.get((recipe.name, mode)) for mode in MODES]
    return [
        Line(recipe.name, row, *(None if each is None else each.measured.get(row.what) for each in of))
        for row in recipe.rows
        if row.published is not None or row.quick is not None or row.full is not None
    ]


def table(recipes: Iterable[Recipe], kept: Mapping[tuple[str, str], Record]) -> list[str]:
    """The comparison in Markdown: one table, a recipe without a record in one line."""
    lines = ["| recipe | | published | quick | full | run |", "|---|---|---|---|---|---|"]
    for recipe in recipes:
        name = f"[{recipe.name}](#{recipe.name})"
        of = {mode: kept[recipe.name, mode] for mode in MODES if (recipe.name, mode) in kept}
        if not of:
            lines.append(f"| {name} | {recipe.what} | | no record | no record | |")
            continue
        when = "; ".join(
            f"[{mode}](results/{each.path.name}) {each.date}, {each.cpu / 60:.0f} CPU min"
            for mode, each in of.items()
        )
        lines_of = [
            line
            for line in compare(recipe, kept)
            if any(number is not None for number in (line.row.published, line.quick, line.full))
        ]
        for i, line in enumerate(lines_of):
            said = [line.said(mode) if mode in of else "not run" for mode in MODES]
            cells = [
                name if i == 0 else "",
                line.row.what,
                show(line.row.published, line.row.unit),
                *said,
                when if i == 0 else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
