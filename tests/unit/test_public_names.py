"""Every public name is used: by a test, a law or an example, as code and not in a comment."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import psiphi
from helpers.uses import is_alias, made, used
from helpers.zoo import CASES
from psiphi.basis.registry import models

ROOT = Path(__file__).resolve().parents[2]
CODE = ["tests/**/*.py", "src/psiphi/laws/*.py", "examples/*.py"]
MODULES = [  # without `__all__`, and spoken of in the manual by their names
    "psiphi.data.toys", "psiphi.defenses.filters", "psiphi.formulas.schedules", "psiphi.training.schedules"
]  # fmt: skip


def packages() -> Iterator[str]:
    """The public packages that say in `__all__` what they offer; laws are run by their registration."""
    for info in pkgutil.walk_packages(psiphi.__path__, "psiphi."):
        hidden = any(part.startswith("_") for part in info.name.split("."))
        if (
            not hidden
            and not info.name.startswith("psiphi.app")
            and hasattr(import_module(info.name), "__all__")
        ):
            yield info.name


def names_of(module: ModuleType) -> list[str]:
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return getattr(module, "__all__", own)


def public() -> dict[str, Any]:
    """Every public name with its value; modules are names on the way, and type aliases say nothing to run."""
    found = {"psiphi." + name: getattr(psiphi, name) for name in psiphi.__all__}
    for home in [*packages(), *MODULES]:
        module = import_module(home)
        found |= {f"{home}.{name}": getattr(module, name) for name in names_of(module)}
    return {
        name: value
        for name, value in found.items()
        if not isinstance(value, ModuleType) and not is_alias(value)
    }


@pytest.fixture(scope="module")
def exercised() -> set[int]:
    """What code uses by name, what that makes, and the models that the contract tests build by their registration."""
    start: list[Any] = [models[case.model].build for case in CASES.values()]
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            start += used(path.read_text())
    classes = [value for value in public().values() if inspect.isclass(value)]
    seen, fresh = {id(value) for value in start}, start
    while fresh:
        fresh = [value for value in made(fresh, classes) if id(value) not in seen]
        seen |= {id(value) for value in fresh}
    return seen


def test_every_public_name_is_exercised(exercised: set[int]) -> None:
    idle = sorted(name for name, value in public().items() if id(value) not in exercised)
    assert idle == [], f"nothing in {', '.join(CODE)} uses {', '.join(idle)}"


@pytest.mark.parametrize("home", sorted([*packages(), *MODULES]))
def test_public_names_are_there_and_told(home: str) -> None:
    module = import_module(home)
    names = names_of(module)
    assert module.__doc__
    assert len(set(names)) == len(names)
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{home}.{name} has no docstring"


CALLED = "import psiphi as pp\n{}"


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("pp.zoo.vae(2)", True),
        ("z = pp.zoo\nz.vae(2)", True),
        ("from psiphi.zoo import vae as v\nv(2)", True),
        ("from psiphi import zoo\nzoo.vae(2)", True),
        ("# pp.zoo.vae(2)", False),
        ("'pp.zoo.vae(2)'", False),
        ("from psiphi.zoo import vae", False),
        ("vae = 1\nother.vae(2)", False),
    ],
)
def test_what_counts_as_a_use(line: str, counts: bool) -> None:
    assert (psiphi.zoo.vae in list(used(CALLED.format(line)))) is counts


def test_what_a_used_function_returns_is_used_too() -> None:
    assert psiphi.attacks.Result in list(
        made([psiphi.attacks.Attack], [psiphi.attacks.Result, psiphi.attacks.Curve])
    )
    assert psiphi.attacks.Curve not in list(made([psiphi.attacks.transfer], [psiphi.attacks.Curve]))
