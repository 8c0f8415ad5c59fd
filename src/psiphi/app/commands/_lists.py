"""`psiphi models` and `psiphi data`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from psiphi.app import _console as out
from psiphi.app._options import DATA_HELP, Json


def models(json: Json = False) -> None:
    """List the models with the verbs that each one has, and the attacks.

    [bold]Example[/bold]   psiphi models
    """
    import psiphi.attacks
    import psiphi.zoo  # noqa: F401  both register what there is
    from psiphi.basis import registry
    from psiphi.models._base import example

    zoo = [
        {"name": e.name, "summary": e.summary, "verbs": list(example(e.name).can), "arguments": _arguments(e)}
        for e in registry.models
    ]
    known = [{"name": e.name, "summary": e.summary, "arguments": _arguments(e)} for e in registry.attacks]
    if json:
        return out.emit({"models": zoo, "attacks": known})
    out.table(
        ["model", "what it does", "verbs"], [[e["name"], e["summary"], ", ".join(e["verbs"])] for e in zoo]
    )
    out.table(
        ["attack", "what it does", "arguments"],
        [[e["name"], e["summary"], ", ".join(e["arguments"])] for e in known],
    )
    out.say(
        "Train one: psiphi train vae --data digits    Attack with one: psiphi attack runs/classifier --attack pgd"
    )
    return None


def _arguments(entry: object) -> list[str]:
    return list(getattr(entry, "parameters", {}))


def data(
    what: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)],
    limit: Annotated[int | None, typer.Option(help="Measure at most so many training rows.")] = None,
    json: Json = False,
) -> None:
    """Describe data: rows, shape, range, classes, gaps, and what would go wrong with which model.

    [bold]Example[/bold]   psiphi data digits
    """
    from psiphi.data import describe

    found = describe(what, limit=limit)
    if json:
        out.emit(found.as_dict())
    else:
        out.say(str(found))
