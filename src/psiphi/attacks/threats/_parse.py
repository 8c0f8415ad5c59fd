"""Threats from the text of a command line."""

from __future__ import annotations

from collections.abc import Callable

from psiphi.attacks.threats._balls import L1, L2, Linf
from psiphi.basis.errors import ArgumentError

_NAMES: dict[str, Callable[..., Linf | L2 | L1]] = {"linf": Linf, "l2": L2, "l1": L1}


def parse(text: str) -> Linf | L2 | L1:
    """A threat from the text of a command line: 'linf:0.2', 'l2:1.5', 'l1:12', 'linf:8/255'; 'l2' has no limit."""
    name, colon, number = text.strip().partition(":")
    make = _NAMES.get(name.strip().lower())
    try:
        if make is None:
            raise ValueError
        if not colon:
            return make()
        over, slash, under = number.partition("/")
        return make(float(over) / float(under) if slash else float(over))
    except (ValueError, ZeroDivisionError):
        raise ArgumentError(
            f"no threat can be read from {text!r}; write its name, a colon and a radius of at least 0, "
            f"e.g. linf:0.2 or linf:8/255, or the name alone for no limit. Names: {', '.join(_NAMES)}."
        ) from None
