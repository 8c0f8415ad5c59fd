"""What an attack found, row by row, and where it comes from."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.formulas.intervals import wilson

_FORMAT = "psiphi attack result 2"


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
    row            the number of each row in the whole batch, of which this may be a part
    target         the class that each row was to reach; None where it was any but the label
    share          of fresh draws of a random classifier in which the goal holds; None of a deterministic one
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
    row: Tensor
    kind: str
    targeted: bool = False
    target: Tensor | None = None
    share: Tensor | None = None
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
        if self.share is None or self.targeted or not len(self):
            return _share(self.robust)
        return (1 - self.share).mean().item()

    @property
    def clean_accuracy(self) -> float:
        return _share(~self.already_wrong)

    @property
    def success_rate(self) -> float:
        """Successes among the rows where the goal did not hold already; NaN without any."""
        return _share(self.success[~self.already_met])

    @staticmethod
    def cat(parts: Sequence[Result]) -> Result:
        """Parts of one attack as one result, in the order of their rows. Raises `ArgumentError` for a row twice."""
        if len(parts) == 1:
            return parts[0]
        row = torch.cat([part.row for part in parts])
        order = row.argsort()
        if (row[order].diff() == 0).any():
            raise ArgumentError("some rows are in two of the parts: these are not the parts of one attack.")
        joined = {}
        for f in fields(Result):
            values = [getattr(part, f.name) for part in parts]
            if all(isinstance(value, Tensor) for value in values):
                joined[f.name] = torch.cat(values)[order.to(values[0].device)]
        told = dict(parts[0].provenance)
        told |= {"rows": len(row), "parts": len(parts)}
        told["seconds"] = round(sum(part.provenance.get("seconds", 0.0) for part in parts), 3)
        told["data_sha256"] = [part.provenance.get("data_sha256") for part in parts]
        return replace(parts[0], **joined, provenance=told)

    def improved(self, rows: Tensor, other: Result) -> Result:
        """`other`, of these rows, where it is better: success, then undecided, then the nearer or the higher score."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        mine = {name: value.clone() for name, value in mine.items() if isinstance(value, Tensor)}
        rank, best = (2 * r.success.long() + r.undecided.long() for r in (other, self))
        tie = other.score > self.score[rows]
        if self.kind == "minimum-norm":
            tie = torch.where(other.success, other.distance < self.distance[rows], tie)
        better = (rank > best[rows]) | ((rank == best[rows]) & tie)
        for name in ("x", "success", "undecided", "distance", "score", "target", "share"):
            if name in mine:
                mine[name][rows[better]] = getattr(other, name)[better]
        for name in ("forwards", "backwards"):
            mine[name][rows] += getattr(other, name)
        return replace(self, **mine)

    def summary(self) -> str:
        """A few lines for people."""
        n = len(self)
        if not n:
            return "no rows were attacked"
        low, high = wilson(int(self.robust.sum()), n)
        fresh = self.success & ~self.already_met
        moved = f", median distance {self.distance[fresh].median().item():.4g}" if fresh.any() else ""
        return (
            f"{self.provenance.get('attack', 'attack')} on {n} rows{' (targeted)' if self.targeted else ''}\n"
            f"  misclassified before  {int(self.already_wrong.sum())}\n"
            f"  goal met before       {int(self.already_met.sum())}\n"
            f"  broken by the attack  {int(fresh.sum())}{moved}\n"
            f"  undecided             {int(self.undecided.sum())}\n"
            f"  robust accuracy       {self.accuracy:.1%}   [{low:.1%}, {high:.1%}] (95 %, Wilson)\n"
            f"  forwards, backwards   {int(self.forwards.sum())}, {int(self.backwards.sum())}"
        )

    def __repr__(self) -> str:
        share = f"{self.accuracy:.1%}" if len(self) else "of no rows"
        return (
            f"Result({len(self)} rows, {int(self.success.sum())} successes, {int(self.undecided.sum())} "
            f"undecided, robust accuracy {share}, {self.kind})"
        )

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, then `path`.json, which names the SHA-256 of the former."""
        base = _base(path)
        buffer = io.BytesIO()
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays: dict[str, Any] = {
            k: v.detach().cpu().numpy() for k, v in values.items() if isinstance(v, Tensor)
        }
        np.savez_compressed(buffer, **arrays)
        data = buffer.getvalue()
        files.write(_with(base, ".npz"), data)
        record = {"format": _FORMAT, "kind": self.kind, "targeted": self.targeted}
        record |= {"provenance": self.provenance, "sha256": hashlib.sha256(data).hexdigest()}
        files.write_json(_with(base, ".json"), record)

    @staticmethod
    def load(path: str | Path) -> Result:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        base = _base(path)
        record = files.read_json(_with(base, ".json"))
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise FileError(f"{_with(base, '.json')} is no attack result of this version ({_FORMAT}).")
        npz = _with(base, ".npz")
        try:
            data = npz.read_bytes()
        except OSError as error:
            raise FileError(f"{npz} cannot be read ({error}).") from None
        if hashlib.sha256(data).hexdigest() != record.get("sha256"):
            raise FileError(f"{npz} is cut short or changed: its SHA-256 is not the one in {base.name}.json.")
        optional = ("target", "share")
        names = [
            f.name for f in fields(Result) if f.name not in ("kind", "targeted", "provenance", *optional)
        ]
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                names += [name for name in optional if name in arrays]
                tensors = {name: torch.from_numpy(arrays[name]) for name in names}
            rest = {name: record[name] for name in ("kind", "targeted", "provenance")}
        except (KeyError, ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
            raise FileError(f"{npz} is no attack result ({error}).") from None
        return Result(**tensors, **rest)


def _share(rows: Tensor) -> float:
    return rows.double().mean().item() if len(rows) else float("nan")


def _base(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".npz", ".json") else path


def _with(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)
