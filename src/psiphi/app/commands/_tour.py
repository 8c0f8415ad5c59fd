"""`psiphi tour`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psiphi.app import _console as out
from psiphi.app._options import Json, Seed


def tour(
    to: Annotated[
        Path, typer.Option("--out", help="Folder for the report, the runs and the pictures.")
    ] = Path("psiphi-tour"),
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a browser at the end.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A few epochs and no laws, in less than a minute: a look, not numbers to quote."
        ),
    ] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Take the tour: nine models of the digits, their judgement, attacks, defences, the laws; one HTML report.

    Everything runs offline on embedded data, in about four minutes on two idle cores, one of which measures the laws.

    [bold]Example[/bold]   psiphi tour --out psiphi-tour
    """
    from psiphi.app.tour import FULL, QUICK, run

    say = (lambda sentence: out.note(sentence)) if json else out.say
    record = run(to, QUICK if quick else FULL, seed=seed, say=say)
    if json:
        out.emit(record)
    if show:
        typer.launch((to / "report.html").resolve().as_uri())
