"""`ring:n=5000,modes=8`: a name or path with options, so that the command line can pass them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

from psiphi.basis.errors import ArgumentError

_TAIL = re.compile(r"^(?P<head>.+?):(?P<options>[A-Za-z_]\w*=[^,=]*(,[A-Za-z_]\w*=[^,=]*)*)$", re.DOTALL)
_SIZE = re.compile(r"^(\d+)x(\d+)$")


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """The name and its options; values are Python literals, `HxW` is a pair, anything else is text."""
    found = _TAIL.match(text)
    if found is None:
        return text, {}
    pairs = (option.split("=", 1) for option in found["options"].split(","))
    return found["head"], {name: _value(value) for name, value in pairs}


def _value(text: str) -> Any:
    size = _SIZE.match(text)
    if size:
        return int(size[1]), int(size[2])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def check_options(reader: Callable[..., Any], options: dict[str, Any], what: str) -> None:
    """An `ArgumentError` that lists what the reader takes, if an option is none of it."""
    parameters = inspect.signature(reader).parameters.values()
    known = [p.name for p in parameters if p.default is not p.empty]
    for name in options:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ArgumentError(f"{what} has no option {name!r}; {takes}.")
