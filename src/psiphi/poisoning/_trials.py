"""Train, then evaluate: a clean and a poisoned model from one start, several times over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from math import nan
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from psiphi.basis import files
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.basis.noise import mix
from psiphi.basis.provenance import provenance
from psiphi.basis.shapes import as_float
from psiphi.formulas.intervals import Mean, clopper_pearson, student
from psiphi.poisoning._aims import answers
from psiphi.poisoning._poison import Poison, _rows
from psiphi.poisoning._poisoned import Poisoned
from psiphi.poisoning._victim import Victim

_FORMAT = "psiphi poisoning trials 1"
Progress = Callable[[int, int], None]


class Kept(Protocol):
    """What a filter gives."""

    @property
    def keep(self) -> Tensor: ...


Filter = Callable[[Tensor, Tensor, Any], Kept]


@dataclass(frozen=True)
class Trial:
    """One clean and one poisoned model, and one trained on what a filter left; of no filter, NaN.

    success, control     share of `judged` rows on which the poison's aim holds, of the poisoned and of the clean model
    clean, accuracy      on the test rows, of the clean and of the poisoned model
    fitted, learnt       accuracy of the poisoned model on the training rows, as labelled there; on the poisons alone
    precision, recall    of the rows that the filter removed, the share of poisons; of the poisons, the share removed
    removed              rows that the filter removed
    filtered_success, filtered_accuracy   of the model trained on what it left
    """

    seed: int
    poisons: int
    judged: int
    success: float
    control: float
    clean: float
    accuracy: float
    fitted: float
    learnt: float
    distance: float
    precision: float = nan
    recall: float = nan
    removed: float = nan
    filtered_success: float = nan
    filtered_accuracy: float = nan


@dataclass(frozen=True, repr=False)
class Trials:
    """Trials of one poison; means over them with 95 % intervals.

    A rate of one row a trial is a count: its interval is Clopper and Pearson's over trials. Others are means, with
    Student's interval over trials, which has the trials' spread in it: weights, order of the data, rows tainted.
    """

    lines: tuple[Trial, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> Tensor:
        """A number of every trial, (n,)."""
        return torch.tensor([getattr(each, name) for each in self.lines], dtype=torch.double)

    @property
    def success(self) -> Mean:
        return self._rate("success")

    @property
    def control(self) -> Mean:
        """The aim's rate on models trained on clean rows: what holds without any poison."""
        return self._rate("control")

    @property
    def effect(self) -> Mean:
        """success − control, trial by trial."""
        return student(self.column("success") - self.column("control"))

    @property
    def clean_accuracy(self) -> Mean:
        return _share(self.column("clean"))

    @property
    def accuracy(self) -> Mean:
        return _share(self.column("accuracy"))

    @property
    def change(self) -> Mean:
        """Test accuracy poisoned − clean, trial by trial."""
        return student(self.column("accuracy") - self.column("clean"))

    @property
    def fitted(self) -> Mean:
        return _share(self.column("fitted"))

    @property
    def learnt(self) -> Mean:
        return _share(self.column("learnt"))

    @property
    def is_filtered(self) -> bool:
        return any(each.removed == each.removed for each in self.lines)

    @property
    def precision(self) -> Mean:
        return _share(self.column("precision"))

    @property
    def recall(self) -> Mean:
        return _share(self.column("recall"))

    @property
    def filtered_success(self) -> Mean:
        return self._rate("filtered_success")

    @property
    def filtered_change(self) -> Mean:
        """Test accuracy after filter and retraining − clean, trial by trial."""
        return student(self.column("filtered_accuracy") - self.column("clean"))

    def _rate(self, name: str) -> Mean:
        values = self.column(name)
        if all(each.judged == 1 for each in self.lines) and not values.isnan().any():
            return Mean(float(values.mean()), *clopper_pearson(int(values.sum()), len(values)), len(values))
        return _share(values)

    def table(self) -> list[tuple[str, Mean]]:
        """Every mean with what it is of, in words."""
        rows = [
            ("success", self.success),
            ("the same of clean models", self.control),
            ("test accuracy, clean", self.clean_accuracy),
            ("test accuracy, poisoned", self.accuracy),
            ("change of test accuracy", self.change),
            ("training accuracy, poisoned", self.fitted),
            ("poisons learnt", self.learnt),
        ]
        filtered = [
            ("removed that are poisons (precision)", self.precision),
            ("poisons removed (recall)", self.recall),
            ("success after filter and retraining", self.filtered_success),
            ("change of test accuracy after it", self.filtered_change),
        ]
        return rows + (filtered if self.is_filtered else [])

    def summary(self) -> str:
        """A few lines for people."""
        told = self.provenance
        lines = [f"{told.get('poison')}: {told.get('aim')}; {len(self)} trials"]
        return "\n".join(lines + [f"  {what:<38}{mean}" for what, mean in self.table()])

    def __repr__(self) -> str:
        return f"Trials({len(self)} of {self.provenance.get('poison')}: success {self.success}, change {self.change})"

    def as_dict(self) -> dict[str, Any]:
        means = {what: mean.as_dict() for what, mean in self.table()}
        return {**self.provenance, "means": means, "trials": [asdict(each) for each in self.lines]}

    def save(self, path: str | Path) -> None:
        """Write JSON."""
        files.write_json(path, {"format": _FORMAT, **self.as_dict()})

    @staticmethod
    def load(path: str | Path) -> Trials:
        """Read what `save` wrote. Raises `FileError`."""
        record = files.read_json(path)
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise FileError(f"{path} holds no poisoning trials of this version ({_FORMAT}).")
        names = [f.name for f in fields(Trial)]
        try:
            lines = tuple(Trial(**{name: each[name] for name in names}) for each in record["trials"])
        except (KeyError, TypeError) as error:
            raise FileError(f"{path} holds no poisoning trials: {error} is missing.") from None
        told = {k: v for k, v in record.items() if k not in ("format", "means", "trials")}
        return Trials(lines, told)


def _share(values: Tensor) -> Mean:
    """Of shares, none below 0 or above 1; NaN stays."""
    found = student(values)
    return found if found.low != found.low else found.within(0.0, 1.0)


def trials(
    poison: Poison | Callable[[int], Poison],
    victim: Victim,
    train: Any,
    test: Any,
    n: int = 20,
    *,
    seed: int = 0,
    filter: Filter | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    on_progress: Progress | None = None,
) -> Trials:
    """n times: craft the poison, train a clean and a poisoned model from the same fresh weights, and measure both.

    poison   a value, which taints rows anew in each trial; or a function trial -> poison, where each trial has a target
             of its own
    train, test   splits, or pairs (x, y)
    filter   (x, y, model) -> a record with `keep` (n,), such as `filter_poison`: it is handed the poisoned model, and a
             third one is trained on the rows kept
    Trial t has the seed mix(seed, t), of rows, weights and order of the data alike. Costs two trainings a trial, three
    with a filter, and what the poison costs. Errors: `ArgumentError`, `DataError`.
    """
    check_whole("the number of trials", n)
    (x, y), (x_test, y_test) = (_rows(*_pair(each)) for each in (train, test))
    known = y_test >= 0
    x_test, y_test = as_float(x_test[known]), y_test[known]
    lines, last = [], None
    for trial in range(n):
        own = mix(seed, "trial", trial) >> 33
        last = poison if isinstance(poison, Poison) else poison(trial)
        tainted = last(x, y, seed=own, bounds=bounds)
        clean = victim.train(x, y, own)
        model = victim.train(tainted.x, tainted.y, own)
        line = _line(own, last, tainted, clean, model, x_test, y_test)
        if filter is not None:
            line = _filtered(line, last, tainted, filter, victim, model, x_test, y_test)
        lines.append(line)
        if on_progress is not None:
            on_progress(trial + 1, n)
    if last is None:
        raise ArgumentError("there are no trials.")
    told = provenance(poison=repr(last), aim=repr(last.aim), seed=seed, rows=len(y), test_rows=len(y_test))
    return Trials(tuple(lines), told | {"recipe": {k: repr(v) for k, v in victim.recipe.items()}})


def _line(
    seed: int, poison: Poison, tainted: Poisoned, clean: Any, model: Any, x: Tensor, y: Tensor
) -> Trial:
    wanted, control = (poison.aim(each, x, y) for each in (model, clean))
    seen = tainted.y >= 0
    right = answers(model, as_float(tainted.x)) == tainted.y
    rows = tainted.rows
    return Trial(
        seed=seed, poisons=len(tainted), judged=wanted.n, success=wanted.value, control=control.value,
        clean=_accuracy(clean, x, y), accuracy=_accuracy(model, x, y), fitted=float(right[seen].double().mean()),
        learnt=float(right[rows].double().mean()) if len(rows) else nan,
        distance=float(tainted.distance.double().mean()) if len(rows) else 0.0,
    )  # fmt: skip


def _filtered(
    line: Trial, poison: Poison, tainted: Poisoned, chosen: Filter, victim: Victim, model: Any, x: Tensor, y: Tensor
) -> Trial:  # fmt: skip
    keep = chosen(tainted.x, tainted.y, model).keep.cpu()
    if keep.shape != tainted.y.shape or keep.dtype != torch.bool or not keep.any():
        raise DataError(
            f"the filter's keep is {keep.dtype} of shape {tuple(keep.shape)} and keeps {int(keep.sum())} rows; a bool "
            f"for each of the {len(tainted.y)} rows is needed, some of them true."
        )
    again = victim.train(tainted.x[keep], tainted.y[keep], line.seed)
    removed, hits = int((~keep).sum()), int((~keep & tainted.is_poison).sum())
    return replace(
        line, removed=float(removed), precision=hits / removed if removed else nan,
        recall=hits / len(tainted) if len(tainted) else nan, filtered_success=poison.aim(again, x, y).value,
        filtered_accuracy=_accuracy(again, x, y),
    )  # fmt: skip


def _accuracy(model: Any, x: Tensor, y: Tensor) -> float:
    return float((answers(model, x) == y).double().mean())


def _pair(given: Any) -> tuple[Any, Any]:
    if hasattr(given, "x"):
        return given.x, given.y
    x, y = given
    return x, y
