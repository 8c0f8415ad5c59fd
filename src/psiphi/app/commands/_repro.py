"""`psiphi repro`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from psiphi.app import _console as out
from psiphi.app._options import Json, Quiet, Seed
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from psiphi.repro import Outcome, Recipe

BEGIN, END = "<!-- records -->", "<!-- /records -->"


def repro(
    name: Annotated[
        str | None, typer.Argument(help="A recipe; without one they are listed.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes on a CPU, held to a wider limit than the full recipe.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the recipe's data, e.g. mnist/; $PSIPHI_DATA unless given."),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Run nothing: set the records that there are beside the published numbers."
        ),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            help="With --compare, a page whose table between <!-- records --> and <!-- /records --> is made anew."
        ),
    ] = None,
    to: Annotated[
        Path,
        typer.Option("--out", help="Folder of the records: for a new one, and where --compare looks first."),
    ] = Path("runs/repro"),
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Reproduce a published table and set our numbers beside it. Exit code 1 if they fall short.

    The record NAME-quick.json or NAME-full.json holds numbers, setting, seed, versions, machine, date. Those of the
    manual are in docs/results of the project.

    [bold]Example[/bold]   psiphi repro hinton2006 --quick --data ~/data
    """
    from psiphi.repro import RECIPES

    if page is not None and not compare:
        raise ArgumentError("--page is where --compare puts its table: give both.")
    if name is not None and name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RECIPES)}."
        raise ArgumentError(f"no recipe is called {name!r}; {hint}")
    if compare:
        _compare([RECIPES[name]] if name else list(RECIPES.values()), to, page, json)
        return
    if name is None:
        _list(RECIPES, to, json)
        return
    recipe = RECIPES[name]
    outcome = recipe.run(quick, data, seed, lambda sentence: out.note(sentence, quiet), quiet)
    record = write(outcome, to)
    if json:
        out.emit(outcome.as_dict())
    else:
        _print(recipe, outcome, record)
    if not outcome.passes:
        raise typer.Exit(1)


def write(outcome: Outcome, folder: Path) -> Path:
    """The record as JSON, with the lines that it gives docs/results.md."""
    from psiphi.basis.files import write_json

    path = folder / f"{outcome.name}-{outcome.mode}.json"
    write_json(path, out.plain({**outcome.as_dict(), "results": outcome.lines()}))
    return path


def _list(recipes: dict[str, Recipe], folder: Path, json: bool) -> None:
    from psiphi.repro._records import KEPT, MODES, records

    kept = records(recipes.values(), folder, KEPT)
    said = {key: str(each) for key, each in kept.items()}
    if json:
        found = [
            {
                "name": each.name,
                "what": each.what,
                "reference": each.reference,
                "needs": each.needs or None,
                "records": {mode: said[each.name, mode] for mode in MODES if (each.name, mode) in said},
            }
            for each in recipes.values()
        ]
        out.emit({"recipes": found})
        return
    out.table(
        ["recipe", "what", "data", *MODES],
        [
            [
                each.name,
                f"{each.what} {each.reference}",
                each.needs or "—",
                *(said.get((each.name, mode), "no record") for mode in MODES),
            ]
            for each in recipes.values()
        ],
    )
    out.say("Run one: psiphi repro hinton2006 --quick --data FOLDER. See the numbers: psiphi repro --compare")


def _compare(recipes: list[Recipe], folder: Path, page: Path | None, json: bool) -> None:
    """Published beside ours, from the records in `folder`, else those of the manual."""
    from psiphi.repro._records import KEPT, MODES, records, table
    from psiphi.repro._records import compare as compared

    kept = records(recipes, folder, KEPT)
    if page is not None:
        _into(page, table(recipes, kept))
    lines = [line for recipe in recipes for line in compared(recipe, kept)]
    if json:
        out.emit(
            {
                "lines": [line.as_dict() for line in lines],
                "records": {f"{n}-{m}": str(each.path) for (n, m), each in kept.items()},
            }
        )
        return
    rows = []
    for line in lines:
        unit, row = line.row.unit, line.row
        what = f"{row.what}, {unit}" if unit else row.what
        said = [line.said(mode) if (line.recipe, mode) in kept else "no record" for mode in MODES]
        rows.append([line.recipe, what, out.number(row.published), *said])
    out.table(["recipe", "", "published", "ours, quick", "ours, full"], rows)
    for recipe in recipes:
        if len(recipes) == 1 and recipe.differs:
            out.say(f"What differs: {recipe.differs}")
    for (name, mode), each in kept.items():
        out.say(f"{name}, {mode}: {each}, {each.cpu / 60:.0f} min of CPU. {each.path}")


def _into(page: Path, lines: list[str]) -> None:
    """Put lines between the marks of a page, in place of what is there."""
    from psiphi.basis.files import write

    if not page.is_file():
        raise ArgumentError(f"there is no page {page}: name one that has {BEGIN} and {END}.")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ArgumentError(f"{page} does not have {BEGIN} and, below it, {END} once each: put them in.")
    before, rest = text.split(BEGIN)
    write(page, "\n".join([f"{before}{BEGIN}", "", *lines, "", END]) + rest.split(END)[1])


def _print(recipe: Recipe, outcome: Outcome, record: Path) -> None:
    rows = []
    for each in outcome.found:
        limit = "" if each.limit is None else f"{'≥' if each.higher else '≤'} {out.number(each.limit)}"
        rows.append(
            [
                f"{each.what}, {each.unit}" if each.unit else each.what,
                out.number(each.published),
                out.number(each.measured),
                limit,
                each.verdict,
            ]
        )
    out.table(["", "published", "measured", "limit", ""], rows, title=recipe.reference)
    if recipe.differs:
        out.say(f"What differs: {recipe.differs}")
    out.say(
        f"{outcome.mode} recipe, {outcome.seconds / 60:.1f} min ({outcome.cpu / 60:.1f} min of CPU). Record: {record}"
    )
    for line in outcome.lines():
        out.say(line)
