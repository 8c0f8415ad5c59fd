"""From a call to runs of the engine: chunk by chunk of the rows, and target by target where several are wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi.access import Access
from psiphi.access._refusal import answering
from psiphi.attacks import _rows, _targets
from psiphi.attacks._board import SUCCESS, UNDECIDED, Judge
from psiphi.attacks._protocols import take
from psiphi.attacks._result import Result
from psiphi.attacks.engine import run
from psiphi.attacks.threats._base import OfInputs
from psiphi.basis.noise import mix

if TYPE_CHECKING:
    from psiphi.attacks._attack import Attack


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
    access = answering(access, label)
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
