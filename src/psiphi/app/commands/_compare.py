"""`psiphi compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._open import SPEC, held_out, odd_rows, open_data, open_model
from psiphi.app._options import Data, Json, Quiet, Seed
from psiphi.app.commands._evaluate import ODD_HELP
from psiphi.basis.errors import ArgumentError, DataError

Runs = Annotated[
    list[Path], typer.Argument(help="Folders that `psiphi train` wrote, e.g. runs/*.", show_default=False)
]


def compare(
    runs: Runs,
    data: Data = None,
    samples: Annotated[int, typer.Option(help="Draws a row of the importance sampler.")] = 500,
    odd: Annotated[str | None, typer.Option(help=ODD_HELP)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also bits per dimension, and more in --json.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--out", help="Also write the table as a .html page or .csv.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many test rows.")] = 10_000,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Set several models side by side on the same test rows, with PCA at each code size.

    One column for each measure of likelihood: numbers of two measures are never compared.

    [bold]Example[/bold]   psiphi compare runs/* --odd 9
    """
    from psiphi.app import _tables as tables
    from psiphi.app._judge import Questions

    if to is not None and to.suffix not in (".html", ".csv"):
        raise ArgumentError(f"the table is written as .html or .csv; got {to}.")
    opened = _open(runs, quiet)
    spec, loaded = _data(opened, data)
    x, y, strange = odd_rows(odd, loaded, *held_out(loaded, limit), next(iter(opened.values())))
    asked = Questions(y, loaded.train, strange, everything)
    judged = _judge(opened, loaded, x, y, asked, samples, seed, quiet)
    record = {"data": spec, "rows": len(x), "seed": seed, "odd": odd, "models": [e.as_dict() for e in judged]}
    table = tables.side_by_side(judged)
    said = [*tables.explain(judged), _legend(len(x), spec)]
    if to is not None:
        tables.write(to, f"Models of {spec}, side by side", [table, tables.anomalies(judged)], said)
    if json:
        return out.emit(record)
    for piece in tables.pieces(table, out.console().width):
        out.table(*piece)
    for sentence in said:
        out.say(sentence)
    if to is not None:
        out.say(f"The table is in {to}.")
    return None


def _legend(rows: int, spec: str) -> str:
    return (
        f"{rows} test rows of {spec}; ± is the standard error over them, of shares half of the 95% interval."
    )


def _open(runs: list[Path], quiet: bool) -> dict[str, Any]:
    """The models by the names of their folders; a folder among several that holds no model is said and passed over."""
    found: dict[str, Any] = {}
    for folder in dict.fromkeys(runs):
        if len(runs) > 1 and folder.exists() and not (folder / "model.json").exists():
            out.note(f"note: {folder} holds no saved model and is left out.", quiet)
            continue
        name = folder.name if folder.name not in found else str(folder)
        found[name] = open_model(folder)
    if not found:
        raise ArgumentError("none of these folders holds a saved model: name some that psiphi train wrote.")
    return found


def _data(opened: dict[str, Any], data: str | None) -> tuple[str, Any]:
    """The one data set that all models are judged on."""
    from psiphi.basis.shapes import show

    first, *others = opened
    for name in others:
        mine, theirs = opened[first], opened[name]
        if tuple(mine.shape) != tuple(theirs.shape):
            raise DataError(
                f"{first} takes samples of shape {show(mine.shape)}, {name} of {show(theirs.shape)}: only models of "
                f"the same data can be compared."
            )
        specs = [each.provenance.get(SPEC) for each in (mine, theirs)]
        if data is None and specs[0] != specs[1]:
            raise ArgumentError(
                f"{first} was trained on {specs[0]}, {name} on {specs[1]}: name the data to compare on with --data."
            )
    return open_data(data, opened[first])


def _judge(
    opened: dict[str, Any], data: Any, x: Any, y: Any, asked: Any, samples: int, seed: int, quiet: bool
) -> list[Any]:
    """Every model, and PCA at each code size that no run of PCA has."""
    from psiphi.app._judge import Judged, accuracy, judge, pca_beside, question
    from psiphi.models import Classifier, Linear

    sizes = {getattr(model, "latent_dim", 0) for model in opened.values()} - {0}
    sizes -= {model.latent_dim for model in opened.values() if isinstance(model, Linear)}
    beside = {f"pca-{size}": pca_beside(data.train, size) for size in sorted(sizes)}
    every = {**opened, **{name: model for name, model in beside.items() if model is not None}}
    judged = []
    with out.progress("models", quiet) as move:
        for i, (name, model) in enumerate(every.items()):
            if isinstance(model, Classifier):
                known = (
                    None if y is None or not bool((y >= 0).any()) else accuracy(model, x[y >= 0], y[y >= 0])
                )
                judged.append(Judged(name, None, None, None, accuracy=known))
            else:
                found = judge(model, x, samples, seed, name)
                judged.append(question(found, model, x, asked, samples, seed))
            move(i + 1, len(every))
    return judged
