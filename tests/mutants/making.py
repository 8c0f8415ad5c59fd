"""Mutants of a file, from its syntax tree: one operator, constant, index or name changed at a time.

What is changed:

    signs        a + b ↔ a − b, a * b ↔ a / b (also in place), −a → a, and a minus before what a function returns
    comparisons  < ↔ <=, > ↔ >=, < ↔ >, <= ↔ >=, == ↔ !=
    constants    0 ↔ 1, ½ → ¼, c → c + 1, True ↔ False
    indices      i → i − 1 and i + 1
    names        min ↔ max, in all their forms: minimum, amin, argmin, clamp_min, clamp(min=…)
    logic        and ↔ or, & ↔ |

What is not: docstrings, annotations and decorators; sentences, that is f-strings and all within `raise` and `warn`; and
checks of arguments, that is the test of an `if` under which nothing stands but `raise` or `warn`, and `strict=`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
_LOGIC = {ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And}
_COMPARED = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
}  # fmt: skip
_SIGNS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.BitAnd: "&", ast.BitOr: "|", ast.And: "and",
    ast.Or: "or", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_PAIRS = (("min", "max"), ("minimum", "maximum"), ("amin", "amax"), ("argmin", "argmax"),
          ("clamp_min", "clamp_max"), ("clamp_min_", "clamp_max_"), ("cummin", "cummax"))  # fmt: skip
_NAMES = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_CHECKS = ("strict", "stacklevel", "maxsize")
_SHOWN = 56


@dataclass(frozen=True)
class Mutant:
    """One change: `number` is its place among all of its file; `owner` and `line` the innermost function around it."""

    file: str
    number: int
    at: tuple[int, int]
    kind: str
    part: str  # body or default of a function, or a statement of a class or of the module
    owner: str
    line: int
    change: str

    @property
    def id(self) -> str:
        return f"{self.file}.py:{self.at[0]}:{self.at[1]}:{self.kind}"

    @property
    def where(self) -> str:
        return f"{self.file}.{self.owner}" if self.owner else self.file


@dataclass(frozen=True)
class _Site:
    """A child of a node, and what stands there instead."""

    parent: Any
    field: str
    index: int | None
    new: Any
    kind: str
    trail: tuple[ast.AST, ...]
    scope: _Scope

    def swap(self, value: Any) -> Any:
        """Put a value there; returns what was there."""
        if self.index is None:
            old = getattr(self.parent, self.field)
            setattr(self.parent, self.field, value)
        else:
            children = getattr(self.parent, self.field)
            old, children[self.index] = children[self.index], value
        return old


@dataclass(frozen=True)
class _Scope:
    owner: str = ""
    line: int = 0
    part: str = "module"
    inner: str = ""  # what the qualified names of functions within begin with


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a file, in the order of its text."""
    found, ids = [], {}
    for number, site in enumerate(_sites(ast.parse(path.read_text(encoding="utf-8")))):
        at = next(n for n in (site.parent, *reversed(site.trail)) if hasattr(n, "lineno"))
        place, kind = (at.lineno, at.col_offset), site.kind
        ids[place, kind] = ids.get((place, kind), 0) + 1
        if ids[place, kind] > 1:
            kind = f"{kind} ({ids[place, kind]})"
        scope = site.scope
        found.append(
            Mutant(path.stem, number, place, kind, scope.part, scope.owner, scope.line, _change(site))
        )
    return found


def mutated(path: Path, number: int) -> ast.Module:
    """The syntax tree of a file with one of its mutants in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for at, site in enumerate(_sites(tree)):
        if at == number:
            site.swap(site.new)
            return ast.fix_missing_locations(tree)
    raise IndexError(f"{path.name} has no mutant {number}")


def _change(site: _Site) -> str:
    """The smallest expression around it that says something, before and after."""
    around = [n for n in (*site.trail, site.parent) if isinstance(n, ast.expr)] or [site.parent]
    shown = around[-1]
    for wider in reversed(around):
        if len(ast.unparse(wider)) > _SHOWN:
            break
        shown = wider
    if isinstance(
        shown, ast.keyword | ast.AugAssign | ast.Return | ast.arguments | ast.AnnAssign | ast.Assign
    ):
        shown = site.parent
    before = ast.unparse(shown)
    old = site.swap(site.new)
    after = ast.unparse(ast.fix_missing_locations(shown))
    site.swap(old)
    return f"{before} → {after}"


# ------------------------------------------------------------------------------------------ where
def _sites(tree: ast.Module) -> list[_Site]:
    return list(_within(tree, (), _Scope(), False))


def _within(node: ast.AST, trail: tuple[ast.AST, ...], scope: _Scope, index: bool) -> Iterator[_Site]:
    """The sites at the children of a node, and below them."""
    if _is_sentence(node) or _is_alias(node, scope):
        return
    skipped = _skipped(node)
    for field, value in ast.iter_fields(node):
        if field in skipped:
            continue
        inside = _entered(node, field, scope)
        subscript = (field == "slice" and isinstance(node, ast.Subscript)) or (
            index and isinstance(node, ast.Tuple | ast.Slice | ast.UnaryOp)
        )
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            for new, kind in _changes(node, field, child, subscript, scope):
                yield _Site(node, field, place, new, kind, trail, inside)
            if isinstance(child, ast.AST):
                yield from _within(child, (*trail, node), inside, subscript)


def _skipped(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.FunctionDef):
        names = {getattr(each, "id", "") for each in node.decorator_list}
        return (
            ("body", "args", "returns", "decorator_list")
            if "overload" in names
            else ("decorator_list", "returns")
        )
    if isinstance(node, ast.ClassDef):
        return ("decorator_list", "bases", "keywords")
    if isinstance(node, ast.arg | ast.AnnAssign):
        return ("annotation",)
    if isinstance(node, ast.If) and all(map(_is_sentence, node.body)):
        return ("test", "body")
    if isinstance(node, ast.keyword) and node.arg in _CHECKS:
        return ("value",)
    return ()


def _is_sentence(node: ast.AST) -> bool:
    """A statement or an expression that only says something."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        node = node.value.func
        return isinstance(node, ast.Attribute) and node.attr in ("warn", "_warn")
    return isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom)


def _is_alias(node: ast.AST, scope: _Scope) -> bool:
    """A name for a type, e.g. Radius = float | Float[Tensor, " b"]."""
    if (
        scope.part != "module"
        or not isinstance(node, ast.Assign)
        or not isinstance(node.targets[0], ast.Name)
    ):
        return False
    value = node.value
    return isinstance(value, ast.Subscript) or (isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)
                                                and not isinstance(value.right, ast.Dict))  # fmt: skip


def _entered(node: ast.AST, field: str, scope: _Scope) -> _Scope:
    """The scope of what stands in a field of a node."""
    if isinstance(node, ast.ClassDef):
        return _Scope(scope.inner + node.name, 0, "class", f"{scope.inner}{node.name}.")
    if isinstance(node, ast.FunctionDef):
        name = scope.inner + node.name
        line = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        if field == "args":
            return _Scope(name, line, "default", scope.inner)
        return _Scope(name, line, "body", f"{name}.<locals>.")
    if isinstance(node, ast.Lambda):
        name = f"{scope.inner}<lambda>"
        return _Scope(name, node.lineno, "body", f"{name}.<locals>.")
    return scope


# ------------------------------------------------------------------------------------------- what
def _changes(
    node: ast.AST, field: str, child: Any, subscript: bool, scope: _Scope
) -> Iterator[tuple[Any, str]]:
    """What may stand in place of a child, and the kind of the change."""
    kind = type(child)
    if field in ("op", "ops") and not isinstance(node, ast.UnaryOp):
        for table in (_ARITHMETIC, _LOGIC):
            if kind in table:
                yield table[kind](), f"{_SIGNS[kind]} to {_SIGNS[table[kind]]}"
        for new in _COMPARED.get(kind, ()):
            yield new(), f"{_SIGNS[kind]} to {_SIGNS[new]}"
    elif isinstance(child, ast.Constant):
        yield from _constants(child, subscript and not isinstance(node, ast.UnaryOp))
    elif isinstance(child, ast.UnaryOp) and isinstance(child.op, ast.USub):
        literal = isinstance(child.operand, ast.Constant)
        if subscript and literal:
            for step in (-1, 1):
                yield _like(child, ast.Constant(step - child.operand.value)), f"index {step:+d}"
        else:
            yield child.operand, "minus dropped"
    elif field == "attr" and child in _NAMES:
        yield _NAMES[child], f"{child} to {_NAMES[child]}"
    elif field == "func" and isinstance(child, ast.Name) and child.id in _NAMES:
        yield _like(child, ast.Name(_NAMES[child.id], ast.Load())), f"{child.id} to {_NAMES[child.id]}"
    elif isinstance(child, ast.Call):
        named = [(i, k) for i, k in enumerate(child.keywords) if k.arg in ("min", "max")]
        if len(named) == 1 and isinstance(child.func, ast.Attribute) and child.func.attr.startswith("clamp"):
            at, keyword = named[0]
            turned = ast.keyword(_NAMES[str(keyword.arg)], keyword.value)
            keywords = [turned if i == at else k for i, k in enumerate(child.keywords)]
            yield _like(child, ast.Call(child.func, child.args, keywords)), f"{keyword.arg}= to {turned.arg}="
    if _returned(node, field, child, scope):
        yield _like(child, ast.UnaryOp(ast.USub(), child)), "minus added"


def _constants(node: ast.Constant, index: bool) -> Iterator[tuple[ast.Constant, str]]:
    value = node.value
    if isinstance(value, bool):
        yield _like(node, ast.Constant(not value)), f"{value} to {not value}"
    elif index and isinstance(value, int):
        for step in (-1, 1):
            yield _like(node, ast.Constant(value + step)), f"index {step:+d}"
    elif isinstance(value, int | float):
        new = {0: 1, 1: 0, 0.5: 0.25}.get(value, value + 1)
        yield _like(node, ast.Constant(type(value)(new))), f"{value:g} to {new:g}"


def _returned(node: ast.AST, field: str, child: Any, scope: _Scope) -> bool:
    """Whether it is a number, or a tensor of numbers, that a function returns."""
    if not (
        (isinstance(node, ast.Return) and field == "value")
        or (isinstance(node, ast.Lambda) and field == "body")
    ):
        return False
    if isinstance(child, ast.BinOp):
        return isinstance(child.op, ast.Mult | ast.Div | ast.MatMult | ast.Pow)
    return isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute)


def _like(old: ast.AST, new: Any) -> Any:
    return ast.copy_location(new, old)
