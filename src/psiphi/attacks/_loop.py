"""The one loop of all attacks: ask → access → tell, best point a row, finished rows out, new rows in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.access import Access
from psiphi.attacks._board import SUCCESS, Board, Judge, later, within
from psiphi.attacks._protocols import join, take
from psiphi.basis.noise import Noise
from psiphi.formulas.geometry import Box

if TYPE_CHECKING:
    from psiphi.attacks._attack import Attack

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Loop:
    """One attack on one batch; `x` and `walls` are the origin and the box of the threat's chart."""

    attack: Attack
    judge: Judge
    board: Board
    x: Tensor
    walls: Box
    noise: Noise
    stop_early: bool
    on_progress: Progress | None

    @property
    def access(self) -> Access:
        return self.judge.access

    @property
    def threat(self) -> Any:
        return self.judge.threat

    @property
    def minimum(self) -> bool:
        return self.attack.kind == "minimum-norm"

    @property
    def leaves(self) -> bool:
        """Whether a row leaves the moment its goal is met."""
        return self.stop_early and not self.minimum and self.access.decides

    @property
    def rivals(self) -> int | None:
        """How many gaps have their gradients taken at a point; None where none has."""
        search, target = self.attack.search, self.judge.target
        if search.needs != "jacobian" and not getattr(search, "surveys", False):
            return None
        most = getattr(search, "rivals", None)
        others = (self.judge.classes or 2) - 1
        return 1 if target is not None else others if most is None else min(most, others)

    def keep(self, rows: Tensor, points: Tensor, rank: Tensor, score: Tensor) -> Tensor:
        merit = score
        if self.minimum:
            distance = take(self.threat, rows).distance(points, self.x[rows])
            merit = torch.where(rank == SUCCESS, -distance.to(score), score)
        elif getattr(self.attack.search, "roams", False):  # what lies beyond the radius counts for nothing
            threat = take(self.threat, rows)
            most = threat.eps * (1 + 8 * torch.finfo(points.dtype).eps)
            within = threat.distance(points, self.x[rows]) <= most
            rank, merit = torch.where(within, rank, 0), torch.where(within, score, -torch.inf)
        if self.access.recorded:
            self.note(rows, points, rank)
        return self.board.keep(rows, points, rank, score, merit)

    def note(self, rows: Tensor, points: Tensor, rank: Tensor) -> None:
        """Enter in the trace which points are successes that better their row's, and after how many forwards."""
        board, threat = self.board, take(self.threat, rows)
        new, distance = (
            (rank == SUCCESS) & (board.rank[rows] < SUCCESS),
            threat.distance(points, self.x[rows]),
        )
        if self.minimum:
            new |= (rank == SUCCESS) & (-distance.to(board.merit) > board.merit[rows])
            new &= within(distance, threat.eps)
        if len(new := new.nonzero().squeeze(1)):
            sent = self.judge.ledger.forwards[rows[new]] - later(rows)[new]
            board.trace.append(torch.stack((rows[new], sent, distance[new]), 1).double().cpu())

    def move(self, waiting: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Let the search move the rows; returns their last points that nobody has judged yet, with the rows."""
        search: Any = self.attack.search
        if hasattr(search, "ahead") and (self.access.recorded or self.access.budget is not None):
            search = replace(search, ahead=1)
        rivals, total = self.rivals, len(waiting)
        room = self.judge.room(rivals or 1)
        unjudged, state, rows = [], None, waiting[:0]
        while remaining := len(rows) + len(waiting):
            if len(waiting) and len(rows) < room:
                fresh, waiting = waiting[: room - len(rows)], waiting[room - len(rows) :]
                begun = self.begin(fresh)
                state = begun if state is None else join(state, begun)
                rows = torch.cat((rows, fresh))
            points, owner = search.ask(state, room)
            sent = self.affordable(rows, owner)
            answer: Any = None
            if sent is None or len(sent):
                mine = rows[owner if sent is None else owner[sent]]
                some = points if sent is None else points[sent]
                rank, answer = self.judge.answer(search.needs, some, mine, rivals)
                self.keep(mine, some, rank, answer.score)
            if sent is None:
                state = search.tell(state, points, owner, answer)
            else:  # whose budget is spent leaves, without an answer to all that it asked
                whole = owner.bincount(minlength=len(rows)) == owner[sent].bincount(minlength=len(rows))
                stay, told = whole.nonzero().squeeze(1), whole[owner[sent]]
                owner = (whole.cumsum(0) - 1)[owner[sent][told]]
                state, rows = take(state, stay), rows[stay]
                if len(rows):
                    state = search.tell(
                        state, points[sent[told]], owner, take(answer, told.nonzero().squeeze(1))
                    )

            done = search.done(state)
            freed = (self.board.rank[rows] == SUCCESS) & self.leaves
            if (done | freed).any():
                if len(last := (done & ~freed).nonzero().squeeze(1)):
                    points, owner = search.ask(take(state, last), room)
                    unjudged.append((points, rows[last][owner]))
                stay = (~(done | freed)).nonzero().squeeze(1)
                state, rows = take(state, stay), rows[stay]
            if self.on_progress is not None and len(rows) + len(waiting) < remaining:
                self.on_progress(total - len(rows) - len(waiting), total)
        return unjudged

    def begin(self, rows: Tensor) -> Any:
        """The search's state of fresh rows."""
        search, x, threat = self.attack.search, self.x[rows], take(self.threat, rows)
        survey = ()
        if getattr(search, "surveys", False):
            survey = (self.judge.answer("jacobian", x, rows, self.rivals)[1],)
        return search.start(x, self.judge.y[rows], threat, self.walls, self.noise.take(rows), *survey)

    def affordable(self, rows: Tensor, owner: Tensor) -> Tensor | None:
        """The numbers of the points that the budget of their row still pays; None for all of them."""
        if (left := self.judge.ledger.left(rows)) is None:
            return None
        every = torch.arange(len(owner), device=owner.device)
        order = owner.argsort(stable=True)
        first = torch.searchsorted(owner[order], owner[order])
        place = torch.empty_like(every)
        place[order] = every - first
        paid = place < left[owner]
        return None if paid.all() else paid.nonzero().squeeze(1)

    def finish(self, todo: Tensor, unjudged: list[tuple[Tensor, Tensor]]) -> Tensor | None:
        """Judge the last points, then verify every other success on the very point that is returned.

        Where an answer during the search is no verdict, every row is verified: returns the share of fresh draws in
        which its goal holds, one a row of `todo`.
        """
        board, judged = self.board, torch.zeros_like(self.board.rank, dtype=torch.bool)
        if unjudged:
            points, rows = (torch.cat(parts) for parts in zip(*unjudged))
            if (sent := self.affordable(*rows.unique(return_inverse=True))) is not None:
                points, rows = points[sent], rows[sent]
            if len(rows):
                rank, score, _ = self.judge.look(points, rows)
                judged[self.keep(rows, points, rank, score)] = True
        self._return_home()
        if not self.access.decides:
            rank, score, share = self.judge.verify(board.x[todo], todo)
            board.rank[todo], board.score[todo] = rank, score.to(board.score)
            return share
        if not self.access.recorded:
            rows = todo[(board.rank[todo] == SUCCESS) & ~judged[todo]]
            board.rank[rows], score, _ = self.judge.verify(board.x[rows], rows)
            board.score[rows] = score.to(board.score)
        return None

    def _return_home(self) -> None:
        """Of a minimum-norm attack with a radius: what lies beyond it goes to the nearest point within."""
        if not self.minimum:
            return
        far = ~within(self.threat.distance(self.board.x, self.x), self.threat.eps)
        if len(rows := far.nonzero().squeeze(1)):
            threat = take(self.threat, rows)
            points = threat.project(self.board.x[rows], self.x[rows], self.walls)
            rank = torch.zeros_like(rows)  # no success where nobody may ask any more
            score = self.board.score[rows]
            every = torch.arange(len(rows), device=rows.device)
            if len(sent := every if (paid := self.affordable(rows, every)) is None else paid):
                rank[sent], score[sent], _ = self.judge.look(points[sent], rows[sent])
                if self.access.recorded:
                    self.board.merit[rows] = -torch.inf
                    self.note(rows[sent], points[sent], rank[sent])
            self.board.x[rows], self.board.rank[rows], self.board.score[rows] = points, rank, score
