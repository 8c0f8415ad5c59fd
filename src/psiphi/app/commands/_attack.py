"""`psiphi attack`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app import _launch
from psiphi.app._open import open_classifier, open_data, open_model
from psiphi.app._options import (
    ROWS,
    SEARCH,
    SEES,
    AttackName,
    BatchSize,
    Bounds,
    Data,
    Json,
    Limit,
    Mean,
    Quiet,
    Restarts,
    Seed,
    Set,
    Std,
    Step,
    Steps,
    Trust,
)
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from psiphi.app._attacked import Curves
    from psiphi.attacks import Attack, Curve, Result
    from psiphi.evaluation import Robustness


def attack(
    model: Annotated[
        str,
        typer.Argument(
            help="A classifier's run, module:function of your own code, or a torch.export file (.pt2).",
            show_default=False,
        ),
    ],
    name: AttackName = "pgd",
    threat: Annotated[
        str | None,
        typer.Option(
            help="What may change, and how much: linf:0.2, linf:8/255, l2:1.5; l2 for no limit; pixels:3; spatial:30,3 "
            "(degrees, pixels); patch:5x7@2,3; features:0.5 (of the classifier); spatial:30,3+linf:0.1; of a table "
            "'linf:0.1 immutable=0,3 integers=5 ranges=2:0:10'. By default linf:0.1, and no limit where the least "
            "change is sought.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    steps: Steps = None,
    step: Step = None,
    restarts: Restarts = None,
    goal: Annotated[
        str | None,
        typer.Option(help="Score to raise: cross_entropy, margin, dlr or kl.", rich_help_panel=SEARCH),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Margin to reach, where it has one.", rich_help_panel=SEARCH)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Class to reach instead of any but the label: 3, least-likely, random, or all for the best of all.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    set_: Set = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="Radii of the curve of accuracy, rising: 0.05,0.1,0.2 or 2/255,4/255.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    independent: Annotated[
        bool,
        typer.Option("--independent", help="Each radius by itself, no bisection.", rich_help_panel=SEARCH),
    ] = False,
    bounds: Bounds = "0,1",
    mean: Mean = None,
    std: Std = None,
    reveal: Annotated[
        str | None,
        typer.Option(help="A black box that shows scores or labels only.", rich_help_panel=SEES),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="Rows a sample that the black box answers.", rich_help_panel=SEES)
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Of a random classifier: attack its mean.", rich_help_panel=SEES)
    ] = None,
    with_: Annotated[
        Path | None,
        typer.Option(
            "--with",
            help="A model's run: repeat with its projection in front (purification).",
            rich_help_panel=SEES,
        ),
    ] = None,
    trust: Trust = False,
    data: Data = None,
    limit: Limit = 256,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Part r of n of the rows, 1/3 to 3/3; psiphi merge joins them.", rich_help_panel=ROWS
        ),
    ] = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for pictures, adversarial inputs and numbers.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Ask too if the number can be trusted: verdicts, and report.html in --out."
        ),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Attack a classifier on the test split under a stated threat, with and without a purifier in front.

    [bold]Example[/bold]   psiphi attack runs/classifier --attack pgd --threat linf:0.2 --steps 40 --with runs/vae
    """
    from psiphi.app import _attacked as attacked
    from psiphi.app import _reported as reported
    from psiphi.app import gallery
    from psiphi.app._judge import GRAY_ALONE, defend, labels_of
    from psiphi.evaluation import robustness

    goal = None if goal is None else goal.replace("-", "_")
    given = {"steps": steps, "step": step, "restarts": restarts, "goal": goal, "confidence": confidence}
    radii = attacking.radii(eps)
    if independent and radii is None:
        raise ArgumentError("--independent belongs to a curve: add its radii, e.g. --eps 0.05,0.1,0.2.")
    if report and (to is None or shard is not None or target is not None):
        raise ArgumentError(
            "--report writes a page about all rows under any misclassification: give it a folder with --out, and leave "
            "--shard and --target out."
        )
    if with_ is not None and shard is not None:
        raise ArgumentError(
            "--with and --shard do not go together: the purifier's shares are of the whole run."
        )
    trusted = open_classifier(model, trust) if "features" in (threat or "") else None
    search = attacking.build(name, threat, {**given, **arguments.settings(set_)}, radii, trusted)
    around, scale = attacking.channels(mean, "--mean"), attacking.channels(std, "--std")
    seen = attacking.Seen(attacking.bounds(bounds), around, scale, reveal, budget, draws)
    classifier = trusted or open_classifier(model, trust)
    access = seen.access(classifier)
    purifier = None if with_ is None else open_model(with_)
    if purifier is not None:
        purifier.project  # noqa: B018  a model that cannot says so before the attack, not after
    spec, loaded = open_data(data, classifier)
    aim = attacking.target(target)
    x, y = attacking.judged(loaded, limit, [classifier], quiet, aim)
    whole = {
        "model": model, "model_sha256": attacking.model_digest(classifier), "data": spec,
        "data_sha256": attacking.data_digest(x, y), "rows": len(x), "shard": shard, "target": target, "eps": radii,
        "independent": independent, "norm": type(search.threat).__name__,
        "radius": attacking.radius_of(search),
        "chance": 1 / len(loaded.classes) if y is not None and loaded.classes else None,
    }  # fmt: skip
    rows = attacking.shard(shard, len(x))
    x, y = x[rows.start :: rows.step], None if y is None else y[rows.start :: rows.step]
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)  # a forbidden place is found out before the work
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "target": aim}
    what = f"{name} {search.threat!r}"
    judged: Robustness | None = None
    with out.spoken_warnings(quiet), out.progress(what, quiet, "row") as move:
        if report:
            bounded = radii if search.kind == "fixed-perturbation" else None
            judged = robustness(
                access, x, y, {name: search}, eps=bounded, independent=independent, seed=seed, batch_size=batch_size,
                on_progress=move,
            )  # fmt: skip
            result = judged.attacks[name]
        else:
            result = search(access, x, y, rows=rows, on_progress=move, **how)
    result = replace(result, provenance=result.provenance | {"run": whole})
    known = None if judged is None else next(iter(judged.curves.values()), None)
    curves = _curves(search, access, x, y, result, rows, quiet, how, known)
    if y is None:
        out.note("note: the data have no labels, so the classifier's own answers stand for the truth.", quiet)
        y = labels_of(access, x)[0]
    record = attacked.record(result, curves, model=model, data=spec, shard=shard, target=target)
    if purifier is not None:
        with out.progress(f"{what} through the purifier", quiet, "row") as move:
            safe_access = replace(seen, mean=None, std=None).access
            bare = attacking.scaled(classifier, seen)
            defended = defend(
                search, bare, purifier, x, y, result, access=safe_access, on_progress=move, **how
            )
        record["purifier"] = {"model": str(with_), **defended.as_dict()}
    if to is not None:
        is_image = attacked.is_picture(x)
        shown = gallery.build(access, purifier, x, y, result, bounds=seen.span) if is_image else []
        if judged is not None:
            record["headline"], record["honesty"] = judged.headline.as_dict(), judged.as_dict()["honesty"]
        record["files"] = attacked.write(to, result, curves, record, shown, loaded.classes)
        if judged is not None:
            record["files"] += reported.write(to, judged, curves, record, shown, loaded.classes, _argv(model))
    if json:
        return out.emit(record)
    attacked.show(record)
    if judged is not None:
        reported.show(judged)
    if purifier is not None:
        out.say(GRAY_ALONE)
    return None


def _argv(model: str) -> list[str]:
    """What was typed; called from Python, the least that it takes."""
    return _launch.argv or ["attack", model, "--report"]


def _curves(
    search: Attack,
    access: Any,
    x: Any,
    y: Any,
    result: Result,
    rows: range,
    quiet: bool,
    how: dict[str, Any],
    known: Curve | None = None,
) -> Curves | None:
    """The curve asked for, unless it is `known`, or the one that a minimum-norm attack tells anyway."""
    from psiphi.app import _attacked as attacked

    whole = result.provenance["run"]
    if search.kind == "minimum-norm":
        return attacked.from_distances(result)
    if whole["eps"] is None:
        return None
    if known is None:
        what = f"{repr(search).partition('(')[0]} {whole['norm']} at {len(whole['eps'])} radii"
        radii = {"eps": whole["eps"], "independent": whole["independent"]}
        with out.progress(what, quiet, "row") as move:
            known = search.curve(access, x, y, rows=rows, on_progress=move, **radii, **how)
    curve = replace(known, provenance=known.provenance | {"run": whole})
    return attacked.Curves(curve, curve, whole["norm"], whole["chance"])
