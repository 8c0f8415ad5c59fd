"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = (
    "Name, file, folder or toy with options: digits, faces.npz, people.csv:labels=sex, images/, ring:n=5000."
)

SEARCH, SEES, ROWS = "The attack", "The classifier", "The rows"  # panels of --help

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

AttackName = Annotated[
    str, typer.Option("--attack", help="Its name; `psiphi models` lists them.", rich_help_panel=SEARCH)
]
Steps = Annotated[int | None, typer.Option(help="How many.", rich_help_panel=SEARCH)]
Step = Annotated[float | None, typer.Option(help="Its length, in the data's units.", rich_help_panel=SEARCH)]
Restarts = Annotated[int | None, typer.Option(help="Random starts a row.", rich_help_panel=SEARCH)]
Bounds = Annotated[
    str, typer.Option(help="Range of valid data: 0,1; or a channel 0,0,0:1,1,1.", rich_help_panel=SEES)
]
Mean = Annotated[
    str | None,
    typer.Option(help="It takes (x − mean)/std: one number, or one a channel.", rich_help_panel=SEES),
]
Std = Annotated[str | None, typer.Option(help="As the mean: 0.229,0.224,0.225.", rich_help_panel=SEES)]
Trust = Annotated[
    bool, typer.Option("--trust", help="Read a .pt2 file, which can run code.", rich_help_panel=SEES)
]
Limit = Annotated[int, typer.Option(help="The first so many test rows.", rich_help_panel=ROWS)]
BatchSize = Annotated[
    int | None, typer.Option(help="Rows at once; no number depends on it.", rich_help_panel=ROWS)
]
