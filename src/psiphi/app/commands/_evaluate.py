"""`psiphi evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _console as out
from psiphi.app._open import held_out, is_other, odd_rows, open_classifier, open_data, open_model
from psiphi.app._options import Data, Json, PlanText, Quiet, Run, Seed
from psiphi.app._plans import known, read_plan
from psiphi.basis.errors import ArgumentError

ODD_HELP = "Odd rows to rank above the test rows: a class of the data, or data (name, file) of their own."


def evaluate(
    run: Run,
    data: Data = None,
    samples: Annotated[int, typer.Option(help="Draws a row of the importance sampler.")] = 500,
    classifier: Annotated[
        str | None, typer.Option(help="A classifier's run, to count the classes among the model's samples.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Samples to draw: for the classifier, beside test rows.")] = 2000,
    odd: Annotated[str | None, typer.Option(help=ODD_HELP)] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also bits per dimension, information, trustworthiness, and whether codes and data agree.",
        ),
    ] = False,
    betas: Annotated[
        str | None,
        typer.Option(
            help="Train the model anew at these weights of the rate, e.g. 0.1,1,4: rate and distortion."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The picture of --betas [dim](default: rate-distortion.png in the run)[/dim] or of a toy's modes.",
        ),
    ] = None,
    plan: PlanText = None,
    limit: Annotated[int, typer.Option(help="At most so many test rows.")] = 10_000,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Judge a model on the test split, beside PCA: reconstruction, likelihood with its errors, the bound in its
    parts, active units, probes of its codes, diversity of its samples, odd rows; of samples their fidelity to test
    rows, or the modes that they reach of a toy mixture.

    A classifier is judged by its accuracy, with Wilson's 95% interval.

    [bold]Example[/bold]   psiphi evaluate runs/vae --classifier runs/classifier
    [bold]Example[/bold]   psiphi evaluate runs/vae --betas 0.1,1,4
    [bold]Example[/bold]   psiphi evaluate runs/ddpm --plan dpm_solver:20
    """
    from psiphi.models import Classifier

    model: Any = open_model(run)
    if plan is not None:
        known(model, getattr(model, "planned", lambda: None), {"plan": plan})
        model.plan = read_plan(plan)
        model.planned()  # one that it cannot walk is told before the work
    spec, loaded = open_data(data, model)
    if data is not None and is_other(model, loaded):
        out.note(
            f"note: {spec} is not what the model was trained on; its training rows may be among these test rows.",
            quiet,
        )
    x, y = held_out(loaded, limit)
    record: dict[str, Any] = {"run": str(run), "data": spec, "rows": len(x), "seed": seed}
    if isinstance(model, Classifier):
        return _classifier(model, x, y, record, json)
    if betas is not None:
        return _sweep(
            model, loaded, _numbers(betas), record, to or run / "rate-distortion.png", seed, quiet, json
        )
    if to is not None:
        _map(to, model, loaded, seed)
    return _generative(model, loaded, x, y, record, samples, classifier, draws, odd, everything, seed, json)


def _map(to: Path, model: Any, data: Any, seed: int) -> None:
    """The picture of modes in the plane, where the data have any."""
    from psiphi.app._generated import picture
    from psiphi.app.modes_map import in_the_plane

    if not in_the_plane(data.reference):
        raise ArgumentError(
            "--out is the picture of a sweep: give its weights with --betas 0.1,1,4; or that of modes in the plane, "
            "of a model of the ring or the grid."
        )
    picture(to, model, data, seed)


def _classifier(model: Any, x: Any, y: Any, record: dict[str, Any], json: bool) -> None:
    from psiphi.app._judge import accuracy

    if y is None or not (y >= 0).any():
        raise ArgumentError(
            "these data have no labels to judge a classifier by: name some that do with --data."
        )
    found = accuracy(model, x[y >= 0], y[y >= 0])
    record |= {"model": model.title, "accuracy": found.as_dict()}
    if json:
        out.emit(record)
    else:
        low, high = found.interval
        cells = [model.title, out.percent(found.value), f"[{low:.1%}, {high:.1%}]", found.n]
        out.table(["model", "accuracy", "95% interval (Wilson)", "rows"], [cells])


def _generative(
    model: Any,
    data: Any,
    x: Any,
    y: Any,
    record: dict[str, Any],
    samples: int,
    classifier: str | None,
    draws: int,
    odd: str | None,
    everything: bool,
    seed: int,
    json: bool,
) -> None:
    from psiphi.app._generated import generated, show
    from psiphi.app._judge import Questions, judge, pca_beside, question
    from psiphi.models import Linear

    x, y, strange = odd_rows(odd, data, x, y, model)
    asked = Questions(y, data.train, strange, everything)
    beside = [model]
    size = getattr(model, "latent_dim", None)
    if size and not isinstance(model, Linear) and (pca := pca_beside(data.train, size)) is not None:
        beside.append(pca)
    judged = [question(judge(each, x, samples, seed), each, x, asked, samples, seed) for each in beside]
    record |= {"rows": len(x), "models": [each.as_dict() for each in judged]}
    if classifier is not None:
        record["samples"] = _diversity(model, classifier, y, draws, seed)
    judge_of = None if classifier is None else open_classifier(classifier)
    found = generated(model, data, x, judge_of, draws, seed)
    record["generated"] = None if found is None else found.as_dict()
    if json:
        return out.emit(record)
    _print(judged, everything)
    if found is not None:
        show(found)
    if odd is not None and odd in data.classes:
        out.say(f"The odd rows are of class {odd}, which the model met in training unless that left it out.")
    out.say(
        f"{len(x)} test rows of {record['data']}; ± is the standard error over them, (MC ±) that of the sampler; "
        f"[ ] are 95% intervals."
    )
    if classifier is not None:
        spread = record["samples"]
        out.say(
            f"Class entropy of {spread['n']} samples: {spread['entropy']:.3f} nats, {spread['ratio']:.1%} of the "
            f"data's {spread['data_entropy']:.3f}; mean confidence {spread['confidence']:.1%}."
        )
    return None


def _print(judged: list[Any], everything: bool) -> None:
    from psiphi.app import _tables as tables

    out.table(*tables.models(judged))
    for title, table in tables.bounds(judged).items():
        out.table(*table, title=title)
    for table in (None if everything else tables.codes(judged), tables.anomalies(judged)):
        if table is not None:
            out.table(*table)
    if everything:
        for each in judged:
            if each.latents is not None:
                out.table([f"codes of {each.name}", ""], each.latents.summary())
                for name, reason in each.latents.why.items():
                    out.say(f"No {name} of the codes of {each.name}: {reason}.")
    for each in judged:
        for name, reason in each.missing.items():
            if name not in ("elbo", "bits") or everything:
                out.say(f"No {name} for {each.name}: {reason.rstrip('.')}.")
    for sentence in tables.explain(judged):
        out.say(sentence)


def _diversity(model: Any, classifier: str, y: Any, draws: int, seed: int) -> dict[str, Any]:
    from psiphi import evaluation

    if y is None:
        raise ArgumentError(
            "these data have no labels to compare the samples' classes with: leave --classifier out."
        )
    return evaluation.samples(model, open_classifier(classifier), y, n=draws, seed=seed).as_dict()


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(f"--betas is {text!r}; numbers with commas are needed, e.g. 0.1,1,4.") from None


def _sweep(
    model: Any,
    data: Any,
    betas: tuple[float, ...],
    record: dict[str, Any],
    picture: Path,
    seed: int,
    quiet: bool,
    json: bool,
) -> None:
    """The same model on the same data at other weights of the rate, trained as it was."""
    from psiphi.app import plots
    from psiphi.basis.registry import models
    from psiphi.evaluation import rate_distortion

    entry, given = models[model.title], dict(model.recipe["arguments"])
    if "beta" not in entry.parameters:
        raise ArgumentError(f"{model.title} has no weight of the rate (beta) to sweep: use a run of a vae.")
    shape = given.pop("shape")
    told = {name: model.provenance.get(name) for name in ("epochs", "steps", "lr")}
    batch = model.provenance.get("batch_size") or 128
    found = rate_distortion(
        lambda beta: arguments.build(entry, "model", {**given, "beta": beta}, shape),
        data.train,
        betas,
        test=data.test,
        seed=seed,
        batch_size=batch,
        quiet=quiet,
        validation=data.validation if len(data.validation) > 1 else None,
        **told,
    )
    plots.png(picture, plots.rate_distortion(found.points))
    if json:
        return out.emit({**record, "sweep": found.as_dict(), "out": str(picture)})
    cells = [
        [out.number(p.beta), out.number(p.rate), out.number(p.distortion, 5),
         f"{out.number(p.elbo, 5)} ± {p.spread:.2g}", str(p.active_units)]
        for p in found.points
    ]  # fmt: skip
    out.table(["β", "rate (nats)", "distortion (nats)", f"ELBO ({found.measure})", "active units"], cells)
    out.say(f"{found.rows} test rows of {record['data']}. The curve is in {picture}.")
    return None
