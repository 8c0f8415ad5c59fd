"""The one loop of all attacks: ask → access → tell, best point a row, finished rows out, new rows in."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.access import WhiteBox
from psiphi.attacks._protocols import Answer, Search, join, take
from psiphi.attacks._result import Result
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.basis.provenance import provenance
from psiphi.formulas import goals

if TYPE_CHECKING:
    from psiphi.attacks._attack import Attack

Progress = Callable[[int, int], None]


class _Board:
    """The best point of each row so far. Success counts before undecided, and that before the score."""

    def __init__(self, x: Tensor, rank: Tensor, score: Tensor):
        self.x, self.rank, self.score = x.clone(), rank, score
        self.forwards = torch.ones(len(x), dtype=torch.long, device=x.device)
        self.backwards = torch.zeros_like(self.forwards)

    def keep(self, rows: Tensor, points: Tensor, rank: Tensor, score: Tensor) -> Tensor:
        """Take over points that beat their row's best (a row may have several); returns these rows."""
        order = score.argsort(stable=True)
        for key in (rank, rows):
            order = order[key[order].argsort(stable=True)]
        rows, rank, score = rows[order], rank[order], score[order]
        last = torch.ones_like(rows, dtype=torch.bool)
        last[:-1] = rows[1:] != rows[:-1]
        better = last & ((rank > self.rank[rows]) | ((rank == self.rank[rows]) & (score > self.score[rows])))
        rows = rows[better]
        self.x[rows], self.rank[rows], self.score[rows] = points[order[better]], rank[better], score[better]
        return rows

    def count(self, rows: Tensor, backward: bool = False) -> None:
        for counter in (self.forwards, self.backwards)[: 1 + backward]:
            counter.index_add_(0, rows, torch.ones_like(rows))


@dataclass(frozen=True)
class _Judge:
    """Asks the access about points of the rows, and rates the answers: 2 success, 1 undecided, 0 else."""

    access: WhiteBox
    goal: goals.Goal
    y: Tensor
    target: Tensor | None
    batch_size: int

    def labels(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.y[rows], None if self.target is None else self.target[rows]

    def rate(self, logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rank and score of logits, each (n,)."""
        labels = self.labels(rows)
        rank = 2 * goals.succeeded(logits, *labels).long() + goals.undecided(logits, *labels).long()
        return rank, self.goal(logits, *labels)

    def look(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rank and score of points, without a gradient."""
        logits = [self.access.logits(batch) for batch in points.split(self.batch_size)]
        return self.rate(torch.cat(logits), rows)

    def climb(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rank, score and the score's gradient at points: one pass."""
        labels = self.labels(rows)
        logits, score, gradient = self.access.gradient(points, lambda logits: self.goal(logits, *labels))
        return self.rate(logits, rows)[0], score, gradient


def run(
    attack: Attack,
    access: WhiteBox,
    x: Any,
    y: Any = None,
    target: Any = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    stop_early: bool = True,
    on_progress: Progress | None = None,
    rows: range | Tensor | None = None,
) -> Result:
    """Attack every row of `x`; see `Attack.__call__`. `rows` are the numbers that key the rows' noise."""
    if batch_size is not None and batch_size < 1:
        raise ArgumentError(f"batch_size is at least 1; got {batch_size}.")
    if attack.search.needs not in access.sees:
        raise ArgumentError(f"{attack!r} needs {attack.search.needs}, which {access!r} does not show.")
    began = time.perf_counter()
    home = x.device if isinstance(x, Tensor) else torch.device("cpu")
    with access.session():
        x = access.points(x)
        n = len(x)
        batch_size = batch_size or (64 if x.device.type == "cpu" else 512)
        noise = Noise.of(seed, n if rows is None else rows, x.device, x.dtype).split("attack")
        if len(noise) != n:
            raise ArgumentError(f"rows has {len(noise)} numbers, but x has {n} rows.")
        threat = attack.threat.expand(x)
        y = None if y is None else access.labels(y, x)
        target = None if target is None else access.labels(target, x, "target")

        logits = _clean(access, x, y, target, batch_size)
        judge = _Judge(access, attack.goal, logits.argmax(1) if y is None else y, target, batch_size)
        board = _Board(x, *judge.rate(logits, torch.arange(n, device=x.device)))
        wrong, met = goals.succeeded(logits, judge.y), board.rank == 2
        todo = (~met if stop_early else torch.ones_like(met)).nonzero().squeeze(1)
        unjudged = _move(attack.search, judge, board, x, threat, noise, todo, stop_early, on_progress)
        _finish(judge, board, todo, unjudged)
        distance = attack.threat.distance(board.x, x)

    found = {"x": board.x, "success": board.rank == 2, "undecided": board.rank == 1, "already_met": met}
    found |= {"already_wrong": wrong, "distance": distance, "score": board.score}
    found |= {"forwards": board.forwards, "backwards": board.backwards}
    return Result(
        **{name: value.to(home) for name, value in found.items()},
        kind=attack.kind,
        targeted=target is not None,
        provenance=provenance(
            attack=repr(attack),
            access=repr(access),
            seed=seed,
            batch_size=batch_size,
            stop_early=stop_early,
            rows=n,
            data_sha256=hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest(),
            dtype=str(x.dtype),
            device=str(x.device),
            seconds=round(time.perf_counter() - began, 3),
        ),
    )


def _clean(access: WhiteBox, x: Tensor, y: Tensor | None, target: Tensor | None, batch_size: int) -> Tensor:
    """Logits of the clean rows, after the checks of classifier and labels that need them."""
    if not len(x):
        return x.new_zeros(0, 2)
    logits = torch.cat([access.logits(batch) for batch in x.split(batch_size)])
    access.inspect(x, logits)
    for labels, what in ((y, "y"), (target, "target")):
        if labels is not None:
            access.check_classes(labels, logits, what)
    if y is not None and target is not None and (same := y == target).any():
        raise ArgumentError(
            f"target is the label itself in {int(same.sum())} of {len(y)} rows: a targeted attack needs "
            "another class there."
        )
    return logits


def _move(
    search: Search,
    judge: _Judge,
    board: _Board,
    x: Tensor,
    threat: Any,
    noise: Noise,
    waiting: Tensor,
    stop_early: bool,
    on_progress: Progress | None,
) -> list[tuple[Tensor, Tensor]]:
    """Let the search move the rows; returns their last points that nobody has judged yet, with the rows."""
    unjudged, total, room, box = [], len(waiting), judge.batch_size, judge.access.box
    state, rows = None, waiting[:0]
    while len(rows) or len(waiting):
        if len(waiting) and len(rows) < room:
            fresh, waiting = waiting[: room - len(rows)], waiting[room - len(rows) :]
            begun = search.start(x[fresh], judge.y[fresh], take(threat, fresh), box, noise.take(fresh))
            state = begun if state is None else join(state, begun)
            rows = torch.cat((rows, fresh))
        points, owner = search.ask(state, room)
        rank, score, gradient = judge.climb(points, rows[owner])
        board.count(rows[owner], backward=True)
        board.keep(rows[owner], points, rank, score)
        state = search.tell(state, points, owner, Answer(score, gradient))

        done = search.done(state)
        freed = (board.rank[rows] == 2) & stop_early
        if (done | freed).any():
            if len(last := (done & ~freed).nonzero().squeeze(1)):
                points, owner = search.ask(take(state, last), room)
                unjudged.append((points, rows[last][owner]))
            stay = (~(done | freed)).nonzero().squeeze(1)
            state, rows = take(state, stay), rows[stay]
            if on_progress is not None:
                on_progress(total - len(rows) - len(waiting), total)
    return unjudged


def _finish(judge: _Judge, board: _Board, todo: Tensor, unjudged: list[tuple[Tensor, Tensor]]) -> None:
    """Judge the last points, then verify every other success on the very point that is returned."""
    judged = torch.zeros_like(board.rank, dtype=torch.bool)
    if unjudged:
        points, rows = (torch.cat(parts) for parts in zip(*unjudged))
        if len(rows):
            rank, score = judge.look(points, rows)
            board.count(rows)
            judged[board.keep(rows, points, rank, score)] = True
    if len(rows := todo[(board.rank[todo] == 2) & ~judged[todo]]):
        board.rank[rows], board.score[rows] = judge.look(board.x[rows], rows)
        board.count(rows)
