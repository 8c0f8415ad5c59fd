"""An attack of your own from parts: one new search, and everything else (threat, goal, access, engine) is there.

The search moves one pixel at a time to an end of its range and keeps the move where the goal's score rises: no
gradient, one query a move (after Guo et al., "Simple black-box adversarial attacks", 2019). It never calls the
classifier: it says which points to judge, `ask`, and what follows from the answer, `tell`.

    python examples/custom_attack.py
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from _shared import size
from torch import Tensor

import psiphi as pp
from psiphi.formulas import goals


@dataclass(frozen=True)
class State:
    """Where each row stands; every field has one entry a row, so that the engine can drop and refill rows."""

    x: Tensor
    v: Tensor  # the best point so far
    score: Tensor
    told: Tensor  # answers so far
    threat: Any
    box: Any
    noise: Any


@dataclass(frozen=True)
class OnePixelAtATime:
    steps: int = 500
    needs: ClassVar = "scores"

    def start(self, x, y, threat, box, noise):
        none = torch.zeros(len(x), dtype=torch.long)
        return State(x, x, torch.full((len(x),), -torch.inf), none, threat, box, noise)

    def ask(self, s, room):
        rows = (~self.done(s)).nonzero().flatten()
        return self.moved(s)[rows], rows

    def moved(self, s):
        v = s.v.flatten(1).clone()
        place, side = s.noise.each(s.told).uniform((2,)).unbind(1)  # of row i by (seed, i, step) alone
        v[torch.arange(len(v)), (place * v.shape[1]).long()] += torch.where(side < 0.5, -1.0, 1.0)
        return s.threat.project(v.view_as(s.v), s.x, s.box)

    def tell(self, s, points, owner, answer):
        v, score, told = s.v.clone(), s.score.clone(), s.told.clone()
        better = answer.score > score[owner]
        v[owner[better]], score[owner[better]] = points[better], answer.score[better]
        told[owner] += 1
        return replace(s, v=v, score=score, told=told)

    def done(self, s):
        return s.told >= self.steps


digits = pp.data.load("digits")
x, y = digits.test.x[: size(256, 16)], digits.test.y[: size(256, 16)]
classifier = pp.zoo.classifier(digits.shape)
pp.fit(classifier, digits.train.x, digits.train.y, epochs=size(30, 3), quiet=True)

queries, ball = size(500, 40), pp.attacks.Linf(0.2)
mine = pp.attacks.Attack(ball, goals.margin, OnePixelAtATime(queries))
oracle = pp.access.black_box(classifier, budget=queries + 2)  # no gradient, and every query counted
print(f"{'':<22} {'accuracy':>9} {'queries a row':>14}")
for name, attack, access in [
    ("one pixel at a time", mine, oracle),
    ("square", pp.attacks.square(ball, queries=queries), oracle),
    ("PGD, with gradients", pp.attacks.pgd(ball), classifier),
]:
    found = attack(access, x, y)
    print(f"{name:<22} {found.accuracy:>9.1%} {found.forwards.float().mean():>14.1f}")
print(f"{'without an attack':<22} {found.clean_accuracy:>9.1%}\n\n{mine}")
