"""`psiphi apply`: any verb of a model, on rows of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._open import held_out, open_data, open_model
from psiphi.app._options import Data, Json, Run, Seed
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

ROWS_OUT = ("encode", "reconstruct", "project", "denoise", "score")
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
        typer.Option("--out", "-o", help="A .npy or .csv file. [dim]default: VERB.npy in the run[/dim]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many test rows.")] = None,
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
    x, _ = held_out(loaded, limit)
    answer = ask(x, **_arguments(verb, model, sigma, samples, seed)).detach()
    _write(where, answer)
    record = {
        "model": model.title,
        "run": str(run),
        "verb": verb,
        "data": spec,
        "rows": len(answer),
        "shape": list(answer.shape),
        "out": str(where),
    }
    if json:
        out.emit(record)
    else:
        out.say(f"{verb} of {len(answer)} rows, {tuple(answer.shape)}, is in {where}.")


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


def _write(where: Path, answer: Tensor) -> None:
    from io import BytesIO

    import numpy as np

    from psiphi.basis import files

    array, buffer = answer.cpu().numpy(), BytesIO()
    if where.suffix.lower() == ".npy":
        np.save(buffer, array, allow_pickle=False)
    else:
        rows = array.reshape(len(array), -1)
        np.savetxt(buffer, rows, delimiter=",", fmt="%d" if array.dtype.kind == "i" else "%.9g")
    files.write(where, buffer.getvalue())
