"""What `load` returns: the splits, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from psiphi.basis.shapes import Shape, show
from psiphi.data._columns import Columns
from psiphi.data._mapped import Mapped


@dataclass(frozen=True, eq=False)
class Split:
    """Rows and their labels: x (n, ...), a tensor or a view of a mapped file; y int64 (n,) or None.

    rows: the place of each row in what was read, int64 (n,), from 0; files: of a folder of images, where each
    stands in it, and then rows is None.
    """

    x: Tensor | Mapped
    y: Tensor | None = None
    rows: Tensor | None = None
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Any]:
        """So that `x, y = data.train`."""
        return iter((self.x, self.y))

    def __repr__(self) -> str:
        kind = str(self.x.dtype).removeprefix("torch.")
        labels = "no labels" if self.y is None else "labelled"
        stored = ", in its file" if isinstance(self.x, Mapped) else ""
        return f"Split({len(self)} rows, {show(self.x.shape[1:])} {kind}, {labels}{stored})"


@dataclass(frozen=True)
class Provenance:
    """Source, hash of the data, seed of the split and the sizes it gave."""

    source: str
    fingerprint: str
    seed: int
    rows: dict[str, int]
    own_test: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in three disjoint splits.

    shape: of one sample; classes: their names, [] when there are no labels; reference: the distribution
    itself, a sampler `(n, noise) -> batch`, where the data are drawn from a known one; columns: the schema of a
    table, whose missing values are NaN in x.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: list[str]
    provenance: Provenance
    reference: Callable[..., Any] | None = None
    columns: Columns | None = None

    @property
    def shape(self) -> Shape:
        return tuple(self.train.x.shape[1:])

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def __repr__(self) -> str:
        kind = str(self.train.x.dtype).removeprefix("torch.")
        sizes = " + ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        some = ", ".join(self.classes[:10]) + (", …" if len(self.classes) > 10 else "")
        classes = f"{len(self.classes)} classes ({some})" if self.classes else "no labels"
        columns = "" if self.columns is None else f", {self.columns}"
        return f"Data({self.name}: {show(self.shape)} {kind}{columns}, {sizes}, {classes})"
