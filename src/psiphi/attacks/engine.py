"""From a batch to its result: checks, the clean answers, the targets, the loop, the record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.access import Access
from psiphi.access import _checks as checks
from psiphi.attacks import _queries, _rows, _targets
from psiphi.attacks._board import SUCCESS, UNDECIDED, Board, Judge
from psiphi.attacks._loop import Loop, Progress
from psiphi.attacks._protocols import Needs, take
from psiphi.attacks._result import Result
from psiphi.attacks.threats._base import OfInputs
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, mix
from psiphi.basis.provenance import provenance

if TYPE_CHECKING:
    from psiphi.attacks._attack import Attack

_SMALL, _LARGE, _MANY = (
    96,
    512,
    1024,
)  # rows of a pass: with gradients on a CPU; elsewhere; questions on a CPU
_IMAGE = 784  # numbers of a row that so many are right for


def attack(
    attack: Any,
    access: Access,
    x: Any,
    y: Any,
    target: Any,
    rows: Any,
    how: dict[str, Any],
    one: Callable[..., Result] | None = None,
) -> Result:
    """Chunk by chunk of the rows, and target by target where several are wanted; see `Attack.__call__`.

    one: what attacks a chunk in the place of `run`.
    """
    several = isinstance(target, _targets.Rivals) or (isinstance(target, str) and target == "all")
    one = one or (_every if several else run)
    parts, start, streamed = [], 0, _rows.streamed(x)
    for some, labels in _rows.chunks(x, y):
        if not streamed:
            return one(attack, access, some, labels, target, rows=rows, **how)
        here = slice(start, start + len(some))
        mine = range(here.start, here.stop) if rows is None else rows[here]
        aim = target[here] if isinstance(target, Tensor) and target.ndim else target
        parts.append(one(part(attack, here), access, some, labels, aim, rows=mine, **how))
        start = here.stop
    for name, given in (("target", target), ("rows", rows), ("eps", getattr(attack.threat, "eps", None))):
        _rows.check_length(name, given, start)
    return Result.cat(parts)


def part(attack: Any, index: Any) -> Any:
    """The attack with the radii of these rows, where each has its own."""
    eps = getattr(attack.threat, "eps", None)
    if not (isinstance(eps, Tensor) and eps.ndim):
        return attack
    return replace(attack, threat=replace(attack.threat, eps=eps[index]))


def _every(
    attack: Attack,
    access: Access,
    x: Any,
    y: Any,
    target: Any,
    *,
    rows: Any,
    spent: Tensor | None = None,
    **how: Any,
) -> Result:
    """The best over every class but the label, the likeliest first, or over the first of them: of each row the least
    distance of a minimum-norm attack, else the first class reached, else the highest score."""
    order = torch.zeros(0, 0)

    def likeliest(logits: Tensor, y: Tensor) -> Tensor:
        nonlocal order
        order = _targets.others(logits, y)
        return order[:, 0]

    anew = access.judging if access.judging > 1 else 0  # kept for the last judgement of random answers
    before = torch.zeros(len(x), dtype=torch.long) if spent is None else spent.cpu()
    how["loose"] = isinstance(target, _targets.Rivals)
    best = run(attack, access, x, y, likeliest, rows=rows, spent=before + anew, **how)
    best, before = replace(best, targeted=False), before.to(best.forwards.device)
    least = 1 if access.decides else 2 * access.judging  # what a run costs a row, whatever it finds
    left = ~best.already_wrong
    most = target.count if how["loose"] else order.shape[1]
    if how["loose"] and access.budget is None and not access.recorded:
        best = _beside(attack, access, best, x, order[:, 1:most], how)
        return anew_judged(attack, access, best, how.get("seed", 0), before) if anew else best
    for place in range(1, min(most, order.shape[1])):
        if attack.kind == "fixed-perturbation" and how.get("stop_early", True):
            left &= ~best.success
        if access.budget is not None:
            left &= before + best.forwards + least + anew <= access.budget
        if not len(mine := left.nonzero().squeeze(1)):
            break
        some = torch.as_tensor(x)[mine.to(x.device) if isinstance(x, Tensor) else mine.cpu()]
        aim = order[mine.to(order.device), place]
        here = {"rows": best.row[mine], "spent": before[mine] + best.forwards[mine] + anew, **how}
        best = best.improved(mine, run(part(attack, mine.cpu()), access, some, best.label[mine], aim, **here))
    return anew_judged(attack, access, best, how.get("seed", 0), before) if anew else best


def _beside(
    attack: Attack, access: Access, best: Result, x: Any, aims: Tensor, how: dict[str, Any]
) -> Result:
    """The best so far, or what an attack towards any of these classes (n, T) finds: T attacks on each row at once."""
    left = torch.ones_like(best.success)
    if attack.kind == "fixed-perturbation" and how.get("stop_early", True):
        left = ~best.success
    mine, places = left.nonzero().squeeze(1), aims.shape[1]
    x, tell, done = torch.as_tensor(x), how.get("on_progress"), len(best) - len(mine)
    for some in mine.split(best.provenance["batch_size"]) if places * len(mine) else ():
        many = some.repeat_interleave(places)
        told = {**how, "on_progress": None, "rows": best.row[many]}
        aim = aims[some.to(aims.device)].flatten()
        found = run(part(attack, many.cpu()), access, x[many.to(x.device)], best.label[many], aim, **told)
        for place in range(places):
            best = best.improved(
                some, take(found, torch.arange(place, len(many), places, device=many.device))
            )
        done += len(some)
        if tell is not None:
            tell(done, len(best))
    return best


def anew_judged(attack: Attack, access: Access, best: Result, seed: int, before: Tensor) -> Result:
    """The points that were picked for what some draws said of them, judged anew, by the target where there is one."""
    x = access.points(best.x)
    every, label = torch.arange(len(x), device=x.device), best.label.to(x.device)
    target = best.target.to(x.device) if best.targeted and best.target is not None else None
    with access.session(x, mix(seed, "anew")) as ledger:
        ledger.forwards = ledger.forwards + (before + best.forwards).to(x.device)
        size = best.provenance["batch_size"]
        judge = Judge(
            access, attack.goal, label, target, size, ledger, x.dtype, OfInputs(), x, attack.confidence
        )
        rank, _, share = judge.verify(x, every)
    found = {"success": rank == SUCCESS, "undecided": rank == UNDECIDED, "share": share}
    found |= {"forwards": ledger.forwards - before.to(x.device)}
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
    size = batch_size or _size(x, attack.search.needs)
    before = 0 if spent is None else spent.to(x.device)
    with access.session(x, seed) as ledger:
        ledger.forwards = ledger.forwards + before
        said = _clean(access, x, max(1, size // max(1, ledger.price)))
        classes = _classes(access, x, said)
        truth = _answers(said) if y is None else y
        checks.check_classes(truth, classes, "y" if y is not None else "the classifier's own answer")
        shown = _shown(access, x, said, size) if isinstance(target, str) or callable(target) else said
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
