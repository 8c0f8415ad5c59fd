"""Files that are whole or not there: temporary file, fsync, rename.

A *bundle* is a pair `stem.json` + `stem.safetensors`. The JSON names the SHA-256 of the tensors and
is the commit point, so that a kill at any moment leaves the old pair or the new one, never a mixture:

1. `stem.safetensors.next` is written whole;
2. `stem.json` is replaced (commit);
3. `.next` is renamed to `stem.safetensors`. A reader that finds step 3 undone reads `.next`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psiphi.basis.errors import FileError


def write(path: str | Path, data: bytes | str) -> None:
    """Replace `path` by `data`, whole or not at all; a `FileError` where the disk will not."""
    path = Path(path)
    try:
        _write(path, data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror or error}); what was saved before is unchanged: free space or "
            f"choose another folder."
        ) from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fchmod(handle, 0o666 & ~_umask())
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append(path: str | Path, text: str) -> None:
    """Add lines to a log; a kill can cut the last one, which the next run writes anew."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise FileError(f"{path} cannot be written ({error.strerror or error}).") from error


def _rename(old: Path, new: Path) -> None:
    try:
        os.replace(old, new)
        _sync_folder(new.parent)
    except OSError as error:
        raise FileError(f"{old} cannot be renamed to {new.name} ({error.strerror or error}).") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, record: Any) -> None:
    write(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=True) + "\n")


def read_json(path: str | Path) -> Any:
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read as JSON ({error}): it is corrupt or cut short.") from None


def write_bundle(folder: str | Path, stem: str, tensors: Mapping[str, Any], record: dict[str, Any]) -> None:
    """Write `stem.safetensors` and `stem.json` so that a reader sees the old pair or the new one."""
    from safetensors.torch import save

    folder = Path(folder)
    data = save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    weights, upcoming = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.next"
    if _digest(upcoming) == _committed(folder, stem) is not None:
        _rename(upcoming, weights)
    write(upcoming, data)
    write_json(folder / f"{stem}.json", {**record, "sha256": digest})
    _rename(upcoming, weights)


def read_bundle(folder: str | Path, stem: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record and the tensors of a bundle; a `FileError` if either is corrupt."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    record = read_json(folder / f"{stem}.json")
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise FileError(f"{folder / f'{stem}.json'} is not a psiphi file: it lacks the field sha256.")
    for name in (f"{stem}.safetensors", f"{stem}.safetensors.next"):
        try:
            data = (folder / name).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(data).hexdigest() == record["sha256"]:
            try:
                return record, load(data)
            except (SafetensorError, ValueError, KeyError) as error:
                raise FileError(f"{folder / name} holds no safetensors ({error}).") from None
    raise FileError(
        f"{folder / f'{stem}.safetensors'} is missing, cut short or changed: its SHA-256 is not the one in "
        f"{stem}.json. Restore it from a copy."
    )


def _committed(folder: Path, stem: str) -> str | None:
    try:
        record = read_json(folder / f"{stem}.json")
    except FileError:
        return None
    return record.get("sha256") if isinstance(record, dict) else None


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
