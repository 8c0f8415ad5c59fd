"""Where training runs: alone on one device, or one of several processes under Lightning Fabric."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, LaunchError
from psiphi.training._turn import Seat

PRECISIONS = ("32", "bf16-mixed", "16-mixed")


class Alone:
    """One device at 32 bit: the loop calls the turn itself."""

    rank, size = 0, 1

    def __init__(self, device: torch.device):
        self.device = device

    def seat(self, seat: Seat) -> None:
        """Nothing to wrap."""

    def backward(self, loss: Tensor, inputs: Sequence[Tensor] | None) -> None:
        loss.backward(inputs=inputs)

    def sum(self, values: Tensor) -> Tensor:
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """There is nobody to share with."""


class Many:
    """One of several processes, or another precision: Fabric wraps each turn and its optimiser."""

    def __init__(self, device: torch.device, devices: int, precision: str):
        from lightning_fabric import Fabric

        launched = int(os.environ.get("WORLD_SIZE", "1"))
        nodes = int(os.environ.get("GROUP_WORLD_SIZE", os.environ.get("SLURM_NNODES", "1")))
        here = max(1, launched // nodes) if launched > 1 else devices
        kind: Any = {"cuda": "cuda", "mps": "mps"}.get(device.type, "cpu")
        lone: Any = precision
        strategy = "ddp" if here * nodes > 1 else "auto"
        self.fabric = Fabric(
            accelerator=kind, devices=here, num_nodes=nodes, strategy=strategy, precision=lone
        )
        self.fabric.launch()
        self.rank, self.size, self.device = (
            self.fabric.global_rank,
            self.fabric.world_size,
            self.fabric.device,
        )

    def seat(self, seat: Seat) -> None:
        seat.turn, seat.optimizer = self.fabric.setup(seat.turn, seat.optimizer)
        seat.forward = seat.turn
        seat.clip = lambda bound: self.fabric.clip_gradients(seat.turn, seat.optimizer, max_norm=bound)

    def backward(self, loss: Tensor, inputs: Sequence[Tensor] | None) -> None:
        self.fabric.backward(loss, inputs=inputs)

    def sum(self, values: Tensor) -> Tensor:
        summed = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    def share_buffers(self, module: nn.Module) -> None:
        """Rank 0's buffers on every rank."""
        if self.size > 1:
            for buffer in module.buffers():
                buffer.copy_(self.fabric.broadcast(buffer.clone()))


World = Alone | Many


def reseed(device: torch.device, key: int) -> None:
    """Set the global random state, which dropout and other people's modules read."""
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed(key)


def world(device: torch.device, devices: int, precision: str) -> World:
    """The world these arguments ask for.

    Raises `LaunchError` where processes cannot be started, with the line to type.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision is one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if not isinstance(devices, int) or devices < 1:
        raise ArgumentError(f"devices must be a whole number of at least 1; got {devices!r}.")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched == 1 and devices == 1:
        return Alone(device) if precision == "32" else Many(device, 1, precision)
    if launched == 1 and not _can_start():
        script = getattr(sys.modules["__main__"], "__file__", None) or "script.py"
        name = os.path.basename(script) if script.endswith(".py") and "pytest" not in script else "script.py"
        raise LaunchError(
            f"{devices} processes cannot be started from a notebook, pytest or a prompt: put the call in a script and "
            f"run it with: torchrun --nproc-per-node {devices} {name}"
        )
    return Many(device, devices, precision)


def _can_start() -> bool:
    script = getattr(sys.modules["__main__"], "__file__", None)
    return (
        script is not None and script.endswith(".py") and not ({"pytest", "ipykernel"} & sys.modules.keys())
    )
