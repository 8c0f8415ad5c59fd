"""The player that learns one perturbation: what it moves, its loss, its steps, its projection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import Access
from psiphi.attacks._perturbation import Place, applied
from psiphi.attacks.threats import Linf
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box
from psiphi.models import Model
from psiphi.parts import Batch, Clock, Player, Statistics
from psiphi.training import schedules


class Change(nn.Module):
    """What is learnt: (b, *x) -> (b, *x)."""

    def __init__(self, delta: Tensor, box: Box, place: Place):
        super().__init__()
        self.delta, self.box, self.place = nn.Parameter(delta), box, place

    def forward(self, x: Tensor, noise: Any) -> Tensor:
        return applied(self.delta, x, self.box, self.place, noise)


class Game(Model):
    """A model of one player, whose loss is the score that the access answers, with the sign turned."""

    def __init__(self, plan: Any, access: Access, x: Tensor):
        shape = tuple(x.shape[1:])
        super().__init__(Statistics(shape).to(x.device, x.dtype))
        self.statistics.measured.fill_(True)  # nothing here is standardised
        self.recipe = {"model": "universal"}
        box, zero = access.box, torch.zeros(1, *shape, dtype=x.dtype, device=x.device)
        self.place: Place = None
        if plan.replaces:
            inside = plan.threat.window(shape)
            top, left = (int(i) for i in inside.nonzero()[0])
            self.place = "random" if plan.random_place else (top, left)
            h, w = plan.threat.size
            zero = box.clamp(zero[..., :h, :w] + (box.lo + box.hi) / 2)
            threat, self.walls = Linf().expand(zero), box
        else:
            threat, self.walls = plan.threat.expand(zero), Box(box.lo - box.hi, box.hi - box.lo)
        width = float(torch.as_tensor(box.hi - box.lo).max())
        self.lr = plan.lr or (width / 2 if plan.threat.eps == inf else float(plan.threat.eps))
        self.__dict__.update(plan=plan, access=access, threat=threat, centre=zero)
        self.module = Change(zero[0].clone(), box, self.place)

    def players(self) -> list[Player]:
        rule: Any = Rule(self._direction, self.lr, self.plan.momentum, schedules.linear())
        return [Player(self.module, self._loss, rule, after_step=self._project)]

    def _direction(self, m: Tensor, delta: Tensor, length: float) -> Tensor:
        return self.threat.steepest(m[None], delta[None], self.walls, length)[0]

    def _project(self, module: Any) -> None:
        module.delta.copy_(self.threat.project(module.delta[None], self.centre, self.walls)[0])

    def _loss(self, module: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """−mean score; its gradient comes from the access, which may be a mean over draws or another model's."""
        plan, y = self.plan, batch.y
        assert y is not None
        target = None if plan.target is None else torch.full_like(y, plan.target)

        def score(logits: Tensor) -> Tensor:
            return plan.goal(logits, y, target).clamp(max=plan.ceiling or inf)

        v = module(batch.x, batch.noise)
        reply = self.access.climb(
            v.detach(), score, torch.arange(len(v), device=v.device)
        )  # whose they are is one
        value = reply.value.mean()
        pull = (v * reply.gradient).sum() / len(v)
        holds = goals.succeeded(reply.said.mean(0), y, target)
        return {"loss": (value - pull).detach().neg() - pull, "fooled": holds.to(value).mean()}


@dataclass(frozen=True)
class Rule:
    """In the place of an optimiser of `fit`: steps of one length along the threat's steepest direction."""

    direction: Callable[[Tensor, Tensor, float], Tensor]
    lr: float
    momentum: float
    schedule: Callable[[float], float]

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _Steepest(parameters, self)


class _Steepest(torch.optim.Optimizer):
    """m ← μ m + (1 − μ) ∇, δ ← δ + α d(m), ∇ = −grad."""

    def __init__(self, parameters: Iterable[nn.Parameter], rule: Rule):
        super().__init__(parameters, {"lr": rule.lr})
        self.rule = rule

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(-p.grad, 1 - self.rule.momentum)
                p.add_(self.rule.direction(m, p, group["lr"]), alpha=group["lr"])
