"""Two small searches that need no gradient, and a classifier that counts what is sent through it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from psiphi.attacks._protocols import Answer, Needs
from psiphi.basis.noise import Noise
from psiphi.formulas.geometry import Box


@dataclass(frozen=True)
class State:
    """Rows of a random search."""

    x: Tensor
    threat: Any
    box: Box
    noise: Noise
    told: Tensor


@dataclass(frozen=True)
class RandomSearch:
    """Random points of the threat, `each` a turn, of which the engine keeps the best."""

    turns: int = 10
    each: int = 1
    needs: ClassVar[Needs] = "scores"

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> State:
        told = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return State(x, threat, box, noise, told)

    def ask(self, s: State, room: int) -> tuple[Tensor, Tensor]:
        owner = (s.told < self.turns).nonzero().squeeze(1).repeat_interleave(self.each)
        if not len(owner):
            return s.x[:0], owner
        turn = s.told[owner] * self.each + torch.arange(len(owner)) % self.each
        points = torch.empty_like(s.x[owner])
        for number in turn.unique().tolist():
            mine = (turn == number).nonzero().squeeze(1)
            rows = owner[mine]
            sized = replace(s.threat, eps=s.threat.eps[rows])
            points[mine] = sized.start(s.x[rows], s.box, s.noise.take(rows).at(number))
        return points, owner

    def tell(self, s: State, points: Tensor, owner: Tensor, answer: Answer) -> State:
        return replace(s, told=s.told + 1)

    def done(self, s: State) -> Tensor:
        return s.told >= self.turns


@dataclass(frozen=True)
class LabelSearch(RandomSearch):
    """The same by labels: any point whose label is another one."""

    needs: ClassVar[Needs] = "labels"


class Counting(nn.Module):
    """Logits of `net`; counts rows sent to it, rows whose gradient passed back, and calls that could give one."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.sent, self.backwards, self.tracked = net, 0, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.sent += len(x)
        self.tracked += int(x.requires_grad or torch.is_grad_enabled())
        return _Watched.apply(self.net(x), self)  # pyright: ignore[reportReturnType]


class _Watched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counting: Counting) -> Tensor:
        ctx.counting = counting
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.counting.backwards += len(gradients[0])
        return gradients[0], None
