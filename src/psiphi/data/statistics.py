"""One streaming pass over the data: what models and their owners must know before training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import Shape, as_float, show
from psiphi.data._convert import all_finite
from psiphi.data.streams import CHUNK, Indexed, Sampler, Source, as_source

LEVELS = 256  # up to so many distinct values are listed: a learnt σ on such data has no bound
DRAWS = 10_000  # rows drawn from a sampler


@dataclass(frozen=True, eq=False, repr=False)
class Statistics:
    """Moments and range in the units models see (uint8 counts as k/255); tensors are float64, (*shape).

    count: rows read; mean, std: per coordinate, σ divided by n; low, high: of all values; lows, highs: per
    coordinate; sigma: √ mean (x − mean)² over all values, the root mean square of the centred data;
    binary: every value is 0 or 1; levels: the distinct values (k,) when at most 256, else None;
    missing: values that are NaN or infinite, which the moments leave out; bad_rows: the first five rows
    that have any; bad: how many rows have.
    """

    count: int
    shape: Shape
    mean: Tensor
    std: Tensor
    low: float
    high: float
    lows: Tensor
    highs: Tensor
    sigma: float
    binary: bool
    levels: Tensor | None
    missing: int
    bad: int
    bad_rows: tuple[int, ...]

    def __repr__(self) -> str:
        levels = "" if self.levels is None else f", {len(self.levels)} levels"
        missing = f", {self.missing} missing values in {self.bad} rows" if self.bad else ""
        return (
            f"Statistics({self.count} rows of {show(self.shape)}, range [{self.low:g}, {self.high:g}], "
            f"sigma {self.sigma:.4g}{levels}{missing})"
        )


def measure(source: Any, limit: int | None = None) -> Statistics:
    """Mean, σ, range, levels and bad rows of a source, in one pass of flat memory.

    source: a `Source`, or what `as_source` takes. limit: at most so many rows, spread evenly over the data
    (the first ones of a loader; 10 000 draws of a sampler unless given).
    Chunks are shifted by the first row and merged by Chan, Golub, LeVeque, "Algorithms for computing the
    sample variance", The American Statistician 37, 1983, equation 2.1; float64 throughout.
    """
    if not isinstance(source, Source):
        source = as_source(source, check=False)
    total = _Moments(source.shape)
    for x in _chunks(source, limit):
        total.add(x)
    return total.result()


def _chunks(source: Source, limit: int | None) -> Iterator[Tensor]:
    if isinstance(source, Indexed):
        if limit is None or limit >= source.length:
            for x, _ in source.chunks():
                yield x
            return
        rows = (
            torch.linspace(0, source.length - 1, max(1, limit), dtype=torch.float64).round().to(torch.int64)
        )
        for part in rows.split(max(1, CHUNK // prod(source.shape))):
            yield source.gather(part)[0]
    elif isinstance(source, Sampler):
        left = DRAWS if limit is None else limit
        step, start = max(1, CHUNK // prod(source.shape)), 0
        noise = Noise.of(0, left).split("measure")
        while start < left:
            stop = min(left, start + step)
            yield source.draw(stop - start, noise.take(slice(start, stop)))[0]
            start = stop
    else:
        left = limit
        for x, _ in source.batches():
            yield x if left is None else x[:left]
            left = None if left is None else left - len(x)
            if left is not None and left <= 0:
                return


class _Moments:
    """Counts, means and sums of squares, per coordinate, of the rows added so far."""

    def __init__(self, shape: Shape):
        self.shape, self.rows, self.missing, self.bad = shape, 0, 0, 0
        self.bad_rows: list[int] = []
        self.shift: Tensor | None = None
        self.n = self.mean = self.squares = torch.zeros(prod(shape), dtype=torch.float64)
        self.lows = torch.full_like(self.n, torch.inf)
        self.highs = torch.full_like(self.n, -torch.inf)
        self.levels: Tensor | None = torch.empty(0)

    def add(self, x: Tensor) -> None:
        x = x.detach().flatten(1).cpu()
        self._levels(x)
        x = as_float(x)
        there = None if all_finite(x) else x.isfinite()
        value = x.to(torch.float64)
        if there is None:
            low, high = x.amin(0).double(), x.amax(0).double()
            n = torch.full_like(self.n, len(x))
        else:
            rows = (~there.all(1)).nonzero().squeeze(1)
            self.missing += int((~there).sum())
            self.bad += len(rows)
            self.bad_rows += (rows + self.rows)[: 5 - len(self.bad_rows)].tolist()
            low = value.masked_fill(~there, torch.inf).amin(0)
            high = value.masked_fill(~there, -torch.inf).amax(0)
            n = there.sum(0).double()
            value = torch.where(there, value, 0.0)
        if self.shift is None:
            self.shift = value[0].clone()
        value = value - self.shift if value is x else value.sub_(self.shift)
        if there is not None:
            value = torch.where(there, value, 0.0)
        mean = value.sum(0) / n.clamp(min=1)
        value = value.sub_(mean) if there is None else torch.where(there, value - mean, 0.0)
        squares = value.square_().sum(0)
        self.lows, self.highs = torch.minimum(self.lows, low), torch.maximum(self.highs, high)
        both = (self.n + n).clamp(min=1)
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.n * n / both)
        self.mean = self.mean + apart * (n / both)
        self.n = self.n + n
        self.rows += len(x)

    def _levels(self, x: Tensor) -> None:
        """Keep the sorted distinct values while there are at most 256."""
        if self.levels is None:
            return
        if x.dtype == torch.uint8:
            found = as_float(
                torch.bincount(x.flatten().to(torch.int64), minlength=256).nonzero().squeeze(1).byte()
            )
        else:
            values = as_float(x).flatten()
            values = (values if values.dtype == torch.float64 else values.float()).numpy()
            if len(np.unique(values[:4096])) > LEVELS:
                self.levels = None
                return
            found = torch.from_numpy(np.unique(values))  # sorts by SIMD: 20 times faster than torch.unique
            found = found[found.isfinite()]
        merged = torch.cat([self.levels.to(found.dtype), found]).unique()
        self.levels = merged if len(merged) <= LEVELS else None

    def result(self) -> Statistics:
        if self.rows == 0 or self.shift is None or not bool((self.n > 0).any()):
            raise DataError(f"there is no finite value to measure in {self.rows} rows; fill or remove them.")
        seen = self.n > 0
        nothing = torch.full_like(self.n, torch.nan)
        variance = self.squares / self.n.clamp(min=1)
        levels = self.levels
        binary = levels is not None and self.missing == 0 and all(v in (0.0, 1.0) for v in levels.tolist())

        def shaped(value: Tensor) -> Tensor:
            return torch.where(seen, value, nothing).reshape(self.shape)

        return Statistics(
            count=self.rows,
            shape=self.shape,
            mean=shaped(self.mean + self.shift),
            std=shaped(variance.sqrt()),
            low=float(self.lows[seen].min()),
            high=float(self.highs[seen].max()),
            lows=shaped(self.lows),
            highs=shaped(self.highs),
            sigma=float((self.squares.sum() / self.n.sum()).sqrt()),
            binary=binary,
            levels=levels,
            missing=self.missing,
            bad=self.bad,
            bad_rows=tuple(self.bad_rows),
        )
