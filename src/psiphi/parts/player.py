"""Players: the parameters each one moves, and its loss. Training knows nothing else of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from psiphi.basis.noise import Noise
from psiphi.parts.clock import Clock


class Batch:
    """Rows of data with the noise that belongs to them.

    x: (B, *shape), float; y: (B,) integer labels, −1 unknown, or None. No dataclass: wrappers of other
    precisions take those apart and would round x.
    """

    __slots__ = ("noise", "x", "y")

    def __init__(self, x: Tensor, y: Tensor | None, noise: Noise):
        self.x, self.y, self.noise = x, y, noise

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class adam:
    """Adam with decoupled weight decay, a schedule of the learning rate and a bound on the gradient's norm.

    schedule: fraction of training done -> factor on `lr`. clip: largest gradient norm, None for no bound.
    Source: Kingma & Ba, "Adam", 2015; Loshchilov & Hutter, "Decoupled weight decay regularization", 2019.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Callable[[float], float] | None = None
    clip: float | None = None

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        parameters = list(parameters)
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
        kind = torch.optim.AdamW if self.weight_decay else torch.optim.Adam
        return kind(
            parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=fused or None
        )


@dataclass(frozen=True)
class Player:
    """One side of training.

    module: exactly the parameters it moves; loss: a dict with `loss` and the named parts, in nats;
    steps: per round; ema: decay of an average of the weights; after_step: clipping, projection; averaged: whether
    `fit(ema=…)` is for it, which a critic's weights are not; least: rows of a batch that its loss can use.
    """

    module: nn.Module
    loss: Callable[[nn.Module, Batch, Clock], dict[str, Tensor]]
    optimizer: adam = adam()
    steps: int = 1
    ema: float | None = None
    after_step: Callable[[nn.Module], None] | None = None
    name: str = ""
    averaged: bool = True
    least: int = 1
