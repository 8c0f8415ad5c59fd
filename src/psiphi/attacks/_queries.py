"""What a black box was asked, against what it gave away: from the trace of a result."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psiphi.attacks._board import within
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.intervals import wilson

if TYPE_CHECKING:
    from psiphi.attacks._result import Result


def traced(trace: list[Tensor], noise: Noise, before: int | Tensor, minimum: bool) -> Tensor:
    """Lines (place, forwards, distance) as lines (row, forwards of this run, distance), in order.

    Of a row the first, and if `minimum` all that are nearer than those before.
    """
    lines = torch.cat(trace) if trace else torch.zeros(0, 3, dtype=torch.float64)
    place = lines[:, 0].long()
    row = torch.as_tensor(noise.rows, dtype=torch.float64).cpu()[place]
    spent = before.cpu()[place] if isinstance(before, Tensor) else before
    lines = sorted_trace(torch.stack((row, lines[:, 1] - spent, lines[:, 2]), 1))
    _, number, count = lines[:, 0].unique_consecutive(return_inverse=True, return_counts=True)
    place = torch.arange(len(lines)) - (count.cumsum(0) - count)[number]
    if not minimum or not len(lines):
        return lines[place == 0]
    table = lines.new_full((len(count), int(count.max()) + 1), inf)
    table[number, place + 1] = lines[:, 2]
    return lines[lines[:, 2] < table.cummin(1).values[number, place]]


def sorted_trace(trace: Tensor) -> Tensor:
    """By row, then by forwards."""
    trace = trace[trace[:, 1].argsort(stable=True)]
    return trace[trace[:, 0].argsort(stable=True)]


def continued(first: Result, rows: Tensor, second: Result) -> Tensor | None:
    """The trace of a result whose `rows` went on with a second run, which counted its forwards anew."""
    if first.trace is None or second.trace is None:
        return None
    after = second.trace.clone()
    after[:, 1] += first.forwards[rows].to(after)[_places(second, after)]
    return sorted_trace(torch.cat((first.trace, after)))


def _places(result: Result, trace: Tensor) -> Tensor:
    """The place in the result of each line's row."""
    row, order = result.row.cpu().sort()
    return order[torch.searchsorted(row, trace[:, 0].long().cpu())].to(trace.device)


def distances(result: Result, queries: Sequence[int]) -> Tensor:
    """See `Result.distance_at`."""
    counts = _checked(queries)
    if result.trace is None:
        raise ArgumentError(
            "there is no trace of queries: it is kept of a run on black_box(...), whose answers stand as they come; "
            "this run had another access."
        )
    trace = result.trace.cpu()
    where = _places(result, trace)[:, None].expand(-1, len(counts))
    far = torch.where(trace[:, 1:2] <= counts, trace[:, 2:], inf)
    nearest = torch.full((len(result), len(counts)), inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, where, far, "amin")
    return nearest.where(~result.already_met.cpu()[:, None], 0)


def shares(result: Result, queries: Sequence[int], eps: float) -> Tensor:
    """See `Result.success_at`."""
    near = distances(result, queries)[~result.already_met.cpu()]
    return (near.isfinite() & within(near, eps)).double().mean(0)


def curve(result: Result, queries: Sequence[int] | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `Result.query_curve`."""
    if queries is None:
        trace = torch.zeros(0, 3) if result.trace is None else result.trace.cpu()
        near = within(trace[:, 2], eps)
        first = torch.full((len(result),), inf, dtype=torch.float64)
        first.scatter_reduce_(0, _places(result, trace)[near], trace[near, 1].double(), "amin")
        queries = first[first.isfinite()].unique().long().tolist() or [1]
    share, n = shares(result, queries, eps), int((~result.already_met).sum())
    if not n:
        return _checked(queries), share, torch.full((len(share), 2), torch.nan)
    interval = [wilson(round(part * n), n) for part in share.tolist()]
    return _checked(queries), share, torch.tensor(interval, dtype=torch.float64)


def _checked(queries: Sequence[int]) -> Tensor:
    counts = torch.as_tensor(queries).flatten().cpu()
    if not len(counts) or counts.is_floating_point() or (counts < 0).any():
        raise ArgumentError(f"queries are whole numbers of at least 0, one at least; got {queries!r}.")
    return counts
