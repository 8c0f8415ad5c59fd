"""Purifiers of the command line: how they are made, and how their tables are told, drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from psiphi.app import _console as out
from psiphi.app import pictures, plots
from psiphi.app._open import open_model
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from psiphi.app._attacking import Seen
    from psiphi.app._defences import Case
    from psiphi.attacks import Attack
    from psiphi.defenses import Purified, Tuned
    from psiphi.evaluation import Adaptive

VALIDATION = 256
COLOURS = {"gray-box": "gray", "classifier alone, attacked": "bare"}
ADVICE = (
    "The gray-box number alone proves nothing: those points were made without the purifier in mind. "
    "The lowest number is an upper bound of the robustness, not a proof of it."
)


def purifiers(
    classifier: nn.Module, models: Mapping[Path, Any], settings: dict[str, Any], seed: int | None
) -> dict[str, Purified]:
    """One defence a model, by the name of its folder; each takes those of the settings that its `project` has.

    Raises `ArgumentError` for a setting that none has, `MissingVerb` for a model that cannot project.
    """
    from psiphi.defenses import purify

    made: dict[str, Purified] = {}
    used: set[str] = set()
    for path, model in models.items():
        bare = purify(classifier, model, seed=seed)
        mine = settings if len(models) == 1 else {k: v for k, v in settings.items() if k in bare.options}
        used |= mine.keys()
        name = path.name if path.name and path.name not in made else str(path)
        made[name] = purify(classifier, model, seed=seed, **mine)
    for name in settings.keys() - used:
        raise ArgumentError(
            f"none of the models projects with {name}; they take "
            + "; ".join(f"{key}: {', '.join(each.options) or 'nothing'}" for key, each in made.items())
            + "."
        )
    return made


def judge(
    case: Case, models: Sequence[Path], settings: dict[str, Any], fresh: bool, tune: bool, attack: Attack, draws: int,
    verify: int,
) -> dict[str, Any]:  # fmt: skip
    """Each purifier's table under five attackers, and the files; as a record."""
    from psiphi.evaluation import adaptive

    seed = None if fresh else case.seed
    made = purifiers(case.classifier, {path: open_model(path) for path in models}, settings, seed)
    check(made, case.x)
    case.place()
    told: dict[str, Any] = {**case.record(attack), "purifiers": {}}
    names: list[str] = []
    for key, safe in made.items():
        chosen = None
        if tune:
            with out.progress(f"levels of {key}", case.quiet, "level") as move:
                chosen = tuned(
                    safe, case.data, attack, case.seen.bounds, case.limit, case.seed, move, case.quiet
                )
            safe = safe if chosen is None else chosen.safe
        how: dict[str, Any] = {
            "draws": draws,
            "verify": verify,
            "seed": case.seed,
            "bounds": case.seen.bounds,
        }
        what = repr(attack).partition("(")[0]
        with (
            out.spoken_warnings(case.quiet),
            out.progress(f"{what} {attack.threat!r}, {key}", case.quiet, "row") as move,
        ):
            table = adaptive(
                safe, case.x, case.y, attack, batch_size=case.batch_size, on_progress=move, **how
            )
        told["purifiers"][key] = record(safe, table, chosen)
        if case.folder is not None:
            names += gallery_of(case.folder, key, safe, case.x, case.y, table, case.seen, case.data.classes)
    if case.folder is not None:
        told["files"] = write(case.folder, told, names)
    return told


def check(made: Mapping[str, Purified], x: Tensor) -> None:
    """A model of data of another shape says so before the attack, not after."""
    import torch

    with torch.no_grad():
        for each in made.values():
            each.project(x[:1])


def tuned(
    safe: Purified, data: Any, search: Any, bounds: Any, limit: int, seed: int, move: Callable[[int, int], None],
    quiet: bool,
) -> Tuned | None:  # fmt: skip
    """The best of the usual levels on validation rows; None, with a note, where there is nothing to choose."""
    import torch

    from psiphi import defenses
    from psiphi.basis.shapes import as_float

    x, y = data.validation.x, data.validation.y
    if y is None or not len(x):
        raise ArgumentError(f"{data.name} has no labelled validation rows to choose on: leave --tune out.")
    many = min(limit, VALIDATION)
    x, y = as_float(torch.as_tensor(x[:many])), torch.as_tensor(y[:many])
    known = y >= 0
    try:
        return defenses.tuned(safe, x[known], y[known], search, seed=seed, bounds=bounds, on_progress=move)
    except ArgumentError as error:
        out.note(f"note: nothing is chosen: {error}", quiet)
        return None


def record(safe: Purified, table: Adaptive, chosen: Tuned | None) -> dict[str, Any]:
    """The table in numbers."""
    told = {"purifier": repr(safe), **table.as_dict()}
    return told if chosen is None else {**told, "tuned": chosen.as_dict()}


def lines(told: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(name, numbers) from the classifier alone to the worst case."""
    parts = {"classifier alone, clean": told["bare_clean"], "classifier alone, attacked": told["bare"]}
    return list(
        {
            **parts,
            "purified, clean": told["clean"],
            **told["levels"],
            "worst of all": told["together"],
        }.items()
    )


def show(found: dict[str, Any]) -> None:
    """The record for people."""
    out.say(f"{found['attack']} on {found['rows']} test rows of {found['data']}")
    for name, told in found["purifiers"].items():
        out.say(f"\n{name}: {told['purifier']}")
        if chosen := told.get("tuned"):
            _show_tuned(chosen)
        out.table(
            ["accuracy", "", "95% interval", "forwards", "backwards", "remark"],
            [[key, *_cells(each), *_costs(each), _remark(each)] for key, each in lines(told)],
        )
    if len(found["purifiers"]) > 1:
        _show_all(found["purifiers"])
    for name, told in found["purifiers"].items():
        worst = told["worst"]
        gray = told["levels"]["gray-box"]["value"]
        out.say(
            f"{name}: {worst['value']:.1%} ({worst['level']}) is the number to report; gray-box says {gray:.1%}."
        )
    out.say(ADVICE)
    for path in found.get("files", []):
        out.say(f"Wrote {path}")


def _show_tuned(chosen: dict[str, Any]) -> None:
    names = list(chosen["chosen"])
    out.table(
        [*names, "clean", "attacked, not knowing it", ""],
        [
            [
                *(out.number(row[name]) for name in names),
                out.percent(row["clean"]),
                out.percent(row["changed"]),
                "chosen" if all(row[name] == chosen["chosen"][name] for name in names) else "",
            ]
            for row in chosen["table"]
        ],
        title=f"Chosen on {chosen['rows']} validation rows",
    )


def _show_all(purifiers: dict[str, Any]) -> None:
    first = next(iter(purifiers.values()))
    names = [name for name, _ in lines(first)][2:]
    out.table(
        ["purifier", *names],
        [
            [key, *(_cells(each)[0] for name, each in lines(told) if name in names)]
            for key, told in purifiers.items()
        ],
    )


def _cells(each: dict[str, Any]) -> list[str]:
    value = each["value"]
    if value is None:
        return ["—", "—"]
    return [out.percent(value), "[{:.1%}, {:.1%}]".format(*each["interval"])]


def _costs(each: dict[str, Any]) -> list[str]:
    return [f"{each[name]:,}".replace(",", " ") if each[name] else "—" for name in ("forwards", "backwards")]


def _remark(each: dict[str, Any]) -> str:
    held = each.get("noise_held")
    said = f"while its noise is held: {held['value']:.1%}" if held else ""
    return "; ".join(part for part in (said, each["note"]) if part)


def _repeated(each: dict[str, Any]) -> bool:
    """Whether the level is another's, since there was nothing of its own to run."""
    return bool(each["note"]) and not each["forwards"]


def gallery_of(
    folder: Path, name: str, safe: Purified, x: Tensor, y: Tensor, table: Adaptive, seen: Seen,
    classes: Sequence[str],
) -> list[str]:  # fmt: skip
    """Rows that the purifier loses at its worst: clean, the change, attacked, purified; nothing where none is."""
    import torch

    from psiphi.app import gallery

    if not pictures.is_image(tuple(x.shape[1:])):
        return []
    assert table.clean.right is not None
    assert table.together.right is not None
    broken = (table.clean.right > 0.5) & (table.together.right <= 0.5)
    told = SimpleNamespace(broken=broken, x=table.x, row=torch.arange(len(x)))
    shown = gallery.build(safe.classifier, safe, x, y, told, bounds=seen.span)
    if not shown:
        return []
    path = folder / f"{Path(name).name}.png"
    gallery.save(path, shown, classes)
    return [str(path)]


def write(folder: Path, found: dict[str, Any], names: list[str]) -> list[str]:
    """The levels as a picture, and the record; the paths of all."""
    rows = []
    for key, told in found["purifiers"].items():
        rows += [
            (
                f"{key}: {name}" if i > 1 else name,
                each["value"],
                tuple(each["interval"]),
                COLOURS.get(name, "white"),
            )
            for i, (name, each) in enumerate(lines(told))
            if each["value"] is not None
            and not _repeated(each)
            and (i > 1 or key == next(iter(found["purifiers"])))
        ]
    plots.png(
        folder / "levels.png", plots.spans(rows, "accuracy, 95 % interval"), (5.6, 0.6 + 0.42 * len(rows))
    )
    written = [*names, str(folder / "levels.png"), str(folder / "summary.json")]
    files.write_json(folder / "summary.json", out.plain({**found, "files": written}))
    return written
