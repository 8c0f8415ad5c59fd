"""`psiphi apply`: any verb of a model, on rows of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._open import chosen, open_data, open_model
from psiphi.app._options import Data, Json, Run, Seed
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

ROWS_OUT = ("encode", "reconstruct", "project", "denoise", "score")
SHOWN = 5  # of the oddest rows
NUMBERS_OUT = ("log_prob", "anomaly_score", "predict")
ELSEWHERE = {
    "sample": "psiphi sample RUN -n 64",
    "impute": "psiphi impute RUN DATA",
    "posterior": "Python: it is a distribution",
    "decode": "psiphi apply RUN reconstruct, or Python for codes of your own",
}


def apply(
    run: Run,
    verb: Annotated[
        str, typer.Argument(help=f"One of {', '.join(ROWS_OUT + NUMBERS_OUT)}.", show_default=False)
    ],
    data: Data = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A .npy of the numbers, or a .csv with the place, or the file, of each row. "
            "[dim]default: VERB.npy in the run[/dim]",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="test, train, validation; or all, in the file's order.")
    ] = "test",
    limit: Annotated[int | None, typer.Option(help="At most so many rows.")] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Noise that denoise and score are told of, and to which a diffusion projects, in the data's units."
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Draws a row, for log_prob.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Ask a model one thing of each test row: its code, reconstruction, likelihood, class, …; into a file.

    [bold]Example[/bold]   psiphi apply runs/vae encode -o codes.npy
    [bold]Example[/bold]   psiphi apply runs/photos anomaly_score --split all -o odd.csv
    """
    model = open_model(run)
    if verb in ELSEWHERE:
        raise ArgumentError(f"{verb} is not asked of rows of data; use {ELSEWHERE[verb]}.")
    if verb not in ROWS_OUT + NUMBERS_OUT:
        raise ArgumentError(f"no verb is called {verb!r}; use {', '.join(ROWS_OUT + NUMBERS_OUT)}.")
    where = to or run / f"{verb}.npy"
    if where.suffix.lower() not in (".npy", ".csv"):
        raise ArgumentError(f"answers are written as .npy or .csv; got {where.name}.")
    ask = getattr(model, verb)  # a model that cannot says so before anything is read
    spec, loaded = open_data(data, model)
    x, places, kind = chosen(loaded, split, limit)
    answer = ask(x, **_arguments(verb, model, sigma, samples, seed)).detach()
    _write(where, verb, answer, places, kind)
    record = {
        "model": model.title,
        "run": str(run),
        "verb": verb,
        "data": spec,
        "split": split,
        "rows": len(answer),
        "shape": list(answer.shape),
        "out": str(where),
    }
    if verb == "anomaly_score":
        first = answer.argsort(descending=True)[:SHOWN].tolist()
        record["oddest"] = [{kind: places[i], verb: float(answer[i])} for i in first]
    if json:
        out.emit(record)
    else:
        out.say(f"{verb} of {len(answer)} rows, {tuple(answer.shape)}, is in {where}.")
        if "oddest" in record:
            said = ", ".join(f"{one[kind]} ({out.number(one[verb])})" for one in record["oddest"])
            out.say(f"The oddest {kind}s: {said}.")


def _arguments(verb: str, model: Any, sigma: float | None, samples: int | None, seed: int) -> dict[str, Any]:
    """The options this verb takes; one that it does not take is refused."""
    noisy = hasattr(model, "planned")
    if sigma is not None and verb not in ("denoise", "score", *(("project",) if noisy else ())):
        raise ArgumentError(f"{verb} takes no --sigma; denoise and score do.")
    if samples is not None and verb != "log_prob":
        raise ArgumentError(f"{verb} takes no --samples; log_prob does.")
    if verb in ("denoise", "score"):
        own = getattr(getattr(model, "corruption", None), "sigma", None)
        if sigma is None and own is None:
            raise ArgumentError(f"{verb} needs --sigma, the noise in units of the data, e.g. --sigma 0.3.")
        return {"sigma": own if sigma is None else sigma}
    if verb == "project" and noisy:
        return {"seed": seed} | ({} if sigma is None else {"sigma": sigma})
    if verb == "log_prob":
        return {"seed": seed} | ({} if samples is None else {"samples": samples})
    return {}


def _write(where: Path, verb: str, answer: Tensor, places: list[str], kind: str) -> None:
    """The numbers as they are, or as a table: the place of each row, then its numbers."""
    import csv
    from io import BytesIO, StringIO

    import numpy as np

    from psiphi.basis import files

    array, buffer = answer.cpu().numpy(), BytesIO()
    if where.suffix.lower() == ".npy":
        np.save(buffer, array, allow_pickle=False)
        files.write(where, buffer.getvalue())
        return
    rows, text = array.reshape(len(array), -1), StringIO()
    names = [verb] if array.ndim == 1 else [f"{verb}_{i}" for i in range(rows.shape[1])]
    form = "{:d}" if array.dtype.kind == "i" else "{:.9g}"
    table = csv.writer(text, lineterminator="\n")
    table.writerow([kind, *names])
    table.writerows([place, *map(form.format, row.tolist())] for place, row in zip(places, rows))
    files.write(where, text.getvalue())
