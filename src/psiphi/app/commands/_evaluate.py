"""`psiphi evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._open import held_out, is_other, open_classifier, open_data, open_model
from psiphi.app._options import Data, Json, Quiet, Run, Seed
from psiphi.basis.errors import ArgumentError

MEASURES = {"continuous": "ln density (nats)", "discrete": "ln probability (nats)"}


def evaluate(
    run: Run,
    data: Data = None,
    samples: Annotated[int, typer.Option(help="Draws a row of the importance sampler.")] = 500,
    classifier: Annotated[
        str | None, typer.Option(help="A classifier's run, to count the classes among the model's samples.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Samples to draw for the classifier.")] = 2000,
    limit: Annotated[int, typer.Option(help="At most so many test rows.")] = 10_000,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Judge a model on the test split: reconstruction beside PCA, likelihood with its errors, diversity of samples.

    A classifier is judged by its accuracy, with Wilson's 95% interval.

    [bold]Example[/bold]   psiphi evaluate runs/vae --classifier runs/classifier
    """
    from psiphi.models import Classifier

    model = open_model(run)
    spec, loaded = open_data(data, model)
    if data is not None and is_other(model, loaded):
        out.note(
            f"note: {spec} is not what the model was trained on; its training rows may be among these test rows.",
            quiet,
        )
    x, y = held_out(loaded, limit)
    record: dict[str, Any] = {"run": str(run), "data": spec, "rows": len(x), "seed": seed}
    if isinstance(model, Classifier):
        _classifier(model, x, y, record, json)
    else:
        _generative(model, loaded, x, y, record, samples, classifier, draws, seed, json)


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
        out.table(
            ["model", "accuracy", "95% interval (Wilson)", "rows"], [[model.title, *_share(found), found.n]]
        )


def _share(found: Any) -> list[str]:
    low, high = found.interval
    return [out.percent(found.value), f"[{low:.1%}, {high:.1%}]"]


def _generative(
    model: Any,
    data: Any,
    x: Any,
    y: Any,
    record: dict[str, Any],
    samples: int,
    classifier: str | None,
    draws: int,
    seed: int,
    json: bool,
) -> None:
    from psiphi.app._judge import judge, pca_beside
    from psiphi.models import Linear

    judged = [judge(model, x, samples, seed)]
    size = getattr(model, "latent_dim", None)
    if (
        size is not None
        and not isinstance(model, Linear)
        and (pca := pca_beside(data.train, size)) is not None
    ):
        judged.append(judge(pca, x, samples, seed))
    record |= {"models": [each.as_dict() for each in judged]}
    if classifier is not None:
        record["samples"] = _diversity(model, classifier, y, draws, seed)
    if json:
        return out.emit(record)
    out.table(*_columns(judged))
    for each in judged:
        if each.why:
            out.say(f"No likelihood for {each.name}: {each.why}")
    if any(each.likelihood and each.likelihood.untrusted for each in judged):
        out.say(
            "Rows with an effective sample size below 10 have an untrustworthy Monte Carlo error: raise --samples."
        )
    out.say(
        f"{len(x)} test rows of {record['data']}; ± is the standard error over them, (MC ±) that of the sampler."
    )
    if classifier is not None:
        found = record["samples"]
        out.say(
            f"Class entropy of {found['n']} samples: {found['entropy']:.3f} nats, {found['ratio']:.1%} of the data's "
            f"{found['data_entropy']:.3f}; mean confidence {found['confidence']:.1%}."
        )
    return None


def _diversity(model: Any, classifier: str, y: Any, draws: int, seed: int) -> dict[str, Any]:
    from psiphi import evaluation

    if y is None:
        raise ArgumentError(
            "these data have no labels to compare the samples' classes with: leave --classifier out."
        )
    return evaluation.samples(model, open_classifier(classifier), y, n=draws, seed=seed).as_dict()


def _columns(judged: list[Any]) -> tuple[list[str], list[list[str]]]:
    """One column for each measure: numbers of two measures never stand under one heading."""
    used = [
        key for key in MEASURES if any(each.likelihood and each.likelihood.measure == key for each in judged)
    ]
    columns = ["model", "code", "squared error", *(MEASURES[key] for key in used)]
    columns += ["effective samples", "rows below 10"] if used else []
    rows = []
    for each in judged:
        error, found = each.reconstruction, each.likelihood
        row = [each.name, out.number(each.latent_dim) if each.latent_dim else "—"]
        row.append(f"{error.squared_error:.4g} ± {error.standard_error:.2g}" if error else "—")
        for key in used:
            row.append(_likelihood(found) if found and found.measure == key else "—")
        if used:
            row += ["exact", "—"] if found and not found.samples else _effective(found)
        rows.append(row)
    return columns, rows


def _likelihood(found: Any) -> str:
    sampler = f" (MC ± {found.standard_error:.2g})" if found.samples else ""
    return f"{out.number(found.mean, 5)} ± {found.spread:.2g}{sampler}"


def _effective(found: Any) -> list[str]:
    return (
        ["—", "—"]
        if found is None
        else [f"{found.effective:.0f} of {found.samples}", f"{found.untrusted} of {found.rows}"]
    )
