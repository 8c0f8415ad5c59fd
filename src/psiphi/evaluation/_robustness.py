"""Robust accuracy of a classifier: attacks, curves and verdicts in one record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from psiphi.attacks import _calls, _rows
from psiphi.basis.errors import ArgumentError
from psiphi.basis.provenance import provenance
from psiphi.evaluation._honest import module_of
from psiphi.evaluation._honest._certified import as_certificate, part_of
from psiphi.evaluation._honest._state import State
from psiphi.evaluation._honesty import DRAWS, LIMIT, QUERIES, behind, numbers, probed, quiet
from psiphi.evaluation._robust._merge import entries_of, groups_of, merged, radius, taken, worsened
from psiphi.evaluation._robust._record import Headline, Robustness

__all__ = ["Headline", "Robustness", "robustness"]

Progress = Callable[[int, int], None]


def robustness(
    classifier: Any,
    x: Any,
    y: Any = None,
    attacks: Any = None,
    *,
    eps: Sequence[float] | None = None,
    independent: bool = False,
    honesty: bool = True,
    limit: int = LIMIT,
    seed: int = 0,
    batch_size: int | None = None,
    rows: range | Tensor | None = None,
    queries: int = QUERIES,
    surrogate: Any = None,
    certificate: Any = None,
    draws: int = DRAWS,
    on_progress: Progress | None = None,
) -> Robustness:
    """Robust accuracy of `classifier` on x (B, *x) with labels y (B,): the worst that any of `attacks` finds.

    classifier   a module or function of x that returns logits (B, K), or an access, which says what attackers may see;
                 one that draws goes into `access.expectation`
    attacks      an attack, a battery, or several of both. Each attack is run on every row that is classified rightly,
                 so that each has a number of its own; the attacks of a battery only on what those before them left:
                 `attacks=auto(threat).attacks` gives the former, `[auto(threat)]` costs less
    eps          radii of a curve for each threat, by bisection, or at each by itself where `independent`
    honesty      whether to ask, on the rows numbered below `limit`, if the numbers can be trusted: see
                 `evaluation.honesty`, whose arguments `queries`, `surrogate`, `certificate`, `draws` are. What its
                 probes break counts in the worst case
    rows         the numbers of the rows, where x is a part of a larger batch: `Robustness.cat` of the parts is the
                 whole, if all have the same `surrogate`; of a random classifier up to the error of its draws, which
                 come from torch's random state for a whole batch

    Of a random classifier the worst of several is picked by one set of draws and reported on another; a number of a
    curve, of the probed rows or of a purifier's levels takes its place where it is lower by more than 4 standard errors
    of the draws. Raises what the attacks raise: `AccessError` for a classifier that cannot be attacked as it is, which
    `evaluation.honesty` explains.

    Source: Carlini et al., "On evaluating adversarial robustness", 2019 (what to report).
    """
    began = time.perf_counter()
    entries = entries_of(attacks)
    access = behind(classifier, list(entries.values()))
    x, y = _rows.gathered(x, y)
    row = numbers(rows, len(x))
    if not len(x):
        raise ArgumentError("x has no rows: hand over one at least.")
    certificate = as_certificate(certificate, len(x))
    before, groups = State.of(module_of(access)), groups_of(entries)
    turns = len(entries) + len(groups) * ((eps is not None) + honesty)
    move = iter([_moved(on_progress, turn, turns, len(x)) for turn in range(turns)])
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    worst, curves, judged = {}, {}, {}
    with quiet() if honesty else nullcontext():
        found = {
            name: each(access, x, y, rows=row, on_progress=next(move), **how)
            for name, each in entries.items()
        }
        label = next(iter(found.values())).label
        for threat, group in groups.items():
            if eps is not None:
                alone, told = independent or access.judging > 1, next(move)
                curves[threat] = group.battery.curve(
                    access, x, label, eps=eps, independent=alone, rows=row, on_progress=told, **how
                )
            best, probes = merged(access, group, found, seed), {}
            if honesty:
                mine = (row < limit).nonzero().squeeze(1)
                judged[threat], probes = probed(
                    access, x[mine.to(x.device)], row[mine], _calls.part(group.battery, mine), taken(best, mine),
                    before=before, queries=queries, surrogate=surrogate, draws=draws,
                    known=x if rows is None else None, certificate=part_of(certificate, mine),
                    on_progress=next(move), **how,
                )  # fmt: skip
            worst[threat] = worsened(access, group, best, probes, seed)
            if honesty:
                judged[threat] = judged[threat].of(worst[threat])
    radii = {threat: radius(group.battery.threat) for threat, group in groups.items()}
    told = provenance(
        attacks={name: repr(each) for name, each in entries.items()},
        access=repr(access),
        seed=seed,
        rows=len(x),
        judging=access.judging,
        radii={threat: eps for threat, eps in radii.items() if eps is not None},
        seconds=round(time.perf_counter() - began, 3),
    )
    threats = {name: threat for threat, group in groups.items() for name in group.names}
    return Robustness(found, {name: threats[name] for name in entries}, worst, curves, judged, told)


def _moved(on_progress: Progress | None, turn: int, turns: int, n: int) -> Progress | None:
    """Progress of one of the turns as progress of all, in rows."""
    if on_progress is None:
        return None
    return lambda done, of: on_progress(turn * n + done * n // max(of, 1), turns * n)
