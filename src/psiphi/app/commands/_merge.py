"""`psiphi merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._options import Json
from psiphi.basis.errors import ArgumentError, FileError

if TYPE_CHECKING:
    from psiphi.app._attacked import Curves
    from psiphi.attacks import Result

SAME = {
    "attack": "the attack",
    "access": "the access",
    "seed": "the seed",
    "stop_early": "leaving early",
    "dtype": "the dtype",
    "versions": "the versions",
}
SAME_RUN = {
    "model_sha256": "the model's weights",
    "data_sha256": "the data",
    "rows": "the number of rows",
    "target": "the target",
    "eps": "the radii of the curve",
    "independent": "how the curve was made",
}


def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="What psiphi attack --shard wrote, in any order.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder for the whole.", show_default=False)],
    json: Json = False,
) -> None:
    """Join the shards of one attack: what the whole run would have written, row by row.

    [bold]Example[/bold]   psiphi merge out/1 out/2 out/3 --out out/whole
    """
    from psiphi.app import _attacked as attacked
    from psiphi.attacks import Result

    parts = [Result.load(folder / "result") for folder in folders]
    _check_same(folders, parts)
    _check_whole(folders, parts)
    result = Result.cat(parts)
    result.provenance["run"] = whole = {**parts[0].provenance["run"], "shard": None}
    curves = _curves(folders, result)
    record = attacked.record(result, curves, model=whole["model"], data=whole["data"], target=whole["target"])
    record["files"] = attacked.write(to, result, curves, record, [])
    if json:
        return out.emit(record)
    attacked.show(record)
    return None


def _curves(folders: list[Path], result: Result) -> Curves | None:
    from psiphi.app import _attacked as attacked
    from psiphi.attacks import Curve

    whole = result.provenance["run"]
    if result.kind == "minimum-norm":
        return attacked.from_distances(result)
    if whole["eps"] is None:
        return None
    curve = Curve.cat([Curve.load(folder / "curve") for folder in folders])
    return attacked.Curves(curve, curve, whole["norm"], whole["chance"])


def _check_same(folders: list[Path], parts: list[Result]) -> None:
    """Refuse parts of different runs, and say in what they differ."""
    first: dict[str, Any] = parts[0].provenance
    for folder, part in zip(folders, parts):
        told = part.provenance
        if not isinstance(told.get("run"), dict):
            raise FileError(f"{folder} was not written by psiphi attack: it does not say of which run it is.")
        pairs = [(words, told.get(key), first.get(key)) for key, words in SAME.items()]
        pairs += [(words, told["run"].get(key), first["run"].get(key)) for key, words in SAME_RUN.items()]
        differ = [(words, mine, other) for words, mine, other in pairs if mine != other]
        if differ:
            said = "; ".join(f"{words} ({_apart(other, mine)})" for words, mine, other in differ)
            raise ArgumentError(
                f"{folders[0]} and {folder} are not of one run, they differ in {said}: attack again with the same "
                "options."
            )


def _check_whole(folders: list[Path], parts: list[Result]) -> None:
    """Refuse rows that come twice, and rows that are missing."""
    owner: dict[int, Path] = {}
    for folder, part in zip(folders, parts):
        for row in part.row.tolist():
            if row in owner:
                raise ArgumentError(f"row {row} is in {owner[row]} and in {folder}: name each shard once.")
            owner[row] = folder
    n = parts[0].provenance["run"]["rows"]
    missing = [row for row in range(n) if row not in owner]
    if missing:
        shards = ", ".join(str(part.provenance["run"]["shard"]) for part in parts)
        listed = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise ArgumentError(
            f"{len(missing)} of {n} rows are missing ({listed}); there are the shards {shards}: name the others too."
        )


def _apart(one: Any, other: Any) -> str:
    """Two values that differ, of records only what differs in them."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        one, other = ({key: each.get(key) for key in keys} for each in (one, other))
    return " and ".join(_short(str(each)) for each in (one, other))


def _short(text: str) -> str:
    digest = len(text) == 64 and text.isalnum()
    return f"{text[:8]}…" if digest else text if len(text) <= 80 else f"{text[:79]}…"
