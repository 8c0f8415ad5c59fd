"""What the verbs print: tables for people, JSON for machines, notes and progress on stderr."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 120


def emit(record: Any) -> None:
    """One JSON document on stdout; numbers that JSON lacks (NaN, infinity) become null."""
    typer.echo(json.dumps(plain(record), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """What JSON can say."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table on stdout; columns of numbers are set flush right. A column of dots ends the text columns."""
    out = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        numeric = all(_is_number(row[i]) for row in rows if row[i] not in ("", "—"))
        out.add_column(
            name, justify="right" if numeric and rows else "left", overflow="fold", no_wrap=numeric
        )
    for row in rows:
        out.add_row(*(Text(str(cell)) for cell in row))
    console().print(out)


def _is_number(cell: Any) -> bool:
    return str(cell)[:1] in "0123456789−-[±∞<≤" and not str(cell).startswith("--")


def say(sentence: str) -> None:
    """A line for people on stdout."""
    console().print(Text(sentence), soft_wrap=True)


def note(sentence: str, quiet: bool = False) -> None:
    """A line on stderr, which leaves stdout to the answer."""
    if not quiet:
        Console(stderr=True).print(Text(sentence), soft_wrap=True)


def console() -> Console:
    """Stdout as it is now; wide where nobody looks, so that pipes and files get whole lines."""
    out = Console()
    return out if out.is_terminal else Console(width=WIDE)


@contextmanager
def progress(what: str, quiet: bool = False, unit: str = "it") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, moved by calling (done, of)."""
    if quiet:
        yield lambda done, of: None
        return
    from tqdm import tqdm

    with tqdm(total=0, desc=what, unit=unit, leave=False, mininterval=0.2) as bar:

        def move(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield move


@contextmanager
def spoken_warnings(quiet: bool = False) -> Iterator[None]:
    """Inside, a warning for the user is kept and said at the end, once, without the place that gave it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    said = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    for sentence in dict.fromkeys(said):
        note(f"warning: {sentence}", quiet)


def number(value: float | None, digits: int = 4) -> str:
    """A number as people write it, with a true minus sign."""
    if value is None:
        return "—"
    return f"{value:.{digits}g}".replace("-", "−") if isfinite(value) else "—" if value != value else "∞"


def percent(value: float) -> str:
    return f"{value:.1%}"
