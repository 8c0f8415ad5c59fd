"""From a batch to its result: checks, the clean answers, the targets, the loop, the record."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.access import Access
from psiphi.access import _checks as checks
from psiphi.attacks import _rows, _targets
from psiphi.attacks._board import SUCCESS, UNDECIDED, Board, Judge
from psiphi.attacks._loop import Loop, Progress
from psiphi.attacks._result import Result
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, mix
from psiphi.basis.provenance import provenance

if TYPE_CHECKING:
    from psiphi.attacks._attack import Attack

_SMALL, _LARGE = 96, 512


def attack(
    attack: Attack, access: Access, x: Any, y: Any, target: Any, rows: Any, how: dict[str, Any]
) -> Result:
    """Chunk by chunk of the rows, and target by target where all are wanted; see `Attack.__call__`."""
    one = _every if isinstance(target, str) and target == "all" else run
    parts, start = [], 0
    for some, labels in _rows.chunks(x, y):
        n = len(some) if hasattr(some, "__len__") else 0
        mine = range(start, start + n) if rows is None else rows[start : start + n]
        aim = target[start : start + n] if isinstance(target, Tensor) and target.ndim else target
        part = attack if n == 0 or isinstance(x, Tensor) else _of(attack, slice(start, start + n))
        parts.append(one(part, access, some, labels, aim, rows=mine, **how))
        start += n
    return Result.cat(parts)


def _of(attack: Attack, index: Any) -> Attack:
    """The attack with the radii of these rows, where each has its own."""
    threat: Any = attack.threat
    if not (isinstance(threat.eps, Tensor) and threat.eps.ndim):
        return attack
    return replace(attack, threat=replace(threat, eps=threat.eps[index]))


def _every(attack: Attack, access: Access, x: Any, y: Any, target: Any, *, rows: Any, **how: Any) -> Result:
    """The best over every class but the label, the likeliest first: of each row the least distance of a minimum-norm
    attack, else the first class reached, else the highest score."""
    classes: list[int] = []

    def aim(place: int, logits: Tensor, y: Tensor) -> Tensor:
        classes[:] = [logits.shape[1]]
        return _targets.nth(logits, y, place)

    best = run(attack, access, x, y, partial(aim, 0), rows=rows, **how)
    best = replace(best, targeted=False)
    left = ~best.already_wrong
    for place in range(1, classes[0] - 1 if classes else 1):
        if attack.kind == "fixed-perturbation" and how.get("stop_early", True):
            left &= ~best.success
        if (budget := getattr(access, "budget", None)) is not None:
            left &= best.forwards < budget
        if not len(mine := left.nonzero().squeeze(1)):
            break
        labels = None if y is None else torch.as_tensor(y)[mine.cpu()]
        some = torch.as_tensor(x)[mine.to(x.device) if isinstance(x, Tensor) else mine]
        numbers = torch.as_tensor(rows)[mine.cpu()]
        part, spent = _of(attack, mine.cpu()), best.forwards[mine]
        other = run(part, access, some, labels, partial(aim, place), rows=numbers, spent=spent, **how)
        best = best.improved(mine, other)
    return best if best.share is None else _anew(attack, access, best, y, how.get("seed", 0))


def _anew(attack: Attack, access: Access, best: Result, y: Any, seed: int) -> Result:
    """The points that were picked for what some draws said of them, by what fresh draws say."""
    x = access.points(best.x)
    every = torch.arange(len(x), device=x.device)
    target = None if best.target is None else best.target.to(x.device)
    truth = torch.zeros_like(every) if y is None else checks.as_labels(y, len(x)).to(x.device)
    with access.session(x, mix(seed, "anew")) as ledger:
        ledger.forwards = ledger.forwards + best.forwards.to(x.device)
        size = best.provenance["batch_size"]
        judge = Judge(access, attack.goal, truth, target, size, ledger, x.dtype, attack.confidence)
        rank, _, share = judge.verify(x, every)
    found = {"success": rank == SUCCESS, "undecided": rank == UNDECIDED, "share": share}
    found |= {"forwards": ledger.forwards}
    return replace(best, **{name: value.to(best.x.device) for name, value in found.items()})


def run(
    attack: Attack,
    access: Access,
    x: Any,
    y: Any = None,
    target: Any = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    stop_early: bool = True,
    on_progress: Progress | None = None,
    rows: range | Tensor | None = None,
    spent: Tensor | None = None,
) -> Result:
    """Attack every row of `x`; see `Attack.__call__`.

    `rows` are the numbers that key the rows' noise, `spent` the forwards of an earlier run that the budget knows of.
    """
    if batch_size is not None and batch_size < 1:
        raise ArgumentError(f"batch_size is at least 1; got {batch_size}.")
    if attack.search.needs not in access.sees:
        raise ArgumentError(f"{attack!r} needs {attack.search.needs}, which {access!r} does not show.")
    began = time.perf_counter()
    home = x.device if isinstance(x, Tensor) else torch.device("cpu")
    x = access.points(x)
    noise = Noise.of(seed, len(x) if rows is None else rows, x.device, x.dtype).split("attack")
    if len(noise) != len(x):
        raise ArgumentError(f"rows has {len(noise)} numbers, but x has {len(x)} rows.")
    threat = attack.threat.expand(x)
    y = None if y is None else checks.as_labels(y, len(x)).to(x.device)
    size = batch_size or (_SMALL if x.device.type == "cpu" else _LARGE)
    before = 0 if spent is None else spent.to(x.device)
    with access.session(x, seed) as ledger:
        ledger.forwards = ledger.forwards + before
        said = _clean(access, x, y, size)
        truth = _answers(said) if y is None else y
        target = _targets.resolve(target, said, truth, noise)
        if y is not None:
            _targets.check_other(target, y)
        judge = Judge(access, attack.goal, truth, target, size, ledger, x.dtype, attack.confidence)
        every = torch.arange(len(x), device=x.device)
        wrong = replace(judge, target=None, confidence=0.0).rate(said, every)[0] == SUCCESS
        rank, score, share = judge.rate(said, every)
        board, met = Board(x, rank, score), rank == SUCCESS
        if not access.decides:  # answers of another kind than the search's: not to be compared
            board.merit.fill_(-torch.inf)
        todo = (~met if stop_early else torch.ones_like(met)).nonzero().squeeze(1)
        loop = Loop(attack, judge, board, x, threat, noise, stop_early, on_progress)
        fresh = loop.finish(todo, loop.move(todo))
        if fresh is not None:
            share[todo] = fresh
        distance = threat.distance(board.x, x)

    found = {"x": board.x, "success": board.rank == SUCCESS, "undecided": board.rank == UNDECIDED}
    found |= {"already_met": met, "already_wrong": wrong, "distance": distance, "score": board.score}
    found |= {"forwards": ledger.forwards - before, "backwards": ledger.backwards}
    found |= {"row": torch.as_tensor(noise.rows)}
    found |= {} if target is None else {"target": target}
    found |= {} if fresh is None or len(said) == 1 else {"share": share}
    return Result(
        **{name: value.to(home) for name, value in found.items()},
        kind=attack.kind,
        targeted=target is not None,
        provenance=provenance(
            attack=repr(attack),
            access=repr(access),
            seed=seed,
            batch_size=size,
            stop_early=stop_early,
            rows=len(x),
            data_sha256=hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest(),
            dtype=str(x.dtype),
            device=str(x.device),
            seconds=round(time.perf_counter() - began, 3),
        ),
    )


def _clean(access: Access, x: Tensor, y: Tensor | None, size: int) -> Tensor:
    """What is said of the clean rows, after the checks of classifier and labels that need it."""
    if not len(x):
        return x.new_zeros(1, 0, 2)
    rows = torch.arange(len(x), device=x.device)
    ask = access.look if access.decides else access.verdict
    said = torch.cat([ask(some, mine).said for some, mine in zip(x.split(size), rows.split(size))], 1)
    access.inspect(x, said)
    if y is not None and said.ndim == 3:
        checks.check_classes(y, said.shape[2])
    return said


def _answers(said: Tensor) -> Tensor:
    """The classifier's own labels, by the mean logits or the most frequent label of the draws."""
    return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)
