"""`psiphi poison`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app._open import held_out, open_data
from psiphi.app._options import Bounds, Json, Limit, Quiet, Seed, Set
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.data import Data
    from psiphi.poisoning import Poison, Poisoned, Trials, Victim

NAMES = ("label_flip", "outliers", "backdoor", "feature_collision", "gradient_matching")
TARGETED = NAMES[3:]
SHOWN = 8
Made = Callable[[int], "Poison"]


def poison(
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMES)}.", show_default=False)],
    data: Annotated[str, typer.Option(help="Name, file or folder of labelled data: digits, mnist/.")] = "digits",
    fraction: Annotated[float, typer.Option(help="Of the training rows, how many may be tainted.")] = 0.01,
    target: Annotated[
        int | None, typer.Option(help="The class to be reached; of feature_collision and gradient_matching too.")
    ] = None,
    source: Annotated[int | None, typer.Option(help="Of label_flip: only rows of this class.")] = None,
    eps: Annotated[
        float | None, typer.Option(help="Largest change of a pixel, where labels are kept.")
    ] = None,
    set_: Set = None,
    trials: Annotated[int, typer.Option(help="Clean and poisoned models to train.")] = 5,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter", help="Clean the rows, train again: spectral, clustering, reconstruction or neighbours."
        ),
    ] = None,
    net: Annotated[str, typer.Option(help="The victim's network: mlp or conv.")] = "mlp",
    hidden: Annotated[str, typer.Option(help="Its widths, e.g. 512,256.")] = "128",
    epochs: Annotated[int, typer.Option(help="Of its training.")] = 20,
    rows: Annotated[int | None, typer.Option(help="The first so many training rows.")] = None,
    limit: Limit = 1000,
    bounds: Bounds = "0,1",
    seed: Seed = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Folder for tainted data, pictures and numbers.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Taint a share of the training rows, train clean and poisoned models from the same weights, and compare them.

    feature_collision and gradient_matching aim at one test row a trial, which is to be taken for the target, by default
    for its second-likeliest class; the first is tried on a victim that learns its last layer only.

    [bold]Example[/bold]   psiphi poison backdoor --fraction 0.02 --target 0 --filter reconstruction --out runs/poison
    """
    from functools import partial

    from psiphi.defenses import filter_poison
    from psiphi.defenses._filter_poison import METHODS
    from psiphi.poisoning import trials as measure

    if filter_ is not None and filter_ not in METHODS:
        raise ArgumentError(f"no filter is called {filter_!r}; use {', '.join(METHODS)}.")
    _, loaded = open_data(data)
    train, test = _labelled(loaded, rows, limit)
    walls = attacking.bounds(bounds)
    victim = _victim(loaded, net, hidden, epochs)
    given = {"fraction": fraction, "target": target, "source": source, "eps": eps, **arguments.settings(set_)}
    made, victim = _maker(name, given, victim, train, test, seed)
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
    chosen = filter_ and partial(
        _filter, partial(filter_poison, method=filter_, fraction=fraction, seed=seed)
    )
    with out.spoken_warnings(quiet), out.progress(f"poison {name}", quiet, "trial") as move:
        found = measure(
            made,
            victim,
            train,
            test,
            trials,
            seed=seed,
            filter=chosen or None,
            bounds=walls,
            on_progress=move,
        )
    record: dict[str, Any] = {"data": data, "filter": filter_, **found.as_dict()}
    if to is not None:
        tainted = made(0)(*train, seed=found.lines[0].seed, bounds=walls)
        record["files"] = _written(to, tainted, found, record, walls)
    if json:
        return out.emit(record)
    _show(found, record)
    return None


def _filter(chosen: Any, x: Tensor, y: Tensor, model: Any) -> Any:
    return chosen(x, y, model=model)


def _labelled(loaded: Data, rows: int | None, limit: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    import torch

    from psiphi.basis.shapes import as_float

    x, y, _ = attacking.known(
        as_float(torch.as_tensor(loaded.train.x[:rows])), _cut(loaded.train.y, rows), None
    )
    x_test, y_test, _ = attacking.known(*held_out(loaded, limit), None)
    if y is None or y_test is None:
        raise ArgumentError(
            f"{loaded.name} has no labels, and a poison is of a classifier: name labelled data."
        )
    return (x, y), (x_test, y_test)


def _cut(y: Any, rows: int | None) -> Any:
    return None if y is None else y[:rows]


def _victim(loaded: Data, net: str, hidden: str, epochs: int) -> Victim:
    from psiphi.poisoning import Victim
    from psiphi.zoo import classifier

    widths, classes = arguments.numbers(hidden, "--hidden"), max(2, len(loaded.classes))
    return Victim(
        lambda seed: classifier(loaded.shape, classes, net=net, hidden=widths, seed=seed),
        {"epochs": epochs, "lr": 3e-3, "batch_size": 64},
    )


def _maker(
    name: str, given: dict[str, Any], victim: Victim, train: Any, test: Any, seed: int
) -> tuple[Any, Victim]:
    """trial -> poison, and who is poisoned by it."""
    from psiphi import poisoning

    name = name.replace("-", "_")
    if name not in NAMES:
        raise ArgumentError(f"no poison is called {name!r}; use {', '.join(NAMES)}.")
    given = {key: value for key, value in given.items() if value is not None}
    build = getattr(poisoning, name)
    if name not in TARGETED:
        if name == "backdoor" and "target" not in given:
            raise ArgumentError("a backdoor opens to a class: name it, e.g. --target 0.")
        value = _called(build, name, given)
        return (lambda trial: value), victim
    return _aimed(build, name, given, victim, train, test, seed)


def _aimed(
    build: Any, name: str, given: dict[str, Any], victim: Victim, train: Any, test: Any, seed: int
) -> tuple[Made, Victim]:
    """A test row a trial, of those that a model trained on the clean rows gets right."""
    import torch

    from psiphi.basis.noise import mix
    from psiphi.models import Penultimate
    from psiphi.poisoning import head

    surrogate = victim.train(*train, seed=mix(seed, "surrogate") >> 33)
    label = given.pop("target", None)
    x, y = test
    with torch.no_grad():
        logits = surrogate(x)
    able = logits.argmax(1) == y
    if label is not None:
        able &= y != label
    able = able.nonzero().squeeze(1)
    if not len(able):
        raise ArgumentError("no test row could be a target: all are wrong already, or of the class to reach.")
    body = Penultimate(surrogate) if name == "feature_collision" else surrogate

    def made(trial: int) -> Poison:
        row = int(able[mix(seed, "target", trial) % len(able)])
        toward = int(logits[row].topk(2).indices[1]) if label is None else label
        return _called(build, name, given, body, x[row], toward)

    if name == "feature_collision":
        size = body(x[:1]).shape[1]
        victim = head(body, size, tuple(x.shape[1:]), logits.shape[1], **victim.recipe)
    return made, victim


def _called(build: Any, name: str, given: dict[str, Any], *first: Any) -> Poison:
    try:
        return build(*first, **given)
    except TypeError as error:
        raise ArgumentError(f"{name} does not take these arguments ({error}).") from None


def _written(folder: Path, tainted: Poisoned, found: Trials, record: dict[str, Any], walls: Any) -> list[str]:
    from psiphi.app import pictures

    tainted.save(folder / "poisoned")
    names = ["poisoned.npz", "poisoned.json"]
    if pictures.is_image(tuple(tainted.x.shape[1:])) and len(tainted):
        pictures.save_poisons(
            folder / "poisons.png", tainted.base_x[:SHOWN], tainted.x[tainted.rows[:SHOWN]], *walls
        )
        names.append("poisons.png")
    found.save(folder / "trials.json")
    written = [str(folder / each) for each in [*names, "trials.json", "summary.json"]]
    files.write_json(folder / "summary.json", out.plain({**record, "files": written}))
    return written


def _show(found: Trials, record: dict[str, Any]) -> None:
    out.say(f"{record['poison']}, {len(found)} trials; success: {record['aim']}")
    rows = [[what, _percent(mean.value), _interval(mean.low, mean.high)] for what, mean in found.table()]
    out.table(["", "mean", "95% interval"], rows)
    out.say(
        "Clean and poisoned models start from the same weights; intervals are over trials, by Student, and by Clopper "
        "and Pearson where each trial has one target."
    )
    if record["filter"]:
        out.say(f"The filter {record['filter']} removed {found.column('removed').mean():.0f} rows a trial.")
    for path in record.get("files", []):
        out.say(f"Wrote {path}")


def _percent(value: float) -> str:
    return "—" if value != value else out.percent(value)


def _interval(low: float, high: float) -> str:
    return "—" if low != low else f"[{low:.1%}, {high:.1%}]"
