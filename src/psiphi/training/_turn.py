"""A player's turn: what one update does, on one device or many."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.parts import Batch, Clock, Player
from psiphi.training._adam import lean_step

Losses = dict[str, Tensor]


class Turn(nn.Module):
    """`forward(batch, clock)` is the player's loss; opponents are closed over, not registered."""

    def __init__(self, player: Player):
        super().__init__()
        self.module = player.module
        self.__dict__["player"] = player

    def forward(self, batch: Batch, clock: Clock) -> Losses:
        return self.__dict__["player"].loss(self.module, batch, clock)


class Seat:
    """A player at the table: its turn, optimiser, schedule and averaged weights."""

    def __init__(
        self, player: Player, lr: float | None, optimizer: Any, ema: float | None, lone: bool = False
    ):
        self.player, self.lone, self.looked = player, lone, False
        self.rule = (
            replace(player.optimizer, **optimizer)
            if isinstance(optimizer, dict)
            else optimizer or player.optimizer
        )
        self.parameters = [p for p in player.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ArgumentError(f"{type(player.module).__name__} has no parameters to train.")
        self.optimizer: Any = self.rule(self.parameters)
        self.base = [lr or group["lr"] for group in self.optimizer.param_groups]
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base
        self.inputs: list[nn.Parameter] | None = self.parameters
        self.turn: Any = Turn(player)
        self.forward: Callable[[Batch, Clock], Losses] = (
            self.turn.forward
        )  # no hooks to run; a wrapper sets its own
        self.step: Callable[[], Any] | None = None
        self.clip: Callable[[float], Any] = lambda bound: nn.utils.clip_grad_norm_(self.parameters, bound)
        self.decay = player.ema if ema is None or not player.averaged else ema
        self.average = None if self.decay is None else Average(player.module, self.decay)

    def _inputs(self, loss: Tensor) -> list[nn.Parameter] | None:
        """Whose gradients to compute; None, which is cheaper, where a lone player's loss touches nothing else."""
        own = {id(parameter) for parameter in self.parameters}
        return None if self.lone and leaves(loss) <= own else self.parameters

    def update(self, batch: Batch, clock: Clock, weight: float, backward: Callable[..., None]) -> Losses:
        """One gradient step; the losses come back detached, on the device."""
        schedule = getattr(self.rule, "schedule", None)
        if schedule is not None:
            factor = schedule(clock.step / clock.steps)
            for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
                group["lr"] = base * factor
        losses = self.forward(batch, clock)
        loss = losses["loss"] if weight == 1.0 else losses["loss"] * weight
        if not self.looked:
            self.inputs, self.looked = self._inputs(loss), True
        backward(loss, inputs=self.inputs)
        clip = getattr(self.rule, "clip", None)
        if clip is not None:
            self.clip(clip)
        if self.step is None:
            self.optimizer.step()
            self.step = lean_step(self.optimizer)
        else:
            self.step()
        if self.player.after_step is not None:
            with torch.no_grad():
                self.player.after_step(self.player.module)
        for parameter in self.parameters:
            parameter.grad = None
        if self.average is not None:
            self.average.update()
        return {name: value.detach() for name, value in losses.items()}


def leaves(loss: Tensor) -> set[int]:
    """The ids of the tensors that the backward pass of this loss would give a gradient."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


class Average:
    """Exponential moving average of a module's weights, θ̄ ← d θ̄ + (1 − d) θ, d = min(decay, (1 + n)/(10 + n)).

    Buffers are the module's own: they are never averaged.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay, self.count = module, decay, 0
        self.copy = deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        self.count += 1
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.copy.parameters()), list(self.module.parameters()), 1 - decay
        )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged weights with the module's own; twice is nothing."""
        for mine, theirs in zip(self.copy.parameters(), self.module.parameters(), strict=True):
            mine.data, theirs.data = theirs.data, mine.data
