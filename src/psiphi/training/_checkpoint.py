"""Checkpoints: everything the next step depends on, as safetensors and JSON, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis import files
from psiphi.basis.errors import FileError
from psiphi.training._turn import Seat

Tensors = dict[str, Tensor]


def snapshot(module: nn.Module) -> Tensors:
    """A copy of the weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def write(
    folder: Path, model: nn.Module, seats: list[Seat], best: Tensors | None, record: dict[str, Any]
) -> None:
    """Save model, optimisers, averages and best weights; `record` holds the place and the history."""
    tensors = _prefixed("model", model.state_dict())
    if best is not None:
        tensors |= _prefixed("best", best)
    players = []
    for i, seat in enumerate(seats):
        state = seat.optimizer.state_dict()
        for key, slots in state["state"].items():
            tensors |= {f"optimizer.{i}.{key}.{name}": value for name, value in _tensors(slots)}
        players.append({"groups": state["param_groups"], "count": seat.average.count if seat.average else 0})
        if seat.average is not None:
            tensors |= _prefixed(f"average.{i}", dict(seat.average.copy.named_parameters()))
    files.write_bundle(folder, "checkpoint", tensors, {**record, "players": players})


def _tensors(slots: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in slots.items():
        if value is not None:
            yield name, torch.as_tensor(value)


def exists(folder: Path) -> bool:
    return (folder / "checkpoint.json").exists()


def read(folder: Path, model: nn.Module, seats: list[Seat]) -> tuple[dict[str, Any], Tensors | None]:
    """Restore what `write` saved; returns the record and the best weights.

    Raises `FileError` where the checkpoint is corrupt or another model's.
    """
    record, tensors = files.read_bundle(folder, "checkpoint")
    try:
        model.load_state_dict(_under("model", tensors))
        for i, (seat, player) in enumerate(zip(seats, record["players"], strict=True)):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _under(f"optimizer.{i}", tensors).items():
                key, _, slot = name.partition(".")
                state.setdefault(int(key), {})[slot] = value
            seat.optimizer.load_state_dict({"state": state, "param_groups": player["groups"]})
            if seat.average is not None:
                seat.average.count = int(player["count"])
                seat.average.copy.load_state_dict(_under(f"average.{i}", tensors), strict=False)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FileError(
            f"the checkpoint in {folder} is another model's or another version's ({error})."
        ) from None
    return record, _under("best", tensors) or None
