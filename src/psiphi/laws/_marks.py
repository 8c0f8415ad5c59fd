"""Which formulas a law executes: measured while it runs, so that no mark can be forgotten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeVar

from psiphi import formulas
from psiphi.formulas import mixed

Found = TypeVar("Found")
FOLDER = Path(formulas.__path__[0])
_INNER = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")  # parts of the function that they stand in


class Mark(NamedTuple):
    """A function, method or lambda of `psiphi.formulas`: file stem, its first line, its qualified name."""

    file: str
    line: int
    name: str

    @property
    def outermost(self) -> str:
        """`file.name` of the function or class that it stands in, as an importer would write it."""
        return f"{self.file}.{self.name.split('.')[0]}"


def executed(run: Callable[[], Found]) -> tuple[Found, frozenset[Mark]]:
    """What `run` returns, and the functions of `psiphi.formulas` that it executes in this thread."""
    mixed.layout.cache_clear()  # else the first law that asks for a layout would be the only one that is seen to
    seen: dict[int, CodeType] = {}

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            seen.setdefault(id(frame.f_code), frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        found = run()
    finally:
        sys.setprofile(before)
    return found, frozenset(mark for code in seen.values() if (mark := mark_of(code)))


def mark_of(code: CodeType) -> Mark | None:
    """The mark of a code object, None outside `psiphi.formulas`."""
    path = Path(code.co_filename)
    if path.parent != FOLDER or code.co_name in (*_INNER, "<module>"):
        return None
    return Mark(path.stem, code.co_firstlineno, code.co_qualname)
