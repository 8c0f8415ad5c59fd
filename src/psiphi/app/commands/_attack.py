"""`psiphi attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _console as out
from psiphi.app._open import held_out, open_classifier, open_data, open_model
from psiphi.app._options import Data, Json, Quiet, Seed, Set
from psiphi.basis.errors import ArgumentError


def attack(
    model: Annotated[
        str,
        typer.Argument(help="A classifier's run, or module:function of your own code.", show_default=False),
    ],
    name: Annotated[
        str, typer.Option("--attack", help="An attack's name; `psiphi models` lists them.")
    ] = "pgd",
    threat: Annotated[
        str, typer.Option(help="What may change, and how much: linf:0.2, linf:8/255, l2:1.5.")
    ] = "linf:0.1",
    steps: Annotated[int | None, typer.Option(help="Steps of the attack.")] = None,
    step: Annotated[float | None, typer.Option(help="Length of a step, in the data's units.")] = None,
    restarts: Annotated[int | None, typer.Option(help="Random starts a row.")] = None,
    set_: Set = None,
    data: Data = None,
    limit: Annotated[int, typer.Option(help="The first so many test rows.")] = 256,
    with_: Annotated[
        Path | None,
        typer.Option("--with", help="A model's run: repeat with its projection in front (purification)."),
    ] = None,
    bounds: Annotated[str, typer.Option(help="Range of valid data.")] = "0,1",
    batch_size: Annotated[int, typer.Option(help="Rows at once; no number depends on it.")] = 256,
    seed: Seed = 0,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for pictures, adversarial inputs and numbers.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Attack a classifier on the test split under a stated threat, with and without a purifier in front.

    [bold]Example[/bold]   psiphi attack runs/classifier --attack pgd --threat linf:0.2 --steps 40 --with runs/vae
    """
    import psiphi.attacks  # noqa: F401  registers the attacks
    from psiphi.access import white_box
    from psiphi.app._judge import GRAY_ALONE, defend
    from psiphi.attacks.threats import parse
    from psiphi.basis.registry import attacks

    given = {"steps": steps, "step": step, "restarts": restarts, **arguments.settings(set_)}
    search = arguments.build(attacks[name], "attack", given, parse(threat))
    classifier = open_classifier(model)
    purifier = None if with_ is None else open_model(with_)
    if purifier is not None:
        purifier.project  # noqa: B018  a model that cannot says so before the attack, not after
    spec, loaded = open_data(data, classifier)
    x, y = _known(*held_out(loaded, limit))
    low, high = _bounds(bounds)
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    with out.progress(repr(search), quiet) as move:
        result = search(white_box(classifier, (low, high)), x, y, on_progress=move, **how)
    if y is None:
        out.note("note: the data have no labels, so the classifier's own answers stand for the truth.", quiet)
        y = result_labels(classifier, x)
    defended = None
    if purifier is not None:
        with out.progress(f"{search!r} through the purifier", quiet) as move:
            access = lambda safe: white_box(safe, (low, high))  # noqa: E731
            defended = defend(
                search, classifier, purifier, x, y, result, access=access, on_progress=move, **how
            )
    record = _record(model, with_, spec, result, defended)
    if to is not None:
        record["files"] = _write(to, classifier, purifier, x, y, result, record, (low, high))
    if json:
        return out.emit(record)
    _print(record, repr(search))
    if defended is not None:
        out.say(GRAY_ALONE)
    return None


def result_labels(classifier: Any, x: Any) -> Any:
    from psiphi.app._judge import labels_of

    return labels_of(classifier, x)[0]


def _known(x: Any, y: Any) -> tuple[Any, Any]:
    """Rows with a label, where there are any labels at all."""
    if y is None or bool((y >= 0).all()):
        return x, y
    if not bool((y >= 0).any()):
        return x, None
    return x[y >= 0], y[y >= 0]


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(f"--bounds is {text!r}; two numbers with a comma are needed, e.g. 0,1.") from None
    return low, high


def _record(model: str, with_: Path | None, spec: str, result: Any, defended: Any) -> dict[str, Any]:
    from psiphi.app._judge import Share, robust

    broken = result.success & ~result.already_met
    record = {
        "model": model,
        "data": spec,
        "attack": result.provenance["attack"],
        "kind": result.kind,
        "rows": len(result),
        "clean_accuracy": Share(int((~result.already_wrong).sum()), len(result)).as_dict(),
        "robust_accuracy": robust(result).as_dict(),
        "broken": int(broken.sum()),
        "undecided": int(result.undecided.sum()),
        "median_distance": float(result.distance[broken].median()) if broken.any() else None,
        "forwards": int(result.forwards.sum()),
        "backwards": int(result.backwards.sum()),
        "provenance": result.provenance,
    }
    if defended is not None:
        record["purifier"] = {"model": str(with_), **defended.as_dict()}
    return record


def _print(record: dict[str, Any], attack: str) -> None:
    shares = [
        ("clean", record["clean_accuracy"]),
        (f"under {attack}", record["robust_accuracy"]),
    ]
    if purifier := record.get("purifier"):
        shares += [
            ("purified, clean", purifier["clean"]),
            ("purified, the same images (gray-box)", purifier["gray"]),
            ("purified, attacked through it (white-box)", purifier["white"]),
        ]
    rows = [
        [name, out.percent(each["value"]), "[{:.1%}, {:.1%}]".format(*each["interval"]), each["n"]]
        for name, each in shares
    ]
    out.table(["accuracy", "", "95% interval (Wilson)", "rows"], rows)
    distance = record["median_distance"]
    moved = "" if distance is None else f", at a median distance of {distance:.4g}"
    out.say(
        f"{record['broken']} rows broken{moved}; {record['undecided']} undecided (counted as broken). "
        f"{record['forwards']} forward and {record['backwards']} backward passes of a row."
    )
    for path in record.get("files", []):
        out.say(f"Wrote {path}")


def _write(
    folder: Path,
    classifier: Any,
    purifier: Any,
    x: Any,
    y: Any,
    result: Any,
    record: dict[str, Any],
    bounds: Any,
) -> list[str]:
    from psiphi.app import gallery, pictures
    from psiphi.basis import files

    result.save(folder / "result")
    written = [folder / "result.npz", folder / "result.json"]
    if pictures.is_image(tuple(x.shape[1:])):
        shown = gallery.build(classifier, purifier, x, y, result, bounds=bounds)
        if shown:
            gallery.save(folder / "attack.png", shown)
            written.append(folder / "attack.png")
    files.write_json(folder / "summary.json", out.plain(record))
    return [str(path) for path in (*written, folder / "summary.json")]
