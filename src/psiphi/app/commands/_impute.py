"""`psiphi impute`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._open import columns_of, open_model
from psiphi.app._options import Json, PlanText, Run, Seed
from psiphi.app._plans import known, read_plan
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.models import Model

READING = ("missing", "separator")


def impute(
    run: Run,
    data: Annotated[
        str, typer.Argument(help="A .csv, .parquet or .npy with gaps; empty, or NaN.", show_default=False)
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Where to write. [dim]default: imputed.csv, .parquet or .npy in the run[/dim]"
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Draws of the code for each row.")] = None,
    seed: Seed = 0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Draw what is missing instead of its mean, one draw a row.")
    ] = False,
    plan: PlanText = None,
    json: Json = False,
) -> None:
    """Fill what is missing in a table (or an array) with what a model expects there, given the rest of the row.

    The file's rows and columns stay in order, and what is there stays as it is.

    [bold]Example[/bold]   psiphi impute runs/vae people.csv -o filled.csv
    """
    from psiphi.data._spec import parse

    model = open_model(run)
    fill: Any = model.impute  # a model that cannot says so before anything is read
    given = {"samples": samples, "seed": seed or None, "exact": exact or None}
    options = _known(fill, {name: value for name, value in given.items() if value is not None}, model)
    options |= known(model, fill, {} if plan is None else {"plan": read_plan(plan)})
    name, reading = (data, {}) if Path(data).expanduser().exists() else parse(data)
    path = Path(name).expanduser()
    kind = path.suffix.lower()
    where = to or run / f"imputed{kind}"
    if kind == ".npy":
        x = _array(path)
        filled = fill(x, **options).detach()
        _save_array(where, filled)
    elif kind in (".csv", ".parquet"):
        x, filled = _table(model, path, where, fill, options, reading)
    else:
        raise ArgumentError(f"{data} is no .csv, .parquet or .npy: convert it to one of them.")
    gaps = x.isnan()
    record = {
        "model": model.title,
        "run": str(run),
        "data": data,
        "out": str(where),
        "rows": len(x),
        "rows_with_gaps": int(gaps.flatten(1).any(1).sum()),
        "values": x.numel(),
        "filled": int(gaps.sum()),
    }
    if json:
        out.emit(record)
    else:
        out.say(
            f"{record['filled']} of {record['values']} values, in {record['rows_with_gaps']} of {len(x)} rows, are "
            f"filled; the whole is in {where}."
        )


def _known(fill: Any, options: dict[str, Any], model: Model) -> dict[str, Any]:
    """The options, each of which the model's verb must have."""
    from inspect import signature

    takes = signature(fill).parameters
    for name in options:
        if name not in takes and name != "seed":
            raise ArgumentError(f"a {model.title} fills gaps in closed form: leave out --{name}.")
    return {name: value for name, value in options.items() if name in takes}


def _table(
    model: Model, path: Path, where: Path, fill: Any, options: dict[str, Any], reading: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    from psiphi.data._tables import as_frame, fill_gaps, read_rows, write_table

    columns = columns_of(model)
    if columns is None:
        raise ArgumentError(
            f"the {model.title} was not trained on a table, and does not know the columns of {path}: give it a .npy."
        )
    x, frame = read_rows(path, columns, **{key: reading[key] for key in READING if key in reading})
    filled = fill(x, **options).detach()
    write_table(where, fill_gaps(frame, as_frame(filled, columns)))
    return x, filled


def _array(path: Path) -> Tensor:
    import torch

    from psiphi.basis.shapes import as_float
    from psiphi.data._arrays import open_npy

    return as_float(torch.as_tensor(open_npy(path, mapped=False)))


def _save_array(where: Path, filled: Tensor) -> None:
    from psiphi.app import pictures

    if where.suffix.lower() != ".npy":
        raise ArgumentError(f"an array is written as .npy; got {where.name}.")
    pictures.save(where, filled, tuple(filled.shape[1:]), 0.0, 1.0)
