"""What training leaves behind: a table with a row an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

Row = dict[str, float]


@dataclass
class History:
    """Rows of named numbers (losses in nats), how training ended, and where it came from.

    `history["loss"]` is a column, `history.rows` the rows, `print(history)` a table.
    """

    rows: list[Row] = field(default_factory=list)
    stopped: str = "done"
    best: Row | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def last(self) -> Row:
        return self.rows[-1] if self.rows else {}

    def __getitem__(self, column: str) -> list[float]:
        if column not in self.columns:
            raise KeyError(f"history has no column {column!r}; it has {', '.join(self.columns)}.")
        return [row.get(column, float("nan")) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def csv(self) -> str:
        """The table as CSV, numbers in full precision."""
        out = StringIO()
        out.write(",".join(self.columns) + "\n")
        for row in self.rows:
            out.write(_csv_line(row, self.columns))
        return out.getvalue()

    def csv_last(self) -> str:
        """The last row as a line of CSV."""
        return _csv_line(self.last, self.columns)

    def __repr__(self) -> str:
        shown = self.rows if len(self.rows) <= 12 else [*self.rows[:5], {}, *self.rows[-5:]]
        cells = [self.columns] + [
            [_cell(row.get(name)) if row else "…" for name in self.columns] for row in shown
        ]
        widths = [max(len(line[i]) for line in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
        ]
        return "\n".join([*lines, f"({len(self.rows)} rows, {self.stopped})"])


def _csv_line(row: Row, columns: Sequence[str]) -> str:
    return ",".join(repr(row[name]) if name in row else "" for name in columns) + "\n"


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
