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
from psiphi.access._refusal import answering
from psiphi.attacks import _queries, _targets
from psiphi.attacks._board import SUCCESS, UNDECIDED, Board, Judge
from psiphi.attacks._loop import Loop, Progress
from psiphi.attacks._protocols import Needs
from psiphi.attacks._result import Result
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.basis.provenance import provenance
from psiphi.formulas.goals import Relative

if TYPE_CHECKING:
    from psiphi.attacks._attack import Attack

_SMALL, _LARGE, _MANY = 96, 512, 1024  # rows of a pass: on a CPU; elsewhere; on a CPU, questions alone
_IMAGE = 784  # numbers of a row that so many are right for


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
    loose: bool = False,
) -> Result:
    """Attack every row of `x`; see `Attack.__call__`.

    `rows` are the numbers that key the rows' noise, `spent` the forwards of an earlier run that the budget knows of;
    `loose` where any misclassification is a success, whatever the target.
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
    access = answering(access, y)
    size = batch_size or _size(x, attack.search.needs)
    before = 0 if spent is None else spent.to(x.device)
    with access.session(x, seed) as ledger:
        ledger.forwards = ledger.forwards + before
        said = _clean(access, x, max(1, size // max(1, ledger.price)))
        classes = _classes(access, x, said)
        truth = _answers(said) if y is None else y
        checks.check_classes(truth, classes, "y" if y is not None else "the classifier's own answer")
        wanted = isinstance(target, str) or callable(target) or isinstance(attack.goal, Relative)
        shown = _shown(access, x, said, size) if wanted else said
        target = _targets.resolve(target, shown, truth, noise, classes)
        if y is not None:
            _targets.check_other(target, y)
        if target is not None and not getattr(attack.search, "aims", True):
            raise ArgumentError(
                f"{attack!r} reaches a class from points of that class: give some as start=points."
            )
        judge = Judge(
            access,
            attack.goal,
            truth,
            target,
            size,
            ledger,
            x.dtype,
            threat,
            x,
            attack.confidence,
            classes,
            loose,
            shown.mean(0) if isinstance(attack.goal, Relative) and shown.ndim == 3 else None,
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
    found |= {} if target is None or loose else {"target": target}
    found |= {"change": board.x} if threat.charted else {}
    found |= {} if len(said) == 1 else {"share": share, "clean_share": errs}
    found |= {"trace": _queries.traced(board.trace, noise, before, loop.minimum)} if access.recorded else {}
    return Result(
        **{name: value.to(home) for name, value in found.items()},
        kind=attack.kind,
        targeted=target is not None and not loose,
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


def _size(x: Tensor, needs: Needs) -> int:
    """Rows of a pass. On a CPU few, since caches are small, but more where small rows are only asked about."""
    if x.device.type != "cpu":
        return _LARGE
    if needs in ("gradient", "jacobian"):
        return _SMALL
    return min(max(_SMALL, _SMALL * _IMAGE // max(1, x[:1].numel())), _MANY)


def _clean(access: Access, x: Tensor, size: int) -> Tensor:
    """What is said of the clean rows, after the checks of the classifier that need it."""
    if not len(x):
        return x.new_zeros(access.judging, 0, 2)
    rows = torch.arange(len(x), device=x.device)
    ask = access.look if access.decides else access.verdict
    said = torch.cat([ask(some, mine).said for some, mine in zip(x.split(size), rows.split(size))], 1)
    access.inspect(x, said)
    return said


def _shown(access: Access, x: Tensor, said: Tensor, size: int) -> Tensor:
    """Scores of the clean rows, which a search may see where the verdicts are labels (gray box); else what was said."""
    if said.ndim == 3 or "scores" not in access.sees or not len(x):
        return said
    return torch.cat([access.look(some).said for some in x.split(size)], 1)


def _classes(access: Access, x: Tensor, said: Tensor) -> int | None:
    """K; None where nothing shows it, or nobody asks. A search sees scores where the verdicts are labels (gray box)."""
    if not len(x) or (said.ndim == 2 and "scores" not in access.sees):
        return None
    return said.shape[2] if said.ndim == 3 else access.look(x[:1]).said.shape[2]


def _answers(said: Tensor) -> Tensor:
    """The classifier's own labels, by the mean logits or the most frequent label of the draws."""
    return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)
