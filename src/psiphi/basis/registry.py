"""Names to builders: what the zoo and the attacks register, so that files and commands can name them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

from psiphi.basis.errors import ArgumentError

Built = TypeVar("Built")


@dataclass(frozen=True)
class Entry:
    """One registered builder."""

    name: str
    build: Callable[..., Any]

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.build) or "").split("\n")[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.build).parameters)


class Registry:
    """A dictionary of builders; each built value remembers in `.recipe` how it was made.

    home: the module whose import fills it; a look-up imports it first.
    """

    def __init__(self, kind: str, home: str):
        self.kind, self.home = kind, home
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        import_module(self.home)
        return iter(list(self._entries.values()))

    def __contains__(self, name: str) -> bool:
        import_module(self.home)
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        import_module(self.home)
        if name in self._entries:
            return self._entries[name]
        near = get_close_matches(name, self._entries, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(sorted(self._entries))}."
        raise ArgumentError(f"no {self.kind} is called {name!r}; {hint}")

    def register(self, build: Callable[..., Built]) -> Callable[..., Built]:
        """Make `build` known by its name; the value it returns gets a `recipe` of its arguments."""
        name = build.__name__
        signature = inspect.signature(build)

        @functools.wraps(build)
        def built(*args: Any, **kwargs: Any) -> Built:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            value = build(*args, **kwargs)
            arguments = dict(bound.arguments)
            for each in signature.parameters.values():
                if each.kind is each.VAR_KEYWORD:
                    arguments |= arguments.pop(each.name)
            object.__setattr__(value, "recipe", {self.kind: name, "arguments": arguments})
            return value

        self._entries[name] = Entry(name, built)
        return built


models = Registry("model", "psiphi.zoo")
attacks = Registry("attack", "psiphi.attacks")
