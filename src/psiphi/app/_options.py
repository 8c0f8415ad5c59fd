"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = (
    "Name, file, folder or toy with options: digits, faces.npz, people.csv:labels=sex, images/, ring:n=5000."
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no notes on stderr.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]
Run = Annotated[
    Path, typer.Argument(help="A folder that `psiphi train` or `pp.save` wrote.", show_default=False)
]
Data = Annotated[
    str | None, typer.Option(help=f"{DATA_HELP} By default the data that the model was trained on.")
]
PlanText = Annotated[
    str | None,
    typer.Option(
        "--plan",
        help="How score models and diffusion walk: dpm_solver:20, heun:18, ddim:50,eta=1, or a plan.json.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other argument, e.g. --set samples=5; may be repeated."
    ),
]
