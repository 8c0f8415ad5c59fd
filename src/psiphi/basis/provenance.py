"""Where a model, a result or a report comes from."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from typing import Any


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("psiphi", "torch", "numpy", "scikit-learn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def provenance(**facts: Any) -> dict[str, Any]:
    return {**facts, "versions": versions()}
