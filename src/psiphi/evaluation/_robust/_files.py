"""An evaluation of robustness as two files."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from psiphi.attacks import Curve, Result
from psiphi.basis.errors import FileError
from psiphi.evaluation import _records
from psiphi.evaluation._honest._record import Honesty

if TYPE_CHECKING:
    from psiphi.evaluation._robust._record import Robustness

_FORMAT = "psiphi robustness 1"
_REST = ("kind", "targeted", "provenance")


def save(record: Robustness, path: str | Path) -> None:
    """Write `path`.npz, then `path`.json."""
    tensors: dict[str, Tensor] = {}
    told: dict[str, Any] = {
        "threats": record.threats,
        "provenance": record.provenance,
        "numbers": record.as_dict(),
    }
    for part in ("attacks", "worst", "curves"):
        told[part] = []
        for place, (name, held) in enumerate(getattr(record, part).items()):
            values = {f.name: getattr(held, f.name) for f in fields(held)}
            tensors |= {
                f"{part}/{place}/{key}": value for key, value in values.items() if isinstance(value, Tensor)
            }
            told[part].append({"name": name, **{key: values[key] for key in _REST if key in values}})
    told["judged"] = []
    for place, (name, honesty) in enumerate(record.judged.items()):
        columns, rest = honesty.packed()
        tensors |= {f"judged/{place}/{key}": column for key, column in columns.items()}
        told["judged"].append({"name": name, **rest})
    _records.save(path, _FORMAT, tensors, told)


def load(path: str | Path) -> dict[str, Any]:
    """The fields of the record. Raises `FileError`."""
    tensors, record = _records.load(path, "robustness record", _FORMAT)
    made: dict[str, Any] = {}
    try:
        for part, kind in {"attacks": Result, "worst": Result, "curves": Curve}.items():
            made[part] = {}
            for place, rest in enumerate(record[part]):
                given = {key: value for key, value in rest.items() if key != "name"}
                made[part][rest["name"]] = kind(**_under(tensors, f"{part}/{place}/"), **given)
        made["judged"] = {
            rest["name"]: Honesty.unpacked(_under(tensors, f"judged/{place}/"), rest)
            for place, rest in enumerate(record["judged"])
        }
        return made | {"threats": record["threats"], "provenance": record["provenance"]}
    except (KeyError, TypeError) as error:
        raise FileError(f"{path} is no robustness record: it lacks {error}.") from None


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
