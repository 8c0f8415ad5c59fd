"""`psiphi defend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app._open import held_out, open_classifier, open_data, open_model
from psiphi.app._options import Data, Json, Quiet, Seed
from psiphi.basis.errors import ArgumentError

DEFENCE, SEARCH, ROWS = "The defence", "The attack", "The rows"


def defend(
    model: Annotated[
        str,
        typer.Argument(
            help="A classifier's run, module:function, or a torch.export file.", show_default=False
        ),
    ],
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", help="A model's run that projects; several give one table.", rich_help_panel=DEFENCE
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Of the projection: sigma=0.2, steps=4, restarts=8; may be repeated.",
            rich_help_panel=DEFENCE,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Noise drawn anew for each row of each pass, not fixed by the seed.",
            rich_help_panel=DEFENCE,
        ),
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Choose the noise, or the steps, on attacked validation rows.",
            rich_help_panel=DEFENCE,
        ),
    ] = False,
    name: Annotated[
        str, typer.Option("--attack", help="Its name; `psiphi models` lists them.", rich_help_panel=SEARCH)
    ] = "pgd",
    threat: Annotated[
        str, typer.Option(help="What may change, and how much: linf:0.1, l2:1.5.", rich_help_panel=SEARCH)
    ] = attacking.THREAT,
    steps: Annotated[int | None, typer.Option(help="How many.", rich_help_panel=SEARCH)] = None,
    step: Annotated[
        float | None, typer.Option(help="Its length, in the data's units.", rich_help_panel=SEARCH)
    ] = None,
    restarts: Annotated[int | None, typer.Option(help="Random starts a row.", rich_help_panel=SEARCH)] = None,
    draws: Annotated[
        int, typer.Option(help="Of the noise, that the expectation is over.", rich_help_panel=SEARCH)
    ] = 16,
    verify: Annotated[
        int, typer.Option(help="Fresh draws that judge a random defence.", rich_help_panel=SEARCH)
    ] = 100,
    bounds: Annotated[str, typer.Option(help="Range of valid data: 0,1; or a channel 0,0,0:1,1,1.")] = "0,1",
    mean: Annotated[
        str | None, typer.Option(help="The classifier takes (x − mean)/std: one number, or one a channel.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="As the mean: 0.229,0.224,0.225.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Read .pt2 files, which can run code.")] = False,
    data: Data = None,
    limit: Annotated[int, typer.Option(help="The first so many test rows.", rich_help_panel=ROWS)] = 256,
    batch_size: Annotated[int | None, typer.Option(help="Rows at once.", rich_help_panel=ROWS)] = None,
    seed: Seed = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Folder for pictures and numbers.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Put a model's projection in front of a classifier, and attack it five times, each time knowing more of it.

    gray-box: the attacker does not know the purifier; bpda: takes its gradient for the identity's; exact gradient: goes
    through it; fixed noise: knows its noise; expectation: averages over its noise. The lowest number counts.

    [bold]Example[/bold]   psiphi defend runs/classifier --with runs/vae --threat linf:0.1 --out runs/defended
    """
    from psiphi.app import _defended as defended
    from psiphi.evaluation import adaptive

    if not with_:
        raise ArgumentError("name the model that stands in front: --with runs/vae, one or several.")
    search = attacking.build(name, threat, {"steps": steps, "step": step, "restarts": restarts}, None)
    around, scale = attacking.channels(mean, "--mean"), attacking.channels(std, "--std")
    seen = attacking.Seen(attacking.bounds(bounds), around, scale)
    opened = open_classifier(model, trust)
    classifier = attacking.scaled(opened, seen)
    purifiers = defended.purifiers(
        classifier,
        {path: open_model(path) for path in with_},
        arguments.settings(set_),
        None if fresh else seed,
    )
    spec, loaded = open_data(data, opened)
    x, y, left_out = attacking.known(*held_out(loaded, limit), None)
    if left_out:
        out.note(f"note: {left_out} rows are left out: they have no label.", quiet)
    if y is None:
        raise ArgumentError(
            f"{spec} has no labels, which an accuracy needs: name data with labels by --data."
        )
    defended.check(purifiers, x)
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "model": model, "model_sha256": attacking.model_digest(opened), "data": spec,
        "data_sha256": attacking.data_digest(x, y), "attack": repr(search), "rows": len(x), "purifiers": {},
    }  # fmt: skip
    files: list[str] = []
    for key, safe in purifiers.items():
        chosen = None
        if tune:
            with out.progress(f"levels of {key}", quiet, "level") as move:
                chosen = defended.tuned(safe, loaded, search, seen.bounds, limit, seed, move, quiet)
            safe = safe if chosen is None else chosen.safe
        how: dict[str, Any] = {"draws": draws, "verify": verify, "seed": seed, "bounds": seen.bounds}
        with (
            out.spoken_warnings(quiet),
            out.progress(f"{name} {search.threat!r}, {key}", quiet, "row") as move,
        ):
            table = adaptive(safe, x, y, search, batch_size=batch_size, on_progress=move, **how)
        record["purifiers"][key] = defended.record(safe, table, chosen)
        if to is not None:
            files += defended.gallery_of(to, key, safe, x, y, table, seen, loaded.classes)
    if to is not None:
        record["files"] = defended.write(to, record, files)
    if json:
        return out.emit(record)
    defended.show(record)
    return None
