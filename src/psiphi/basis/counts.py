"""Whole numbers, checked."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from psiphi.basis.errors import ArgumentError


def check_whole(name: str, count: Any, least: int = 1) -> int:
    """The number as an int. Raises `ArgumentError` for another, and for one below `least`."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < least:
        raise ArgumentError(f"{name} is a whole number of at least {least}; got {count!r}.")
    return int(count)
