"""What the data are, and what would go wrong with which model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from psiphi.basis.shapes import show
from psiphi.data._load import load
from psiphi.data._record import Data, Split
from psiphi.data.statistics import Statistics, measure

FEW = 50
RARE = 10


@dataclass(frozen=True)
class ColumnLine:
    """A column of a table over all splits: range, mean and σ of numbers, rows of each category, rows missing."""

    name: str
    kind: str
    low: float | None
    high: float | None
    mean: float | None
    sigma: float | None
    categories: dict[str, int]
    missing: int

    def __str__(self) -> str:
        if self.kind == "numeric":
            found = f"[{self.low:g}, {self.high:g}], mean {self.mean:.4g}, sigma {self.sigma:.4g}"
        else:
            some = ", ".join(f"{name}: {count}" for name, count in list(self.categories.items())[:8])
            found = f"{len(self.categories)} ({some}{', …' if len(self.categories) > 8 else ''})"
        return f"{self.name} ({self.kind}): {found}" + (f", {self.missing} missing" if self.missing else "")


@dataclass(frozen=True)
class Description:
    """Shape, type, range, classes, gaps and rows of a data set, and warnings, a sentence each.

    low, high, mean, sigma are in the units models see (uint8 counts as k/255); classes: rows of each class in
    all splits; unlabelled: rows of unknown class; missing: values in the training rows that are NaN or
    infinite; columns: a table's, one by one.
    """

    name: str
    source: str
    fingerprint: str
    shape: tuple[int, ...]
    dtype: str
    rows: dict[str, int]
    low: float
    high: float
    mean: float
    sigma: float
    levels: int | None
    binary: bool
    constant: int
    missing: int
    bad_rows: int
    classes: dict[str, int]
    unlabelled: int
    warnings: tuple[str, ...]
    columns: tuple[ColumnLine, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = " + ".join(f"{count} {name}" for name, count in self.rows.items())
        values = "binary" if self.binary else f"{self.levels} levels" if self.levels else "continuous"
        lines = [
            f"{self.name}: {self.source}",
            f"  rows      {rows}",
            f"  sample    {show(self.shape)} {self.dtype}, {values}",
            f"  range     [{self.low:g}, {self.high:g}], mean {self.mean:.4g}, sigma {self.sigma:.4g}"
            + (" (uint8 counts as k/255)" if self.dtype == "uint8" else ""),
        ]
        if self.classes:
            counts = ", ".join(f"{name}: {count}" for name, count in list(self.classes.items())[:20])
            lines.append(
                f"  classes   {len(self.classes)} ({counts}{', …' if len(self.classes) > 20 else ''})"
            )
        if self.missing:
            lines.append(f"  missing   {self.missing} values in {self.bad_rows} rows")
        lines += [f"  column    {column}" for column in self.columns]
        lines.append(f"  SHA-256   {self.fingerprint[:16]}…")
        lines += [f"  warning   {sentence}" for sentence in self.warnings]
        return "\n".join(lines)


def describe(data: Any, *, limit: int | None = None) -> Description:
    """Describe a `Data`, or what `load` takes.

    limit: measure at most so many training rows, spread evenly. Errors: those of `load`; `DataError` when not
    one value is finite.
    """
    data = load(data)
    seen = measure(data.train, limit)
    classes, unlabelled = _classes(data)
    constant = int((seen.lows == seen.highs).sum())
    columns = _columns(data)
    return Description(
        name=data.name,
        source=data.provenance.source,
        fingerprint=data.provenance.fingerprint,
        shape=data.shape,
        dtype=str(data.train.x.dtype).removeprefix("torch."),
        rows=dict(data.provenance.rows),
        low=seen.low,
        high=seen.high,
        mean=float(seen.mean.nanmean()),
        sigma=seen.sigma,
        levels=None if seen.levels is None else len(seen.levels),
        binary=seen.binary,
        constant=constant,
        missing=seen.missing,
        bad_rows=seen.bad,
        classes=classes,
        unlabelled=unlabelled,
        warnings=(*_warnings(data, seen, classes, constant), *_of_columns(columns)),
        columns=columns,
    )


def _columns(data: Data) -> tuple[ColumnLine, ...]:
    if data.columns is None:
        return ()
    x = torch.cat([split.x[:].double() for split in data.splits.values()])
    found = []
    for place, column in enumerate(data.columns):
        there = x[~x[:, place].isnan(), place]
        numbers: list[float | None] = [None] * 4
        if not column.size:
            numbers = [
                float(each) for each in (there.min(), there.max(), there.mean(), there.std(correction=0))
            ]
        counts = torch.bincount(there.long(), minlength=column.size).tolist() if column.size else ()
        missing = len(x) - len(there)
        found.append(
            ColumnLine(
                column.name,
                column.kind,
                *numbers,
                categories=dict(zip(column.categories, counts)),
                missing=missing,
            )
        )
    return tuple(found)


def _of_columns(columns: tuple[ColumnLine, ...]) -> list[str]:
    """What would go wrong with the columns of a table."""
    found = []
    categorical = [column for column in columns if column.categories]
    if categorical:
        names = ", ".join(column.name for column in categorical[:5]) + (", …" if len(categorical) > 5 else "")
        found.append(
            f"categories: {names}: models without columns= read them as the numbers 0..K-1, whose order means "
            "nothing: train vae, with columns=data.columns."
        )
    rare = [
        f"{column.name}={name}"
        for column in categorical
        for name, count in column.categories.items()
        if count < RARE
    ]
    if rare:
        some = ", ".join(rare[:5]) + (", …" if len(rare) > 5 else "")
        found.append(f"rare categories: {some}: fewer than {RARE} rows each; little is learnt of them.")
    return found


def _classes(data: Data) -> tuple[dict[str, int], int]:
    labels = [split.y for split in data.splits.values() if isinstance(split, Split) and split.y is not None]
    if not labels:
        return {}, 0
    y = torch.cat([part.cpu() for part in labels])
    counts = torch.bincount(y[y >= 0], minlength=len(data.classes)).tolist()
    names = data.classes + [str(k) for k in range(len(data.classes), len(counts))]
    return dict(zip(names, counts)), int((y < 0).sum())


def _warnings(data: Data, seen: Statistics, classes: dict[str, int], constant: int) -> list[str]:
    found = []
    values = data.train.x[0].numel()
    rows = len(data.train)
    if seen.bad and data.columns is not None:
        found.append(
            f"missing values in {seen.bad} of {seen.count} training rows: vae with columns=data.columns trains "
            "through them and imputes; other models refuse them: fill or remove them."
        )
    elif seen.bad:
        some = ", ".join(map(str, seen.bad_rows)) + (", …" if seen.bad > len(seen.bad_rows) else "")
        found.append(
            f"NaN or infinity in {seen.bad} of {seen.count} training rows (rows {some}): fill or remove "
            "them; training refuses them."
        )
    if seen.low < 0 or seen.high > 1:
        end = f"reach {seen.high:g}" if seen.high > 1 else f"reach down to {seen.low:g}"
        found.append(f"Bernoulli likelihood: values {end}: scale to [0, 1], or choose likelihood='gaussian'.")
    elif not seen.binary:
        found.append(
            "Bernoulli likelihood: grey values in [0, 1] train well but are no density: log_prob needs "
            "binarised data (psiphi.data.binarize)."
        )
    if constant:
        found.append(
            f"Gaussian likelihood: {constant} of {values} columns are constant: a learnt σ falls to its "
            "floor there, and densities say little; drop them or compare on other measures."
        )
    if seen.levels is not None and not seen.binary:
        found.append(
            f"Gaussian likelihood: values take only {len(seen.levels)} levels: a learnt σ can fall without "
            "bound and densities with it; dequantise, or read log_prob with its floor."
        )
    if seen.sigma > 0 and float(seen.std.nan_to_num().max()) > 100 * float(_typical(seen)):
        found.append(
            "Scales: some columns spread over 100 times wider than the median one: standardise them."
        )
    if not classes:
        found.append("classifier: no labels: give labels=, or learn without.")
    elif sum(count > 0 for count in classes.values()) < 2:
        found.append("classifier: one class: at least two are needed.")
    elif min(classes.values()) * 20 < max(classes.values()):
        least = min(classes, key=classes.__getitem__)
        found.append(
            f"classifier: class {least} has {classes[least]} rows, the largest {max(classes.values())}: "
            "unbalanced."
        )
    if rows < FEW:
        found.append(
            f"few rows: {rows} to train on; a latent larger than {rows - 1} cannot be told from memory."
        )
    elif rows < values:
        found.append(
            f"fewer rows ({rows}) than values a sample ({values}): PCA finds at most {rows - 1} directions."
        )
    return found


def _typical(seen: Statistics) -> float:
    spread = seen.std[seen.std > 0]
    return float(spread.median()) if len(spread) else float("inf")
