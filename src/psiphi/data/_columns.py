"""What the columns of a table are: a schema of plain values, so that a model's recipe can carry it."""

from __future__ import annotations

from operator import index
from typing import Any, Literal, NamedTuple

from psiphi.basis.errors import ArgumentError

NEEDED = "columns is a table's schema (data.columns), or category counts such as (0, 0, 3), 0 = a number"


class Column(NamedTuple):
    """A column of a table; categorical values are coded 0..K−1 in the order of `categories`."""

    name: str
    kind: Literal["numeric", "categorical"]
    categories: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """K, the number of categories; 0 of numbers."""
        return len(self.categories)


class Columns(tuple[Column, ...]):
    """The columns of a table in the order of x's coordinates."""

    __slots__ = ()

    @staticmethod
    def of(value: Any) -> Columns:
        """A schema from a schema, from what JSON makes of one, or from category counts (0 = numeric).

        Errors: `ArgumentError`.
        """
        if isinstance(value, Columns):
            return value
        try:
            return Columns(_column(each, place) for place, each in enumerate(value))
        except (TypeError, ValueError):
            raise ArgumentError(f"{value!r:.200} is no schema: {NEEDED}.") from None

    @property
    def names(self) -> list[str]:
        return [each.name for each in self]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Categories of each column, 0 = numeric."""
        return tuple(each.size for each in self)

    def __str__(self) -> str:
        categorical = sum(each.size > 0 for each in self)
        return f"{len(self) - categorical} numeric and {categorical} categorical columns"


def _column(value: Any, place: int) -> Column:
    if isinstance(value, tuple | list):
        name, kind, categories = value
        found = Column(str(name), kind, tuple(map(str, categories)))
        if found.kind not in ("numeric", "categorical") or (found.size > 0) != (found.kind == "categorical"):
            raise ValueError(value)
        return found
    size = index(value)
    if size < 0:
        raise ValueError(value)
    return Column(f"x{place}", "categorical" if size else "numeric", tuple(str(k) for k in range(size)))
