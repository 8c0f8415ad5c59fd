"""Records as files: arrays in `.npz`, the rest in `.json`, which names the SHA-256 of the former; no pickle."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis import files
from psiphi.basis.errors import FileError


def save(path: str | Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write `path`.npz, then `path`.json. `record` names its `format`."""
    base, buffer = _base(path), io.BytesIO()
    arrays: dict[str, Any] = {name: _array(tensor) for name, tensor in tensors.items()}
    np.savez_compressed(buffer, **arrays)
    data = buffer.getvalue()
    files.write(_with(base, ".npz"), data)
    files.write_json(_with(base, ".json"), {**record, "sha256": hashlib.sha256(data).hexdigest()})


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def load(
    path: str | Path, kind: str, form: str, names: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of these names, and the record, of what `save` wrote. Raises `FileError`."""
    base = _base(path)
    record = files.read_json(_with(base, ".json"))
    if not isinstance(record, dict) or record.get("format") != form:
        raise FileError(f"{_with(base, '.json')} is no {kind} of this version ({form}).")
    npz = _with(base, ".npz")
    try:
        data = npz.read_bytes()
    except OSError as error:
        raise FileError(f"{npz} cannot be read ({error}).") from None
    if hashlib.sha256(data).hexdigest() != record.get("sha256"):
        raise FileError(f"{npz} is cut short or changed: its SHA-256 is not the one in {base.name}.json.")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            wanted = [*names, *(name for name in optional if name in arrays)]
            return {name: torch.from_numpy(arrays[name]) for name in wanted}, record
    except (KeyError, ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
        raise FileError(f"{npz} is no {kind} ({error}).") from None


def _base(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".npz", ".json") else path


def _with(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)
