"""psiphi (ψ∘φ, decode after encode): learn the manifold that data lie on, and use it.

This face is lazy: a name is imported when it is first used, so that `import psiphi` and
`psiphi --help` load neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psiphi import (
        access,
        attacks,
        data,
        defenses,
        divergences,
        estimators,
        evaluation,
        laws,
        models,
        poisoning,
        samplers,
        training,
        zoo,
    )
    from psiphi.attacks import threats
    from psiphi.models import load, save
    from psiphi.training import fit

__version__ = "0.1.0"

__all__ = [
    "access",
    "attacks",
    "data",
    "defenses",
    "divergences",
    "estimators",
    "evaluation",
    "fit",
    "laws",
    "load",
    "models",
    "poisoning",
    "samplers",
    "save",
    "threats",
    "training",
    "zoo",
]

_NAMESPACES = {
    name: f"psiphi.{name}"
    for name in (
        "access",
        "attacks",
        "data",
        "defenses",
        "divergences",
        "estimators",
        "evaluation",
        "laws",
        "models",
        "poisoning",
        "samplers",
        "training",
        "zoo",
    )
} | {"threats": "psiphi.attacks.threats"}

_FUNCTIONS = {"fit": "psiphi.training", "load": "psiphi.models", "save": "psiphi.models"}


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        value = import_module(_NAMESPACES[name])
    elif name in _FUNCTIONS:
        # A saved model names its builder, and the zoo registers the builders.
        if name == "load":
            import_module("psiphi.zoo")
        value = getattr(import_module(_FUNCTIONS[name]), name)
    else:
        raise AttributeError(f"module 'psiphi' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
