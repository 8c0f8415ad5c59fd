"""From a batch to its result: checks, the clean answers, the targets, the loop, the record."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.access import Access
from psiphi.access import _checks as checks
from psiphi.attacks import _rows, _targets
from psiphi.attacks._board import SUCCESS, UNDECIDED, Board, Judge
from psiphi.attacks._loop import Loop, Progress
from psiphi.attacks._result import Result
from psiphi.attacks.threats._base import OfInputs
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
    parts, start, streamed = [], 0, _rows.streamed(x)
    for some, labels in _rows.chunks(x, y):
        if not streamed:
            return one(attack, access, some, labels, target, rows=rows, **how)
        here = slice(start, start + len(some))
        mine = range(here.start, here.stop) if rows is None else rows[here]
        aim = target[here] if isinstance(target, Tensor) and target.ndim else target
        parts.append(one(_of(attack, here), access, some, labels, aim, rows=mine, **how))
        start = here.stop
    for name, given in (("target", target), ("rows", rows), ("eps", getattr(attack.threat, "eps", None))):
        _rows.check_length(name, given, start)
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
    order = torch.zeros(0, 0)

    def likeliest(logits: Tensor, y: Tensor) -> Tensor:
        nonlocal order
        order = _targets.others(logits, y)
        return order[:, 0]

    anew = access.judging if access.judging > 1 else 0  # kept for the last judgement of random answers
    first = torch.full((len(x),), anew)
    best = replace(run(attack, access, x, y, likeliest, rows=rows, spent=first, **how), targeted=False)
    least = 1 if access.decides else 2 * access.judging  # what a run costs a row, whatever it finds
    left = ~best.already_wrong
    for place in range(1, order.shape[1]):
        if attack.kind == "fixed-perturbation" and how.get("stop_early", True):
            left &= ~best.success
        if access.budget is not None:
            left &= best.forwards + least + anew <= access.budget
        if not len(mine := left.nonzero().squeeze(1)):
            break
        some = torch.as_tensor(x)[mine.to(x.device) if isinstance(x, Tensor) else mine.cpu()]
        aim = order[mine.to(order.device), place]
        here = {"rows": best.row[mine], "spent": best.forwards[mine] + anew, **how}
        best = best.improved(mine, run(_of(attack, mine.cpu()), access, some, best.label[mine], aim, **here))
    return _anew(attack, access, best, how.get("seed", 0)) if anew else best


def _anew(attack: Attack, access: Access, best: Result, seed: int) -> Result:
    """The points that were picked for what some draws said of them, judged anew: any class but the label counts."""
    x = access.points(best.x)
    every, label = torch.arange(len(x), device=x.device), best.label.to(x.device)
    with access.session(x, mix(seed, "anew")) as ledger:
        ledger.forwards = ledger.forwards + best.forwards.to(x.device)
        size = best.provenance["batch_size"]
        judge = Judge(
            access, attack.goal, label, None, size, ledger, x.dtype, OfInputs(), x, attack.confidence
        )
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
        said = _clean(access, x, max(1, size // max(1, ledger.price)))
        classes = _classes(access, x, said)
        truth = _answers(said) if y is None else y
        checks.check_classes(truth, classes, "y" if y is not None else "the classifier's own answer")
        target = _targets.resolve(target, said, truth, noise, classes)
        if y is not None:
            _targets.check_other(target, y)
        judge = Judge(
            access, attack.goal, truth, target, size, ledger, x.dtype, threat, x, attack.confidence, classes
        )
        every = torch.arange(len(x), device=x.device)
        wrong, _, errs = replace(judge, target=None, confidence=0.0).rate(said, every)
        rank, score, share = judge.rate(said, every)
        origin = threat.origin(x)
        board, met = Board(origin, rank, score), rank == SUCCESS
        if not access.decides:  # answers of another kind than the search's: not to be compared
            board.merit.fill_(-torch.inf)
        todo = (~met if stop_early else torch.ones_like(met)).nonzero().squeeze(1)
        walls = threat.walls(access.box, x)
        loop = Loop(attack, judge, board, origin, walls, noise, stop_early, on_progress)
        fresh = loop.finish(todo, loop.move(todo))
        if fresh is not None:
            share[todo] = fresh
        distance, ends = threat.distance(board.x, origin), judge.sent(board.x, every)

    found = {"x": ends, "success": board.rank == SUCCESS, "undecided": board.rank == UNDECIDED}
    found |= {"already_met": met, "already_wrong": wrong == SUCCESS}
    found |= {"distance": distance, "score": board.score}
    found |= {"forwards": ledger.forwards - before, "backwards": ledger.backwards}
    found |= {"row": torch.as_tensor(noise.rows, dtype=torch.long), "label": truth}
    found |= {} if target is None else {"target": target}
    found |= {"change": board.x} if threat.charted else {}
    found |= {} if len(said) == 1 else {"share": share, "clean_share": errs}
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
            data_sha256=hashlib.sha256(x.cpu().flatten().view(torch.uint8).numpy()).hexdigest(),
            dtype=str(x.dtype),
            device=str(x.device),
            seconds=round(time.perf_counter() - began, 3),
        ),
    )


def _clean(access: Access, x: Tensor, size: int) -> Tensor:
    """What is said of the clean rows, after the checks of the classifier that need it."""
    if not len(x):
        return x.new_zeros(access.judging, 0, 2)
    rows = torch.arange(len(x), device=x.device)
    ask = access.look if access.decides else access.verdict
    said = torch.cat([ask(some, mine).said for some, mine in zip(x.split(size), rows.split(size))], 1)
    access.inspect(x, said)
    return said


def _classes(access: Access, x: Tensor, said: Tensor) -> int | None:
    """K; None where nothing shows it, or nobody asks. A search sees scores where the verdicts are labels (gray box)."""
    if not len(x) or (said.ndim == 2 and "scores" not in access.sees):
        return None
    return said.shape[2] if said.ndim == 3 else access.look(x[:1]).said.shape[2]


def _answers(said: Tensor) -> Tensor:
    """The classifier's own labels, by the mean logits or the most frequent label of the draws."""
    return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)
