"""Templates of HTML pages that load nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files as resources
from typing import Any

from psiphi.basis.provenance import versions


def rendered(template: str, filters: Mapping[str, Callable[..., str]] | None = None, **told: Any) -> str:
    """The page of a template, with its style sheet in it; `told` are its words."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    home = resources("psiphi.app") / "templates"
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= dict(filters or {})
    page = environment.from_string((home / template).read_text(encoding="utf-8"))
    css = Markup((home / "report.css").read_text(encoding="utf-8"))
    return page.render(css=css, versions=versions(), **told)
