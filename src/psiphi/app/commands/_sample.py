"""`psiphi sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._open import columns_of, open_model
from psiphi.app._options import Json, PlanText, Quiet, Run, Seed
from psiphi.app._plans import known, planned, read_plan, show_plan, walks
from psiphi.basis.errors import ArgumentError


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
    plan: PlanText = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Weight w of D + w (D of the label − D): 1 is the model told the label; needs --label."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Where a plan starts: data, N(m, v + σ²), or standard, N(m, σ_data² + σ²)."),
    ] = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Also write how the samples came about, step by step.")
    ] = False,
    plan_only: Annotated[
        bool, typer.Option("--show-plan", "--plan-only", help="Print the plan, row by row, and draw nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Draw new data from a model: a grid of pictures, a scatter plot, or numbers.

    Sample i of a seed is the same however many are drawn. Score models and diffusion walk a plan, by default their
    own.

    [bold]Example[/bold]   psiphi sample runs/vae -n 64 --seed 1 --out samples.png
    [bold]Example[/bold]   psiphi sample runs/ddpm -n 64 --plan dpm_solver:20 --label 3 --guidance 2 --trajectory
    """
    model = open_model(run)
    draw = model.sample  # a model that cannot says so here, before the plots are imported
    asked = {"plan": read_plan(plan), "guidance": guidance, "start": start}
    options = known(model, draw, {name: value for name, value in asked.items() if value is not None})
    if plan_only:
        return show_plan(model, options.get("plan"), json)
    if trajectory:
        planned(model, options.get("plan"))  # a model that does not walk says so here
    if guidance is not None and label is None:
        raise ArgumentError("--guidance needs a label to guide to: name it with --label.")
    from psiphi.app import pictures

    columns = columns_of(model)
    drawn = pictures.is_image(model.shape) or tuple(model.shape) == (2,)
    path = to or run / ("samples.csv" if columns else "samples.png" if drawn else "samples.npy")
    told: dict[str, Any] = options | ({"quiet": quiet} if walks(model) else {})
    x = draw(n, seed=seed, y=label, exact=exact, **told).detach()
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
    if walks(model):
        record |= _walked(model, options, path, n, seed, label, trajectory)
    if json:
        return out.emit(record)
    how = f", by {record['plan']} with {record['evaluations']} evaluations" if "plan" in record else ""
    out.say(f"{n} samples of {model.title}, seed {seed}{how}, are in {path}.")
    if trajectory:
        out.say(f"How the first {record['walks']} came about is in {record['trajectory']}.")
    return None


WALKS = {"pictures": 6, "points": 100}


def _walked(
    model: Any, options: dict[str, Any], path: Path, n: int, seed: int, label: int | None, trajectory: bool
) -> dict[str, Any]:
    """What the record says of the plan; the first walks, into a file beside the samples."""
    steps = planned(model, options.get("plan"))
    said = {"plan": steps.name, "evaluations": steps.evaluations}
    said |= {"guidance": options.get("guidance"), "start": options.get("start", "data")}
    if not trajectory:
        return said
    from psiphi.app import fields, pictures

    where = path.with_name(f"{path.stem}-trajectory{path.suffix}")
    first = min(n, WALKS["pictures" if pictures.is_image(model.shape) else "points"])
    found = fields.paths(model, first, seed=seed, y=label, **options)
    fields.save(where, found, model.shape, float(model.statistics.low), float(model.statistics.high))
    return said | {"trajectory": str(where), "walks": first}
