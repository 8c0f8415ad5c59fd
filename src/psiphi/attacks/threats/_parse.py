"""Threats from the text of a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from psiphi.attacks.threats._balls import L1, L2, Linf
from psiphi.attacks.threats._chain import Chain
from psiphi.attacks.threats._columns import Columns
from psiphi.attacks.threats._features import Features
from psiphi.attacks.threats._patch import Patch
from psiphi.attacks.threats._pixels import Pixels
from psiphi.attacks.threats._spatial import Spatial
from psiphi.basis.errors import ArgumentError


def parse(text: str, network: nn.Module | None = None) -> Any:
    """A threat from the text of a command line.

    'linf:0.2', 'l2:1.5', 'l1:12', 'linf:8/255', 'l2' for no limit; 'pixels:3'; 'spatial:30,3' or 'spatial:30,3,0.1'
    (degrees, pixels, scale); 'patch:5', 'patch:5x7@2,3' (height x width, upper left pixel); 'features:0.5', of
    `network`. Two with a plus, 'spatial:30,3+linf:0.1', are a `Chain`. Of a table 'linf:0.1 immutable=0,3 integers=5
    ranges=2:0:10' are `Columns`, ranges by column, low and high. Raises `ArgumentError`.
    """
    first, plus, second = text.partition("+")
    if plus:
        return Chain(parse(first, network), parse(second, network))
    head, *constraints = text.split() or [""]
    name, colon, rest = head.partition(":")
    make = _NAMES.get(name.lower())
    if name.lower() == "features" and network is None:
        raise ArgumentError("features are those of a network: give one, as in Features(network, eps=0.5).")
    try:
        if make is None or (colon and not rest):
            raise ValueError
        threat: Any = make(rest, network)
        return Columns(threat, **dict(map(_constraint, constraints))) if constraints else threat
    except (ValueError, ZeroDivisionError):
        raise ArgumentError(
            f"no threat can be read from {text!r}; write its name, a colon and a radius of at least 0, "
            "e.g. linf:0.2 or linf:8/255, or the name alone for no limit; pixels:1, spatial:30,3, patch:5x7@2,3, "
            "features:0.5; two with a plus, spatial:30,3+linf:0.1; of a table 'linf:0.1 immutable=0,3 integers=5 "
            "ranges=2:0:10'."
        ) from None


def _number(text: str) -> float:
    over, slash, under = text.partition("/")
    return float(over) / float(under) if slash else float(over)


def _numbers(text: str, separator: str = ",") -> list[float]:
    return [_number(part) for part in text.split(separator)]


def _ball(make: Callable[..., Any]) -> Callable[[str, Any], Any]:
    return lambda text, network: make(_number(text)) if text else make()


def _spatial(text: str, network: Any) -> Spatial:
    ranges = dict(zip(("degrees", "pixels", "scale"), _numbers(text), strict=False)) if text else {}
    if text.count(",") > 2:
        raise ValueError
    return Spatial(**ranges)  # pyright: ignore[reportArgumentType]


def _patch(text: str, network: Any) -> Patch:
    size, at, place = text.partition("@")
    height, _, width = size.partition("x")
    row, column = (int(part) for part in place.split(",")) if at else (0, 0)
    return Patch((int(height), int(width or height)), (row, column) if at else "center")


def _features(text: str, network: nn.Module) -> Features:
    return Features(network, eps=_number(text)) if text else Features(network)


def _constraint(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name in ("immutable", "integers"):
        return name, tuple(int(part) for part in value.split(","))
    if name != "ranges":
        raise ValueError
    return name, {
        int(column): (low, high) for column, low, high in (_numbers(part, ":") for part in value.split(","))
    }


_NAMES: dict[str, Callable[[str, Any], Any]] = {
    **{name.__name__.lower(): _ball(name) for name in (Linf, L2, L1, Pixels)},
    "spatial": _spatial,
    "patch": _patch,
    "features": _features,
}
