"""The best point of each row so far, and the judge who rates points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from psiphi.access import Access, Ledger, Reply
from psiphi.attacks._protocols import Answer, Needs
from psiphi.formulas import goals

SUCCESS, UNDECIDED = 2, 1


class Board:
    """The best point of each row. Success counts before undecided, and that before the merit."""

    def __init__(self, x: Tensor, rank: Tensor, score: Tensor):
        self.x, self.rank, self.score, self.merit = x.clone(), rank, score, score.clone()

    def keep(self, rows: Tensor, points: Tensor, rank: Tensor, score: Tensor, merit: Tensor) -> Tensor:
        """Take over points that beat their row's best (a row may have several); returns these rows."""
        order = merit.argsort(stable=True)
        for key in (rank, rows):
            order = order[key[order].argsort(stable=True)]
        rows, rank, merit = rows[order], rank[order], merit[order]
        last = torch.ones_like(rows, dtype=torch.bool)
        last[:-1] = rows[1:] != rows[:-1]
        better = last & ((rank > self.rank[rows]) | ((rank == self.rank[rows]) & (merit > self.merit[rows])))
        rows, order = rows[better], order[better]
        self.x[rows], self.rank[rows], self.merit[rows] = points[order], rank[better], merit[better]
        self.score[rows] = score[order]
        return rows


@dataclass(frozen=True)
class Judge:
    """Asks the access about points of the rows, and rates what it says by the goal."""

    access: Access
    goal: goals.Goal
    y: Tensor
    target: Tensor | None
    batch_size: int
    ledger: Ledger

    def rate(self, said: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of logits (m, n, K) or labels (m, n) of the rows: rank and mean score (n,); share of draws that hold."""
        y, target = self.y[rows], None if self.target is None else self.target[rows]
        if said.ndim == 2:
            holds = said != y if target is None else said == target
            standing, score = SUCCESS * holds.long(), 2.0 * holds - 1
        elif len(said) == 1:
            standing = goals.standing(said[0], y, target).unsqueeze(0)
            score = self.goal(said[0], y, target).unsqueeze(0)
        else:
            standing = torch.stack([goals.standing(logits, y, target) for logits in said])
            score = torch.stack([self.goal(logits, y, target) for logits in said])
        holds, open_ = (standing == SUCCESS).double().mean(0), (standing >= UNDECIDED).double().mean(0)
        rank = torch.where(holds > 0.5, SUCCESS, (open_ > 0.5).long() * UNDECIDED)
        return rank, score.mean(0), holds

    def look(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `rate`, of points while they are searched."""
        return self._rated(self.access.look, points, rows)

    def verify(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `rate`, of points that are returned."""
        return self._rated(self.access.verdict, points, rows)

    def _rated(
        self, ask: Callable[..., Reply], points: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not len(points):
            return rows.clone(), points.new_zeros(0), points.new_zeros(0)
        pairs = zip(points.split(self.batch_size), rows.split(self.batch_size))
        said = [ask(some, mine).said for some, mine in pairs]
        return self.rate(torch.cat(said, 1), rows)

    def answer(self, needs: Needs, points: Tensor, rows: Tensor, rivals: int | None) -> tuple[Tensor, Answer]:
        """Rank (n,) of points, and the answer that the search needs."""
        y, target = self.y[rows], None if self.target is None else self.target[rows]
        if needs == "gradient":
            reply = self.access.climb(points, lambda logits: self.goal(logits, y, target), rows)
        elif needs == "jacobian":
            reply = self.access.slopes(points, lambda logits: goals.gaps(logits, y, target, rivals), rows)
        else:
            reply = self.access.look(points, rows)
        rank, score, _ = self.rate(reply.said, rows)
        broken = rank == SUCCESS
        if needs == "gradient":
            return rank, Answer(score, broken, gradient=reply.gradient)
        if needs == "jacobian":
            return rank, Answer(score, broken, gaps=reply.value, jacobian=reply.gradient)
        label = reply.said[0] if reply.said.ndim == 2 else reply.said.mean(0).argmax(1)
        return rank, Answer(score, broken, label=label)
