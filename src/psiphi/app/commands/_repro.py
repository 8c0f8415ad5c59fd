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
    to: Annotated[Path, typer.Option("--out", help="Folder for the record.")] = Path("runs/repro"),
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Reproduce a published table and set our numbers beside it. Exit code 1 if they fall short.

    The record NAME-quick.json or NAME-full.json holds numbers, setting, seed, versions, machine, date.

    [bold]Example[/bold]   psiphi repro hinton2006 --quick --data ~/data
    """
    from psiphi.repro import RECIPES

    if name is None:
        _list(RECIPES, json)
        return
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RECIPES)}."
        raise ArgumentError(f"no recipe is called {name!r}; {hint}")
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


def _list(recipes: dict[str, Recipe], json: bool) -> None:
    if json:
        found = [
            {"name": each.name, "what": each.what, "reference": each.reference, "needs": each.needs or None}
            for each in recipes.values()
        ]
        out.emit({"recipes": found})
        return
    out.table(
        ["recipe", "what", "data"],
        [[each.name, f"{each.what} {each.reference}", each.needs or "—"] for each in recipes.values()],
    )
    out.say("Run one: psiphi repro hinton2006 --quick --data FOLDER")


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
