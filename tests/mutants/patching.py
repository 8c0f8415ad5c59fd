"""A mutant put into the running process: functions get its code in place, so that every importer sees it."""

from __future__ import annotations

import ast
import gc
import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .making import Mutant, mutated

_PLAIN = (bool, int, float, str, tuple, type(None))


def written_in(folder: Path) -> list[FunctionType]:
    """Every function object of the process whose code stands in the folder, lambdas and closures included."""
    return [each for each in gc.get_objects()
            if type(each) is FunctionType and Path(each.__code__.co_filename).parent == folder]  # fmt: skip


def put(mutant: Mutant, path: Path, functions: Iterable[FunctionType] | None = None) -> None:
    """Make this process compute with the mutant; `functions`: those `written_in` its folder, found in advance.

    To look at every object costs a forked process a copy of all its memory.
    """
    module = importlib.import_module(f"psiphi.formulas.{mutant.file}")
    tree = mutated(path, mutant.number)
    if mutant.part in ("body", "default"):
        _replace_code(path, tree, written_in(path.parent) if functions is None else functions)
    if mutant.part == "default":
        _replace_defaults(module, tree, mutant.owner)
    elif mutant.part == "class":
        _replace_fields(module, tree, mutant.owner)
        _replace_values(module, tree, path)  # those made of it when the module was imported
    elif mutant.part == "module":
        _replace_values(module, tree, path)


def _replace_code(path: Path, tree: ast.Module, functions: Iterable[FunctionType]) -> None:
    """Of every function whose code the mutant changes."""
    before = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    after = compile(tree, str(path), "exec", dont_inherit=True)
    new = {old: code for old, code in zip(_codes(before), _codes(after), strict=True) if old != code}
    for each in functions:
        if each.__code__.co_filename == str(path):
            each.__code__ = new.get(each.__code__, each.__code__)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _replace_defaults(module: ModuleType, tree: ast.Module, owner: str) -> None:
    """Of a function or method, from the mutant run as a module of its own."""
    old, new = _named(vars(module), owner), _named(_run_apart(module, tree), owner)
    old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


def _replace_fields(module: ModuleType, tree: ast.Module, owner: str) -> None:
    """Of a class: its plain attributes, and the defaults of what a dataclass or a named tuple wrote for it."""
    old, new = getattr(module, owner), _run_apart(module, tree)[owner]
    for name, value in vars(new).items():
        if isinstance(value, _PLAIN) and not name.startswith("__"):
            setattr(old, name, value)
    for name in ("__init__", "__new__"):
        mine, theirs = (
            getattr(vars(each).get(name), "__func__", vars(each).get(name)) for each in (old, new)
        )
        if isinstance(mine, FunctionType) and isinstance(theirs, FunctionType):
            mine.__defaults__ = theirs.__defaults__


def _replace_values(module: ModuleType, tree: ast.Module, path: Path) -> None:
    """Of the module's names from the changed statement on, here and wherever they were imported."""
    before = ast.parse(path.read_text(encoding="utf-8")).body
    changed = next(i for i, (a, b) in enumerate(zip(before, tree.body)) if ast.dump(a) != ast.dump(b))
    for statement in tree.body[changed:]:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and getattr(statement, "value", None):
            names = [
                n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            ]
            old = {name: vars(module)[name] for name in names if name in vars(module)}
            code = ast.Module([statement], [])
            exec(compile(code, str(path), "exec", dont_inherit=True), vars(module))
            for name, value in old.items():
                _import_again(name, value, vars(module)[name])
    _defaults_again(module, tree, path)


def _import_again(name: str, old: Any, new: Any) -> None:
    for each in list(sys.modules.values()):
        if getattr(each, "__name__", "").startswith("psiphi"):
            for key, value in list(vars(each).items()):
                if value is old and (key == name or not isinstance(value, bool | int | float | str)):
                    setattr(each, key, new)


def _defaults_again(module: ModuleType, tree: ast.Module, path: Path) -> None:
    """Defaults of arguments that are the module's constants, evaluated anew."""
    constants = {key for key, value in vars(module).items() if isinstance(value, int | float)}
    for each in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        function = _named(vars(module), each.name)
        given = each.args.defaults
        if any(isinstance(value, ast.Name) and value.id in constants for value in given):
            function.__defaults__ = tuple(
                eval(compile(ast.Expression(value), str(path), "eval"), vars(module)) for value in given
            )


def _run_apart(module: ModuleType, tree: ast.Module) -> dict[str, Any]:
    names = {"__name__": module.__name__, "__file__": module.__file__}
    exec(compile(tree, str(module.__file__), "exec", dont_inherit=True), names)
    return names


def _named(names: dict[str, Any], owner: str) -> Any:
    """The function of a qualified name, unwrapped."""
    first, *rest = owner.split(".")
    found = names[first]
    for name in rest:
        found = vars(found)[name]
    found = getattr(found, "fget", None) or getattr(found, "func", None) or found
    return getattr(found, "__wrapped__", None) or getattr(found, "__func__", found)
