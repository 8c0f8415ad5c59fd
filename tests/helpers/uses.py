"""Which objects of psiphi a body of Python code uses, read from its syntax: no text in strings or comments counts."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, get_args


def used(code: str) -> Iterator[Any]:
    """The objects that `code` reads by name outside of its import statements, each module on the way left out.

    Names are followed to psiphi through imports (`import psiphi as pp`, `from psiphi.zoo import vae as v`), and through
    attributes (`pp.attacks.threats.Linf`); of what is assigned to a variable, modules alone are (`P = pp.poisoning`).
    """
    tree = ast.parse(code)
    known = dict(_imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            home = _resolved(node.value, known)
            known |= {node.targets[0].id: home} if isinstance(home, ModuleType) else {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            found = _resolved(node, known)
            if found is not None and not isinstance(found, ModuleType):
                yield found


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.name.split(".")[0] == "psiphi":
                    yield each.asname or "psiphi", import_module(each.name if each.asname else "psiphi")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "psiphi":
            home = import_module(node.module or "")
            for each in node.names:
                value = getattr(home, each.name, None)
                yield each.asname or each.name, value or import_module(f"{node.module}.{each.name}")


def _resolved(node: ast.AST, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        home = _resolved(node.value, known)
        return getattr(home, node.attr, None) if isinstance(home, ModuleType) else None
    return None


def made(objects: Iterable[Any], classes: Iterable[type]) -> Iterator[type]:
    """The classes that the objects' annotations say they return, hold as a field, or inherit from.

    An annotation is a name: of two classes that share it, the one of the same part of the library is meant.
    """
    named: dict[str, list[type]] = {}
    for each in classes:
        named.setdefault(each.__name__, []).append(each)
    for each in objects:
        told = []
        if inspect.isclass(each):
            told += [str(value) for value in inspect.get_annotations(each).values()]
            told += [str(_returned(value)) for value in vars(each).values()]
            yield from each.__mro__[1:]
        told.append(str(_returned(each)))
        for word in set(re.findall(r"\w+", " ".join(told))):
            found = named.get(word, [])
            yield from [kind for kind in found if len(found) == 1 or _room(kind) == _room(each)]


def _room(each: Any) -> str:
    return ".".join(getattr(each, "__module__", "").split(".")[:2])


def _returned(each: Any) -> Any:
    if isinstance(each, property):
        each = each.fget
    if isinstance(each, staticmethod | classmethod):
        each = each.__func__
    return getattr(each, "__annotations__", {}).get("return", "") if callable(each) else ""


def is_alias(value: Any) -> bool:
    """Whether a name is that of a type alone: an alias, a union, a protocol."""
    return bool(get_args(value)) or getattr(value, "_is_protocol", False)
