"""The best point of each row so far, and the judge who rates points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, Ledger, Reply
from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.basis.errors import ArgumentError
from psiphi.formulas import goals
from psiphi.formulas.calculus import pulled_back

SUCCESS, UNDECIDED = 2, 1
_ROUNDED = 1e-6
_FEW = 9  # gradients a point that a batch has room for


def within(distance: Tensor, eps: Any) -> Tensor:
    """Whether a minimum-norm attack's distance is one of the radius; the least change ends on it, up to rounding."""
    return distance <= eps * (1 + _ROUNDED)


class Board:
    """The best point of each row, in the threat's chart. Success counts before undecided, and that before the merit."""

    def __init__(self, x: Tensor, rank: Tensor, score: Tensor):
        self.x, self.rank, self.score, self.merit = x.clone(), rank, score, score.clone()
        self.trace: list[Tensor] = []

    def keep(self, rows: Tensor, points: Tensor, rank: Tensor, score: Tensor, merit: Tensor) -> Tensor:
        """Take over points that beat their row's best (a row may have several); returns these rows."""
        order = _in_order(rows, rank, merit)
        if order is not None:
            rows, points, rank, score, merit = (each[order] for each in (rows, points, rank, score, merit))
        best, higher = self.rank[rows], goals.above(merit, self.merit[rows])
        better = ((rank > best) | ((rank == best) & higher)).nonzero().squeeze(1)
        rows = rows[better]
        if not len(rows):
            return rows
        self.x[rows], self.rank[rows], self.merit[rows] = points[better], rank[better], merit[better]
        self.score[rows] = score[better]
        return rows


def later(rows: Tensor) -> Tensor:
    """How many of the points after each one are of the same row, (n,)."""
    order = rows.argsort(stable=True)
    after = torch.empty_like(rows)
    every = torch.arange(1, len(rows) + 1, device=rows.device)
    after[order] = torch.searchsorted(rows[order], rows[order], right=True) - every
    return after


def _in_order(rows: Tensor, rank: Tensor, merit: Tensor) -> Tensor | None:
    """The numbers of each row's best point, in the order of the rows; None where that is all of them, as they are."""
    if len(rows) < 2 or bool((rows[1:] > rows[:-1]).all()):
        return None
    order = merit.argsort(stable=True)
    for key in (rank, rows):
        order = order[key[order].argsort(stable=True)]
    last = torch.ones_like(rows, dtype=torch.bool)
    last[:-1] = rows[order][1:] != rows[order][:-1]
    return order[last]


@dataclass(frozen=True)
class Judge:
    """Asks the access about points of the rows, and rates what it says by the goal."""

    access: Access
    goal: goals.Goal
    y: Tensor
    target: Tensor | None
    batch_size: int
    ledger: Ledger
    dtype: torch.dtype
    threat: Any
    x: Tensor
    confidence: float = 0.0
    classes: int | None = None
    loose: bool = False  # any class but the label counts, whatever the target
    clean: Tensor | None = None  # logits of the clean rows (n, K), for a goal that compares with them

    def room(self, gradients: int = 1) -> int:
        """How many points fit into a pass: fewer where each is sent several times, or has many gradients."""
        return max(1, self.batch_size // (max(1, self.ledger.price) * ceil(gradients / _FEW)))

    def rate(self, said: Tensor, rows: Tensor, score: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Of logits (m, n, K) or labels (m, n) of the rows: rank and mean score (n,); share of draws that hold.

        score: where it is known already.
        """
        y, target = self.y[rows], None if self.target is None else self.target[rows]
        aim = None if self.loose else target
        if said.ndim == 2:
            holds = said != y if aim is None else said == aim
            standing, score = SUCCESS * holds.long(), (2 * holds.to(self.dtype) - 1).mean(0)
        elif (m := len(said)) == 1:
            rank = goals.standing(said[0], y, aim, self.confidence)
            score = self.score(said[0], rows, y, target) if score is None else score
            return rank, score, (rank == SUCCESS).double()
        else:
            logits, y, target = said.flatten(0, 1), y.repeat(m), None if target is None else target.repeat(m)
            aim = None if self.loose else target
            standing = goals.standing(logits, y, aim, self.confidence).unflatten(0, (m, len(rows)))
            score = self.score(logits, rows.repeat(m), y, target).unflatten(0, (m, len(rows))).mean(0)
        holds, open_ = (standing == SUCCESS).double().mean(0), (standing >= UNDECIDED).double().mean(0)
        rank = torch.where(holds > 0.5, SUCCESS, (open_ > 0.5).long() * UNDECIDED)
        return rank, score, holds

    def score(self, logits: Tensor, rows: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
        """The goal's score of each of the logits (b, K)."""
        if not isinstance(self.goal, goals.Relative):
            return self.goal(logits, y, target)
        if self.clean is None:
            raise ArgumentError(
                f"the goal {self.goal!r} compares logits, and only labels are shown: use margin."
            )
        return self.goal.score(logits, self.clean[rows])

    def sent(self, points: Tensor, rows: Tensor) -> Tensor:
        """The inputs that points of the threat's chart stand for."""
        if not self.threat.charted:
            return points
        return take(self.threat, rows).decode(points, self.x[rows], self.access.box)

    def look(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `rate`, of points of the chart, while they are searched."""
        return self._rated(self.access.look, points, rows)

    def verify(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `rate`, of points of the chart that are returned."""
        return self._rated(self.access.verdict, points, rows)

    def _rated(
        self, ask: Callable[..., Reply], points: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not len(points):
            return rows.clone(), points.new_zeros(0), points.new_zeros(0, dtype=torch.double)
        pairs = zip(points.split(self.room()), rows.split(self.room()))
        said = [ask(self.sent(some, mine), mine).said for some, mine in pairs]
        return self.rate(torch.cat(said, 1), rows)

    def answer(self, needs: Needs, points: Tensor, rows: Tensor, rivals: int | None) -> tuple[Tensor, Answer]:
        """Rank (n,) of points of the chart, and the answer that the search needs."""
        y, target = self.y[rows], None if self.target is None else self.target[rows]
        with torch.set_grad_enabled(self.threat.charted and needs in ("gradient", "jacobian")):
            chart = points.detach().requires_grad_(torch.is_grad_enabled())
            inputs = self.sent(chart, rows)
        sent = inputs.detach()
        if needs == "gradient":
            reply = self.access.climb(sent, lambda logits: self.score(logits, rows, y, target), rows)
        elif needs == "jacobian":
            reply = self.access.slopes(sent, lambda logits: goals.gaps(logits, y, target, rivals), rows)
        else:
            reply = self.access.look(sent, rows)
        if reply.gradient is not None and inputs.requires_grad:
            reply = replace(reply, gradient=pulled_back(inputs, chart, reply.gradient))
        rank, score, _ = self.rate(reply.said, rows, reply.value if needs == "gradient" else None)
        broken = rank == SUCCESS
        if needs == "gradient":
            return rank, Answer(score, broken, gradient=reply.gradient)
        if needs == "jacobian":
            return rank, Answer(score, broken, gaps=reply.value, jacobian=reply.gradient)
        label = reply.said.mode(0).values if reply.said.ndim == 2 else reply.said.mean(0).argmax(1)
        return rank, Answer(score, broken, label=label)
