"""Templates of HTML pages that load nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files as resources
from typing import Any

from psiphi.basis.provenance import versions


def rendered(template: str, filters: Mapping[str, Callable[..., str]] | None = None, **told: Any) -> str:
    """The page of a template, with its style sheet and its script in it; `told` are its words."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    home = resources("psiphi.app") / "templates"
    environment = Environment(
        loader=PackageLoader("psiphi.app"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= dict(filters or {})
    css, script = (Markup((home / f"report.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return environment.get_template(template).render(css=css, script=script, versions=versions(), **told)
