"""`psiphi sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psiphi.app import _console as out
from psiphi.app._open import columns_of, open_model
from psiphi.app._options import Json, Run, Seed


def sample(
    run: Run,
    n: Annotated[int, typer.Option("-n", "--number", help="How many.")] = 64,
    seed: Seed = 0,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A .png, .npy or .npz; of a table .csv or .parquet. [dim]default: samples.… in the run[/dim]",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Draw x from p(x|z), noise and all, instead of its mean.")
    ] = False,
    label: Annotated[
        int | None, typer.Option(help="Draw this class, 0 to classes − 1, from a model of labelled data.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw new data from a model: a grid of pictures, a scatter plot, or numbers.

    Sample i of a seed is the same however many are drawn.

    [bold]Example[/bold]   psiphi sample runs/vae -n 64 --seed 1 --out samples.png
    """
    model = open_model(run)
    draw = model.sample  # a model that cannot says so here, before the plots are imported
    from psiphi.app import pictures

    columns = columns_of(model)
    drawn = pictures.is_image(model.shape) or tuple(model.shape) == (2,)
    path = to or run / ("samples.csv" if columns else "samples.png" if drawn else "samples.npy")
    x = draw(n, seed=seed, y=label, exact=exact).detach()
    if columns and path.suffix.lower() in (".csv", ".parquet"):
        from psiphi.data._tables import as_frame, write_table

        write_table(path, as_frame(x, columns))
    else:
        pictures.save(path, x, model.shape, float(model.statistics.low), float(model.statistics.high))
    record = {
        "model": model.title,
        "run": str(run),
        "out": str(path),
        "n": n,
        "seed": seed,
        "exact": exact,
        "label": label,
        "shape": list(x.shape),
        "low": float(x.min()),
        "high": float(x.max()),
        "mean": float(x.mean()),
    }
    if json:
        out.emit(record)
    else:
        out.say(f"{n} samples of {model.title}, seed {seed}, are in {path}.")
