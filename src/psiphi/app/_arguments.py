"""Options of the command line to arguments of builders, checked against their signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import Entry

POSITIONAL = ("shape", "threat")


def numbers(text: str | None, what: str) -> tuple[int, ...] | None:
    """`512,256` as (512, 256); an empty text as ()."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace(" ", "").split(",") if part)
    except ValueError:
        raise ArgumentError(
            f"{what} is {text!r}; whole numbers with commas are needed, e.g. 512,256."
        ) from None


def fractions(text: str | None, what: str) -> tuple[float, ...] | None:
    """`0.1,8/255` as (0.1, 0.0314)."""
    if text is None:
        return None
    try:
        return tuple(_fraction(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise ArgumentError(
            f"{what} is {text!r}; numbers with commas are needed, e.g. 0.1,0.2 or 2/255,4/255."
        ) from None


def _fraction(text: str) -> float:
    over, slash, under = text.partition("/")
    return float(over) / float(under) if slash else float(over)


def settings(pairs: Iterable[str] | None) -> dict[str, Any]:
    """`["samples=5", "loss=huber"]` as {"samples": 5, "loss": "huber"}: Python literals, else text."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals or not name.strip().replace("-", "_").isidentifier():
            raise ArgumentError(f"--set {pair!r} names no argument; write name=value, e.g. --set samples=5.")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = text
        found[name.strip().replace("-", "_")] = value
    return found


def build(
    entry: Entry, kind: str, given: Mapping[str, Any], *first: Any, kept: Iterable[str] = (), **named: Any
) -> Any:
    """Call a registered builder with the options that were given (None = not given, but for those in `kept`).

    `first` and `named` go to it as they are.
    """
    wanted = {name: value for name, value in given.items() if value is not None or name in kept}
    takes = [name for name in entry.parameters if name not in POSITIONAL]
    own = {name for name in takes if "Module" in str(entry.parameters[name].annotation)}
    for name in wanted:
        if name in own:
            raise ArgumentError(
                f"{name} is a network of your own, which only Python can hand over: pp.zoo.{entry.name}(...)."
            )
        if name not in takes:
            listed = ", ".join(option(each) for each in takes if each not in own) or "none"
            near = get_close_matches(name, [each for each in takes if each not in own], n=1)
            hint = f"did you mean {option(near[0])}? It takes" if near else "it takes"
            raise ArgumentError(f"the {kind} {entry.name} has no argument {option(name)}; {hint} {listed}.")
    try:
        return entry.build(*first, **named, **wanted)
    except (TypeError, AttributeError) as error:
        raise ArgumentError(f"the {kind} {entry.name} cannot be built like this: {error}.") from error


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
