"""Models on disk: a folder with `model.json` (recipe, provenance) and `model.safetensors`. Nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, FileError, PsiphiError
from psiphi.basis.provenance import versions
from psiphi.basis.registry import models
from psiphi.models._base import Model

FORMAT = 1
DTYPES = ("float32", "float64", "bfloat16", "float16")


def save(model: Model, path: str | Path) -> None:
    """Write the model to the folder `path`, whole or not at all; an old one there is replaced.

    Raises `FileError` if something else is in the way.
    """
    folder = Path(path)
    if folder.is_file():
        raise FileError(f"{folder} is a file; a model is saved as a folder: give another name.")
    files.write_bundle(folder, "model", dict(model.state_dict()), _record(model))


def _record(model: Model) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "psiphi": versions()["psiphi"],
        "recipe": to_json(model.recipe),
        "dtype": str(model.dtype).removeprefix("torch."),
        "provenance": to_json(model.provenance),
    }


def load(path: str | Path, into: Model | None = None, device: str | torch.device = "cpu") -> Any:
    """Read a saved model.

    into: a model of the same build to fill, for networks of your own that no registered builder makes.
    Raises `FileError` where the files are missing, corrupt, of another version or another model.
    """
    folder = Path(path)
    record, tensors = files.read_bundle(folder, "model")
    _check_format(record, str(folder))
    try:
        return _restored(record, tensors, into).to(device)
    except FileError as error:
        raise FileError(f"{folder}: {error}") from None


def to_bytes(model: Model) -> bytes:
    """The model as bytes: safetensors, with what `model.json` would say in their header."""
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()
    }
    return save(tensors, metadata={"psiphi": json.dumps(_record(model))})


def from_bytes(data: bytes) -> Any:
    """The model of `to_bytes`, on the CPU; a `FileError` where the bytes are something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        record = json.loads(header["__metadata__"]["psiphi"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"these bytes hold no model ({error}).") from None
    _check_format(record, "the model in these bytes")
    return _restored(record, tensors)


def _check_format(record: Mapping[str, Any], what: str) -> None:
    if record.get("format") != FORMAT:
        raise FileError(
            f"{what} has file format {record.get('format')!r}; this psiphi reads {FORMAT}: "
            f"use psiphi {record.get('psiphi', 'of that version')}."
        )


def _restored(record: Mapping[str, Any], tensors: Mapping[str, Tensor], into: Model | None = None) -> Any:
    model = _build(record) if into is None else into
    _fill(model, tensors, into is None)
    provenance = record.get("provenance")
    model.provenance = provenance if isinstance(provenance, dict) else {}
    return model.eval()


def _build(record: Mapping[str, Any]) -> Model:
    recipe = record.get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("arguments"), dict):
        raise FileError("model.json names no recipe; pass pp.load(path, into=model).")
    name, arguments = str(recipe.get("model")), recipe["arguments"]
    custom = [key for key, value in arguments.items() if isinstance(value, dict) and "custom" in value]
    if custom:
        raise FileError(
            f"the model was built with {custom[0]}={arguments[custom[0]]['custom']} of your own; "
            f"build it again and pass pp.load(path, into=model), or register a builder with pp.zoo.register."
        )
    if name not in models:
        raise FileError(
            f"no builder is called {name!r}: import the module that registers it, or pass into=model."
        )
    if record.get("dtype") not in DTYPES:
        raise FileError(f"the type of its weights is {record.get('dtype')!r}, none of {', '.join(DTYPES)}.")
    try:
        with torch.device("meta"):
            model = models[name].build(**{key: _frozen(value) for key, value in arguments.items()})
        return model.to(getattr(torch, record["dtype"]))
    except (
        PsiphiError,
        TypeError,
        ValueError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
        AttributeError,
    ) as error:
        raise FileError(f"the recipe in model.json cannot be built ({error}).") from None


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], fresh: bool) -> None:
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise FileError(
            f"the weights belong to another model (missing: {missing[:3]}, unknown: {extra[:3]})."
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise FileError(
                f"{name} has shape {tuple(tensor.shape)}, the model needs {tuple(wanted[name].shape)}: "
                f"the file is another model's."
            )
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise FileError(f"{name} holds {tensor.dtype}, the model needs {wanted[name].dtype}.")
    if not fresh:
        model.load_state_dict(dict(tensors))
        return
    model.to_empty(device="cpu")
    model.load_state_dict(dict(tensors))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def to_json(value: Any) -> Any:
    """What JSON can say of an argument; objects of your own are named, not stored."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Real):  # numpy's numbers
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | torch.Size):
        return [to_json(each) for each in value]
    if isinstance(value, nn.Module) or callable(value) or is_dataclass(value):
        return {"custom": getattr(value, "__name__", type(value).__name__)}
    if isinstance(value, Path):
        return str(value)
    raise ArgumentError(
        f"{value!r} ({type(value).__name__}) cannot be written to model.json; use plain values."
    )
