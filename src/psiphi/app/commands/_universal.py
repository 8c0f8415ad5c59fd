"""`psiphi universal`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app._open import open_classifier, open_data
from psiphi.app._options import Bounds, Data, Json, Quiet, Seed, Set, Trust
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.attacks import Perturbation


def universal(
    model: Annotated[
        str,
        typer.Argument(
            help="A classifier's run, module:function, or a torch.export file.", show_default=False
        ),
    ],
    threat: Annotated[
        str, typer.Option(help="linf:0.3, l2:4, l1:40, or a patch that replaces pixels: patch:7x7@2,3.")
    ] = "linf:0.3",
    target: Annotated[int | None, typer.Option(help="The class that every input is to reach.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the change, each on a batch of rows.")] = None,
    rows: Annotated[int, typer.Option(help="The first so many training rows to learn on.")] = 1000,
    limit: Annotated[int, typer.Option(help="The first so many test rows to judge on.")] = 1000,
    against: Annotated[
        list[str] | None, typer.Option(help="Another classifier to try it on; may be repeated.")
    ] = None,
    set_: Set = None,
    bounds: Bounds = "0,1",
    trust: Trust = False,
    data: Data = None,
    seed: Seed = 0,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for the change, pictures and numbers.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """One change for all inputs: learnt on training rows, judged on test rows, and on other classifiers.

    [bold]Example[/bold]   psiphi universal runs/classifier --threat linf:0.3 --against runs/other
    """
    from psiphi.access import white_box
    from psiphi.attacks import universal as plan
    from psiphi.attacks.threats import parse
    from psiphi.basis.shapes import as_float

    given = {"target": target, "steps": steps, **arguments.settings(set_)}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        search = plan(parse(threat), **given)
    except TypeError as error:
        raise ArgumentError(f"universal does not take these arguments ({error}).") from None
    walls = attacking.bounds(bounds)
    judges = {name: white_box(open_classifier(name, trust), walls) for name in [model, *(against or [])]}
    spec, loaded = open_data(data, judges[model].pipe.model)
    x, y = attacking.judged(loaded, limit, (each.pipe.model for each in judges.values()), quiet)
    learnt = as_float(loaded.train.x[:rows])
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
    with out.spoken_warnings(quiet), out.progress(f"universal {search.threat!r}", quiet, "step") as move:
        found = search.fit(judges[model], learnt, seed=seed, on_progress=move)
    record: dict[str, Any] = {"attack": repr(search), "data": spec, "model": model, "learnt_on": len(learnt)}
    record["classifiers"] = {name: _judged(found, judge, x, y, seed) for name, judge in judges.items()}
    record["provenance"] = found.provenance
    if to is not None:
        record["files"] = _written(to, found, x, record, seed)
    if json:
        return out.emit(record)
    _show(record, target)
    return None


def _judged(found: Perturbation, judge: Any, x: Tensor, y: Any, seed: int) -> dict[str, Any]:
    shares = {"fooling_rate": found.fooling_rate(judge, x, seed=seed)}
    if y is not None:
        shares["error"] = found.error(judge, x, y, seed=seed)
    if found.target is not None:
        shares["hit_rate"] = found.hit_rate(judge, x, seed=seed)
    return {name: share.as_dict() for name, share in shares.items()}


def _written(folder: Path, found: Perturbation, x: Tensor, record: dict[str, Any], seed: int) -> list[str]:
    import torch

    from psiphi.app import pictures

    found.save(folder / "perturbation")
    names = ["perturbation"]
    if pictures.is_image(tuple(x.shape[1:])) and len(x):
        shown = torch.stack((x[:8], found(x[:8], seed=seed).cpu()), 1).flatten(0, 1)
        pictures.save_grid(folder / "universal.png", shown, columns=2 * min(len(x), 4))
        names.append("universal.png")
    names.append("summary.json")
    written = [str(folder / name) for name in names]
    files.write_json(folder / "summary.json", out.plain({**record, "files": written}))
    return written


def _show(record: dict[str, Any], target: int | None) -> None:
    out.say(f"{record['attack']}, learnt on {record['learnt_on']} training rows")
    keys = ["fooling_rate", "error", *(["hit_rate"] if target is not None else [])]
    lines = [
        [name, *(_cell(shares.get(key)) for key in keys), shares["fooling_rate"]["n"]]
        for name, shares in record["classifiers"].items()
    ]
    words = {"fooling_rate": "label changed", "error": "wrong", "hit_rate": f"taken for {target}"}
    out.table(["classifier", *(words[key] for key in keys), "rows"], lines)
    out.say("Shares of test rows, none of which the change was learnt on; 95 % intervals by Wilson.")
    for path in record.get("files", []):
        out.say(f"Wrote {path}")


def _cell(share: dict[str, Any] | None) -> str:
    if share is None:
        return "—"
    low, high = share["interval"]
    return f"{share['value']:.1%} [{low:.1%}, {high:.1%}]"
