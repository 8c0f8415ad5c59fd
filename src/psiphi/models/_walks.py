"""Plans from text, and the progress of a walk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from tqdm import tqdm

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.distributions import DiagonalNormal
from psiphi.formulas.schedules import Schedule, exponential, karras
from psiphi.samplers import Plan, samplers

SECOND_ORDER = ("heun", "dpm_solver")
STEPS = 50  # of a continuous schedule, unless told


def plan_of(given: str | Plan, levels: Any, steps: int | None = None) -> Plan:
    """A plan by name on these levels: `heun:18`, `ancestral`, `ddim:50,eta=1,levels=log`, `langevin:500,step=0.1`.

    levels: a schedule or falling values; samplers at one level take the least of them. Option `levels`: how those of a
    schedule are spaced: `time`, its own; `karras`, the default of solvers of order 2; `log`.
    """
    if isinstance(given, Plan):
        return given
    name, _, rest = str(given).partition(":")
    entry = samplers[name]
    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    known = [*list(entry.parameters)[1:], *(["levels"] if "sigmas" in entry.parameters else [])]
    for i, each in enumerate(part.strip() for part in rest.split(",") if part.strip()):
        key, equals, value = each.partition("=")
        key, value = (key, value) if equals or i else ("steps", key)
        if key not in known:
            raise ArgumentError(f"{name} has no option {key!r}; it has {', '.join(known)}, e.g. {name}:20.")
        options[key] = _value(value)
    spacing = options.pop("levels", "karras" if name in SECOND_ORDER else "time")
    if "sigma" in entry.parameters:
        levels = levels.sigma_min if isinstance(levels, Schedule) else min(levels)
    elif isinstance(levels, Schedule):
        levels = _spaced(levels, spacing)
        if levels.steps is None:
            options.setdefault("steps", STEPS)
    try:
        return entry.build(levels, **options)
    except TypeError as error:
        raise ArgumentError(f"{name} cannot read {given!r} ({error}); write e.g. {name}:20.") from None


def _spaced(levels: Schedule, spacing: Any) -> Schedule:
    if spacing == "time" or levels.sigma_min == levels.sigma_max:
        return levels
    if spacing not in ("karras", "log"):
        raise ArgumentError(f"levels are spaced by time, karras or log; got {spacing!r}.")
    return (karras if spacing == "karras" else exponential)(levels.sigma_min, levels.sigma_max)


def _value(text: str) -> Any:
    if text in ("True", "true", "False", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def begin(p: DiagonalNormal, noise: Noise) -> Tensor:
    """Where walks start: a draw of p, of the shape of one sample, for each row of the noise."""
    return p.mean + p.log_scale.exp() * noise.split("start").normal(p.mean.shape)


@contextmanager
def progress(title: str, evaluations: int, quiet: bool) -> Iterator[Callable[[int, Any], Any]]:
    """A bar of rows of a plan on standard error."""
    with tqdm(
        total=evaluations, desc=f"sampling {title}", unit="evaluation", file=sys.stderr, disable=quiet, leave=False,
        mininterval=0.2 if sys.stderr.isatty() else 10,
    ) as bar:  # fmt: skip
        yield lambda i, x: bar.update()
