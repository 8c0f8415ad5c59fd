"""`psiphi transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app._open import open_classifier, open_data
from psiphi.app._options import (
    AttackName,
    BatchSize,
    Bounds,
    Data,
    Json,
    Limit,
    Quiet,
    Seed,
    Set,
    Steps,
    Trust,
)
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError


def transfer(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Classifiers: runs, module:function, or torch.export files. Each is attacked, and judges the others.",
            show_default=False,
        ),
    ],
    name: AttackName = "pgd",
    threat: Annotated[str | None, typer.Option(help="As of psiphi attack: linf:0.2.")] = None,
    steps: Steps = None,
    set_: Set = None,
    bounds: Bounds = "0,1",
    trust: Trust = False,
    data: Data = None,
    limit: Limit = 256,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Folder for transfer.json.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Adversarial inputs found on each classifier, judged by every other: a table, with noise as the control.

    [bold]Example[/bold]   psiphi transfer runs/cnn runs/mlp --attack pgd --threat linf:0.2
    """
    from psiphi.access import white_box
    from psiphi.attacks import transfer as run

    if len(set(models)) < len(models):
        raise ArgumentError("a classifier is named twice: name each once.")
    names = [Path(model).name if ":" not in model else model for model in models]
    names = models if len(set(names)) < len(names) else names
    search = attacking.build(name, threat, {"steps": steps, **arguments.settings(set_)}, None)
    classifiers = [open_classifier(model, trust) for model in models]
    walls = attacking.bounds(bounds)
    spec, loaded = open_data(data, classifiers[0])
    x, y = attacking.judged(loaded, limit, classifiers, quiet)
    sources = {name: white_box(each, walls) for name, each in zip(names, classifiers)}
    with out.spoken_warnings(quiet), out.progress(f"{name} {search.threat!r}", quiet, "row") as move:
        found = run(search, sources, x, y, seed=seed, batch_size=batch_size, on_progress=move)
    record = {"attack": repr(search), "data": spec, "models": models, **found.as_dict()}
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        files.write_json(to / "transfer.json", out.plain(record))
        record["files"] = [str(to / "transfer.json")]
    if json:
        return out.emit(record)
    out.say(f"{search!r} on {len(x)} rows")
    cells = zip(found.sources, found.accuracy.tolist(), found.fooling.tolist())
    out.table(
        ["found on, judged by", *found.targets],
        [[source, *(f"{a:.1%} ({f:.1%})" for a, f in zip(right, fooled))] for source, right, fooled in cells],
    )
    out.say(
        "Accuracy, and in brackets the share of rows whose label changed. Noise is a random point of the threat: what "
        "is not below it transfers no better than chance."
    )
    for path in record.get("files", []):
        out.say(f"Wrote {path}")
    return None
