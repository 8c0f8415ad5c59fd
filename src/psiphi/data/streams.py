"""What training reads: rows by index, batches of a loader, or draws of a distribution.

`as_source` brings everything that users hand over to one of three: `Indexed` (it has a length, and
`gather(rows)` reads any rows), `Loader` (it iterates in an order of its own) and `Sampler` (it draws without
end: the reference distribution itself). All give x in its own dtype (uint8 stays uint8) and y int64 or None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import Shape, show
from psiphi.data._convert import all_finite, as_labels, as_tensor, check_rows
from psiphi.data._items import pair, stack
from psiphi.data._mapped import Mapped
from psiphi.data._record import Split

CHUNK = 1 << 20  # values a chunk: 8 MB at float64, so that passes stay in the cache


@dataclass(frozen=True, eq=False, repr=False)
class Indexed:
    """Rows by index: `gather(rows) -> (x (b, *shape), y (b,) | None)`, rows a LongTensor or a slice.

    `tensors` is (x, y) when all rows are in memory, so that they can live on a device, else None.
    """

    gather: Callable[[Tensor | slice], tuple[Tensor, Tensor | None]]
    length: int
    shape: Shape
    dtype: torch.dtype
    labelled: bool
    tensors: tuple[Tensor, Tensor | None] | None = None

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"Indexed({self.length} rows, {show(self.shape)} {self.dtype}, {_labels(self.labelled)})"

    def chunks(self, values: int = CHUNK) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows in order, about so many values at a time."""
        step = max(1, values // prod(self.shape))
        for start in range(0, self.length, step):
            yield self.gather(slice(start, min(self.length, start + step)))


@dataclass(frozen=True, eq=False, repr=False)
class Loader:
    """A DataLoader: `batches()` iterates once. Its order is its own, so a resumed run restarts the epoch.

    length: rows an epoch, None when the loader does not know.
    """

    loader: Any
    length: int | None
    shape: Shape
    dtype: torch.dtype
    labelled: bool
    tensors: None = None

    def __repr__(self) -> str:
        rows = "unknown" if self.length is None else self.length
        return f"Loader({rows} rows, {show(self.shape)} {self.dtype}, {_labels(self.labelled)})"

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """One epoch of (x, y), each batch's shape checked."""
        for number, batch in enumerate(self.loader):
            x, y = _batch(batch, f"batch {number} of the loader")
            if tuple(x.shape[1:]) != self.shape:
                raise ShapeError(
                    f"batch {number} of the loader has samples {show(x.shape[1:])}, the first had "
                    f"{show(self.shape)}; one shape is needed."
                )
            yield x, y


@dataclass(frozen=True, eq=False, repr=False)
class Sampler:
    """A distribution: `draw(n, noise) -> (x (n, *shape), y (n,) | None)`, without end (`length` is None)."""

    sampler: Callable[[int, Noise], Any]
    shape: Shape
    dtype: torch.dtype
    labelled: bool
    length: None = None
    tensors: None = None

    def __repr__(self) -> str:
        return f"Sampler({show(self.shape)} {self.dtype}, {_labels(self.labelled)}, endless)"

    def draw(self, n: int, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """n fresh rows; row i is a function of the noise's row i when the sampler keeps to that."""
        x, y = _batch(self.sampler(n, noise), "the sampler's batch")
        if tuple(x.shape) != (n, *self.shape):
            raise ShapeError(
                f"the sampler was asked for {n} rows and gave shape {show(x.shape)}; "
                f"{show((n, *self.shape))} is needed."
            )
        return x, y


Source = Indexed | Loader | Sampler


def as_source(x: Any, y: Any = None, *, check: bool = True) -> Source:
    """Bring what a user hands over to an `Indexed`, `Loader` or `Sampler`.

    x: a tensor, array, nested list, data frame, `np.memmap`, `Mapped`, `Split`, a pair (x, y), a map-style
    data set, a DataLoader, or a sampler `(n, noise) -> batch`; y: labels 0..K−1 (−1 = unknown) for arrays.
    check: read all rows of an array or mapped file once, in chunks, and refuse NaN and infinity.
    Errors: `DataError` (empty or one row, NaN, objects, labels of another length or kind), `ShapeError`.
    """
    if isinstance(x, Indexed | Loader | Sampler):
        _no_labels(y, "a source")
        return x
    if isinstance(x, Split):
        x, y = x.x, x.y if y is None else y
    elif isinstance(x, tuple) and len(x) == 2 and y is None:
        x, y = x
    if isinstance(x, DataLoader):
        _no_labels(y, "a DataLoader")
        return _loader(x)
    if isinstance(x, TensorDataset) and len(x.tensors) <= 2:
        _no_labels(y, "a data set")
        x, y = (*x.tensors, None, None)[:2]
    if isinstance(x, IterableDataset):
        raise DataError(
            "an iterable data set has no rows to index; wrap it: DataLoader(data, batch_size=128)."
        )
    if is_array(x):
        return _array(x, y, check)
    if (
        hasattr(x, "__getitem__")
        and hasattr(x, "__len__")
        and not isinstance(x, str | bytes | dict | nn.Module)
    ):
        _no_labels(y, "a data set")
        return _items(x)
    if callable(x) and not isinstance(x, nn.Module | type):
        _no_labels(y, "a sampler")
        return _sampler(x)
    raise DataError(
        f"x is a {type(x).__name__}; an array, tensor, data set, DataLoader or sampler (n, noise) -> batch "
        "is needed: read files and names with psiphi.data.load."
    )


def is_array(x: Any) -> bool:
    """Whether x is a block of rows: tensor, array, mapped rows, nested list, data frame, sparse matrix."""
    first = x[0] if isinstance(x, list) and x else None
    if isinstance(first, Mapping) or (isinstance(first, tuple) and first and not np.isscalar(first[0])):
        return False  # a list of items, each x with its label
    frame = hasattr(x, "columns") and hasattr(x, "to_numpy")
    return isinstance(x, Tensor | np.ndarray | Mapped | list | tuple) or frame or hasattr(x, "toarray")


def as_rows(x: Any, what: str = "x") -> Tensor | Mapped:
    """An array in memory as a tensor, one in a file as `Mapped` rows."""
    if isinstance(x, Mapped):
        return x
    if isinstance(x, np.memmap) and getattr(x, "_mmap", None) is not None:
        if x.ndim < 2 or x.size == 0:
            check_rows(x.shape, what)
        return Mapped(x)
    return as_tensor(x, what)


def check_finite(source: Indexed, what: str = "x", missing: bool = False) -> None:
    """A `DataError` that counts the rows with NaN or infinity and names the first; reads in chunks.

    missing: NaN is what is missing, and only infinity is refused.
    """
    if not source.dtype.is_floating_point:
        return
    bad: list[int] = []
    count = start = 0
    for x, _ in source.chunks():
        if not all_finite(x):
            bad_values = x.isinf() if missing else ~x.isfinite()
            rows = bad_values.flatten(1).any(1).nonzero().squeeze(1) + start
            count += len(rows)
            bad += rows[: 5 - len(bad)].tolist()
        start += len(x)
    if count:
        some = ", ".join(map(str, bad)) + (", …" if count > len(bad) else "")
        kind = "infinity" if missing else "NaN or infinity"
        raise DataError(
            f"{what} has {kind} in {count} of {source.length} rows (rows {some}): remove or fill them."
        )


def _array(x: Any, y: Any, check: bool) -> Indexed:
    x = as_rows(x)
    check_rows(x.shape)
    y = None if y is None else as_labels(y, len(x))
    if y is not None and isinstance(x, Tensor):
        y = y.to(x.device)

    def gather(rows: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        labels = y if y is None else y[rows if isinstance(rows, slice) else rows.to(y.device)]
        if isinstance(x, Mapped) or isinstance(rows, slice):
            return x[rows], labels
        return x.index_select(0, rows.to(x.device)), labels

    tensors = None if isinstance(x, Mapped) else (x, y)
    source = Indexed(gather, len(x), tuple(x.shape[1:]), x.dtype, y is not None, tensors)
    if check:
        check_finite(source)
    return source


def _items(data: Any) -> Indexed:
    rows = len(data)
    if rows < 2:
        raise DataError(f"the data set has {rows} rows; there is nothing to learn from: give at least two.")
    with torch.random.fork_rng(devices=[]):  # items may be augmented from the global random state
        first, label = stack([data[0]], [0])
    if not all_finite(first):
        raise DataError("item 0 of the data set has NaN or infinity: remove or fill them in the data set.")
    shape = tuple(first.shape[1:])

    def gather(index: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        numbers = list(range(*index.indices(rows))) if isinstance(index, slice) else index.tolist()
        many = getattr(data, "__getitems__", None)
        x, y = stack(many(numbers) if many else [data[i] for i in numbers], numbers, shape)
        return x.to(first.dtype), y

    return Indexed(gather, rows, shape, first.dtype, label is not None)


def _loader(loader: DataLoader) -> Loader:
    with torch.random.fork_rng(devices=[]):  # an iterator draws its seed from the global random state
        batch = next(iter(loader), None)
    if batch is None:
        raise DataError(
            "the DataLoader gives no batch: its data set is empty, or drop_last dropped all of it."
        )
    x, y = _batch(batch, "batch 0 of the loader")
    try:
        rows = len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        rows = None
    return Loader(loader, rows, tuple(x.shape[1:]), x.dtype, y is not None)


def _sampler(sampler: Callable[[int, Noise], Any]) -> Sampler:
    try:
        inspect.signature(sampler).bind(2, None)
    except TypeError:
        raise ArgumentError(
            f"{getattr(sampler, '__name__', sampler)!r} does not take (n, noise); a sampler is a function "
            f"(n, noise) -> batch, noise a psiphi.basis.noise.Noise with n rows."
        ) from None
    except ValueError:
        pass  # a built-in without a signature: it is tried
    with torch.random.fork_rng(devices=[]):
        x, y = _batch(sampler(2, Noise.of(0, 2)), "the sampler's batch")
    if len(x) != 2:
        raise ShapeError(
            f"the sampler was asked for 2 rows and gave shape {show(x.shape)}; (2, ...) is needed."
        )
    return Sampler(sampler, tuple(x.shape[1:]), x.dtype, y is not None)


def _batch(batch: Any, where: str) -> tuple[Tensor, Tensor | None]:
    x, y = pair(batch, where)
    x = as_tensor(x, where)
    if x.ndim < 2 or x.numel() == 0:
        raise ShapeError(f"{where} has shape {show(x.shape)}; (rows, ...) is needed.")
    return x, None if y is None else as_labels(y, len(x), f"labels of {where}")


def _no_labels(y: Any, what: str) -> None:
    if y is not None:
        raise ArgumentError(f"y stands beside {what}, which brings its own labels: leave y out.")


def _labels(labelled: bool) -> str:
    return "labelled" if labelled else "no labels"
