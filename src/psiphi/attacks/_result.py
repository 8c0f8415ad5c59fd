"""What an attack found, row by row, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks import _files, _queries, _rows
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.formulas.intervals import normal, wilson

_FORMAT = "psiphi attack result 3"
_REST = ("kind", "targeted", "provenance")
_OPTIONAL = ("target", "change", "share", "clean_share", "broken_by", "trace")


@dataclass(frozen=True, repr=False)
class Result:
    """The outcome of an attack on n rows.

    x              the points returned, (n, *x): of a failure, the one of highest score
    success        the goal holds at x by more than rounding; true of `already_met` rows, whose x is unchanged
    undecided      the goal ties or holds within rounding: no success, but counted as broken in `accuracy`
    already_met    the goal held before the attack
    already_wrong  misclassified before the attack
    distance       of x from the input, in the threat's norm
    score          of the goal at x
    forwards, backwards   rows sent through the model, and back, for each row
    kind           'fixed-perturbation' or 'minimum-norm'
    label          the true class, or the classifier's own answer where none was given
    row            the number of each row in the whole batch, of which this may be a part
    target         the class that each row was to reach; None where it was any but the label
    change         the coordinates of x in the chart of a threat that has one, such as an angle and a shift, (n, *u)
    share          of fresh draws of a random classifier in which the goal holds; None of a deterministic one
    clean_share    of fresh draws that misclassify the row before the attack; None of a deterministic classifier
    broken_by      of a battery: the number of the attack that broke the row, whose names are
                   `provenance["attacks"]`; −1 for none
    trace          of a black box: a line (row, forwards, distance) for each success that bettered its row's, (m, 3)
    """

    x: Tensor
    success: Tensor
    undecided: Tensor
    already_met: Tensor
    already_wrong: Tensor
    distance: Tensor
    score: Tensor
    forwards: Tensor
    backwards: Tensor
    label: Tensor
    row: Tensor
    kind: str
    targeted: bool = False
    target: Tensor | None = None
    change: Tensor | None = None
    share: Tensor | None = None
    clean_share: Tensor | None = None
    broken_by: Tensor | None = None
    trace: Tensor | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def robust(self) -> Tensor:
        """Rows classified correctly and not broken, (n,); undecided counts as broken."""
        return ~(self.already_wrong | self.success | self.undecided)

    @property
    def accuracy(self) -> float:
        """Robust accuracy, of a random classifier the mean share of draws that stand; NaN without rows."""
        return _share(self.robust) if self.share is None or self.targeted else _mean(1 - self.share)

    @property
    def clean_accuracy(self) -> float:
        """Accuracy before the attack, of a random classifier the mean share of draws that are right."""
        return _share(~self.already_wrong) if self.clean_share is None else _mean(1 - self.clean_share)

    @property
    def success_rate(self) -> float:
        """Successes among the rows where the goal did not hold already; NaN without any."""
        return _share(self.success[~self.already_met])

    @property
    def broken(self) -> Tensor:
        """Rows where the goal did not hold before and does at x, (n,)."""
        return self.success & ~self.already_met

    def success_at(self, queries: Sequence[int], eps: float = inf) -> Tensor:
        """Share of the rows where the goal did not hold already that had a success, at a distance of at most `eps`,
        after so many forwards, (m,)."""
        return _queries.shares(self, queries, eps)

    def distance_at(self, queries: Sequence[int]) -> Tensor:
        """Of the nearest success after so many forwards, (n, m); infinite where there was none, 0 if already met."""
        return _queries.distances(self, queries)

    def query_curve(
        self, queries: Sequence[int] | None = None, eps: float = inf
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (m,), by default where a row succeeds; `success_at` of them; intervals (m, 2), 95 % by Wilson."""
        return _queries.curve(self, queries, eps)

    @staticmethod
    def cat(parts: Sequence[Result]) -> Result:
        """Parts of one attack as one result, in the order of their rows.

        Raises `ArgumentError` for a row in two parts, and for parts of different kinds.
        """
        if not parts:
            raise ArgumentError("there are no parts to join: one result at least is needed.")
        if len(parts) == 1:
            return parts[0]
        order = _rows.in_order([part.row for part in parts], "attack")
        joined = {}
        for f in fields(Result):
            values = [getattr(part, f.name) for part in parts]
            if f.name == "trace" and all(isinstance(value, Tensor) for value in values):
                joined["trace"] = _queries.sorted_trace(torch.cat(values))
            elif all(isinstance(value, Tensor) for value in values):
                joined[f.name] = torch.cat(values)[order.to(values[0].device)]
            elif f.name != "provenance" and any(_unlike(value, values[0]) for value in values):
                raise ArgumentError(f"the parts differ in `{f.name}`: these are not the parts of one attack.")
        told = dict(parts[0].provenance)
        told |= {"rows": len(order), "parts": len(parts)}
        told["seconds"] = round(sum(part.provenance.get("seconds", 0.0) for part in parts), 3)
        told["data_sha256"] = [part.provenance.get("data_sha256") for part in parts]
        return replace(parts[0], **joined, provenance=told)

    def beaten(self, rows: Tensor, other: Result) -> Tensor:
        """Where `other`, of these rows, is better: success, then undecided, then the nearer or the higher score."""
        rank, best = (2 * r.success.long() + r.undecided.long() for r in (other, self))
        tie = other.score > self.score[rows]
        if self.kind == "minimum-norm":
            tie = torch.where(other.success, other.distance < self.distance[rows], tie)
        return (rank > best[rows]) | ((rank == best[rows]) & tie)

    def improved(self, rows: Tensor, other: Result, better: Tensor | None = None) -> Result:
        """`other`, of these rows, where it is `better`, by default where this one is `beaten`; costs add up."""
        better = self.beaten(rows, other) if better is None else better
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        mine = {name: value.clone() for name, value in mine.items() if isinstance(value, Tensor)}
        for name in ("x", "success", "undecided", "distance", "score", "target", "change", "share"):
            if name in mine:
                mine[name][rows[better]] = getattr(other, name)[better]
        for name in ("forwards", "backwards"):
            mine[name][rows] += getattr(other, name)
        return replace(self, **{**mine, "trace": _queries.continued(self, rows, other)})

    def summary(self) -> str:
        """A few lines for people."""
        n = len(self)
        if not n:
            return "no rows were attacked"
        low, high = wilson(int(self.robust.sum()), n)
        how = "95 %, Wilson"
        if self.share is not None and not self.targeted and n > 1:
            (low, high), how = normal(1 - self.share), "95 %, of the mean over draws"
        moved = self.distance[self.broken].double()
        far = f", median distance {moved.median():.4g}, mean {moved.mean():.4g}" if len(moved) else ""
        return (
            f"{self.provenance.get('attack', 'attack')} on {n} rows{' (targeted)' if self.targeted else ''}\n"
            f"  misclassified before  {int(self.already_wrong.sum())}\n"
            f"  goal met before       {int(self.already_met.sum())}\n"
            f"  broken by the attack  {len(moved)}{far}\n{self._told_by()}"
            f"  undecided             {int(self.undecided.sum())}\n"
            f"  robust accuracy       {self.accuracy:.1%}   [{low:.1%}, {high:.1%}] ({how})\n"
            f"  forwards, backwards   {int(self.forwards.sum())}, {int(self.backwards.sum())}"
        )

    def _told_by(self) -> str:
        """Of a battery, how many rows each attack broke."""
        if self.broken_by is None:
            return ""
        names = self.provenance.get("attacks", [])
        counts = [int((self.broken_by == place).sum()) for place in range(len(names))]
        return (
            f"    by                  {', '.join(f'{n} {c}' for n, c in zip(names, counts) if c) or 'none'}\n"
        )

    def __repr__(self) -> str:
        share = f"{self.accuracy:.1%}" if len(self) else "of no rows"
        return (
            f"Result({len(self)} rows, {int(self.success.sum())} successes, {int(self.undecided.sum())} "
            f"undecided, robust accuracy {share}, {self.kind})"
        )

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, then `path`.json, which names the SHA-256 of the former."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        rest = {name: values[name] for name in _REST}
        _files.save(path, tensors, {"format": _FORMAT, **rest})

    @staticmethod
    def load(path: str | Path) -> Result:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        names = [f.name for f in fields(Result) if f.name not in (*_REST, *_OPTIONAL)]
        tensors, record = _files.load(path, "attack result", _FORMAT, names, _OPTIONAL)
        try:
            return Result(**tensors, **{name: record[name] for name in _REST})
        except KeyError as error:
            raise FileError(f"{path} is no attack result: it lacks {error}.") from None


def _unlike(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or bool(one != other)


def _share(rows: Tensor) -> float:
    return _mean(rows.double())


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else float("nan")
