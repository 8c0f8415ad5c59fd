"""Plans from text, and the progress of a walk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.schedules import Schedule
from psiphi.samplers import Plan, samplers


def plan_of(given: str | Plan, levels: Any, steps: int | None = None) -> Plan:
    """A plan by name on these levels: `heun:18`, `ancestral`, `ddim:50,eta=1`, `langevin:500,step=0.1`.

    levels: a schedule or falling values; samplers at one level take the least of them.
    """
    if isinstance(given, Plan):
        return given
    name, _, rest = str(given).partition(":")
    entry = samplers[name]
    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    for each in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = each.partition("=")
        key, value = (key, value) if equals else ("steps", key)
        if key not in entry.parameters or key in ("sigmas", "sigma"):
            raise ArgumentError(
                f"{name} has no option {key!r}; it has {', '.join(list(entry.parameters)[1:])}, e.g. {name}:20."
            )
        options[key] = _value(value)
    if "sigma" in entry.parameters:
        levels = levels.sigma_min if isinstance(levels, Schedule) else min(levels)
    elif isinstance(levels, Schedule) and "steps" not in options and levels.steps is None:
        options["steps"] = 50
    try:
        return entry.build(levels, **options)
    except TypeError:
        raise ArgumentError(f"{given!r} does not say what {name} needs; write e.g. {name}:20.") from None


def _value(text: str) -> Any:
    if text in ("True", "true", "False", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@contextmanager
def progress(title: str, evaluations: int, quiet: bool) -> Iterator[Callable[[int, Any], Any]]:
    """A bar of rows of a plan on standard error."""
    with tqdm(
        total=evaluations, desc=f"sampling {title}", unit="evaluation", file=sys.stderr, disable=quiet, leave=False,
        mininterval=0.2 if sys.stderr.isatty() else 10,
    ) as bar:  # fmt: skip
        yield lambda i, x: bar.update()
