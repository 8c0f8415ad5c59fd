"""Records of judgement as files: every tensor in `.npz` under a name, the rest in `.json`, which lists these names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from psiphi.attacks import _files
from psiphi.basis import files
from psiphi.basis.errors import FileError


def save(path: str | Path, form: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write `path`.npz, then `path`.json."""
    _files.save(path, tensors, {"format": form, "tensors": list(tensors), **record})


def load(path: str | Path, kind: str, form: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote; nothing is unpickled. Raises `FileError`."""
    base = Path(path)
    base = base.with_suffix("") if base.suffix in (".npz", ".json") else base
    record = files.read_json(base.with_name(base.name + ".json"))
    names = record.get("tensors") if isinstance(record, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileError(f"{base}.json is no {kind} of this version ({form}).")
    return _files.load(base, kind, form, names)
