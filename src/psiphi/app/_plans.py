"""Plans of samplers at the command line."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _console as out
from psiphi.app._arguments import option
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from psiphi.samplers import Plan


def known(model: Any, verb: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options, each of which the model's verb must have."""
    takes = signature(verb).parameters
    for name in options:
        if name not in takes:
            raise ArgumentError(
                f"a {model.title} takes no {option(name)}: leave it out; score_model, ddpm and edm take it."
            )
    return options


def read_plan(text: str | None) -> str | Plan | None:
    """A plan's text as it is, or the plan in a .json file."""
    if text is None or not text.endswith(".json"):
        return text
    from psiphi.basis.errors import FileError
    from psiphi.samplers import Plan

    path = Path(text)
    if not path.is_file():
        raise FileError(
            f"there is no plan at {path}: write one with plan.to_json(), or name a sampler: heun:18."
        )
    return Plan.from_json(path.read_text(encoding="utf-8"))


def walks(model: Any) -> bool:
    """Whether `sample` is a walk along a plan."""
    return hasattr(model, "planned") or (
        getattr(model, "prior", 0) is None and hasattr(model, "score") and hasattr(model, "sample")
    )


def planned(model: Any, given: str | Plan | None) -> Plan:
    """The plan that `sample` walks, in the data's units."""
    from psiphi.models._chains import chain_plan

    if not walks(model):
        raise ArgumentError(
            f"a {model.title} draws in one step and walks no plan; score_model, ddpm, edm and a denoising_ae of "
            f"Gaussian noise do."
        )
    return model.planned(given) if hasattr(model, "planned") else chain_plan(model, given, False)


def show_plan(model: Any, given: str | Plan | None, json: bool) -> None:
    """Print a model's plan, in the data's units, in which `--plan FILE.json` takes it back."""
    plan = planned(model, given)
    if json:
        return out.emit(plan.as_dict() | {"evaluations": plan.evaluations})
    return out.say(f"{plan.table()}\nσ is in the data's units.")
