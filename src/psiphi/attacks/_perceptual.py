"""Attacks in a space of features."""

from __future__ import annotations

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Threat
from psiphi.attacks._targets import Targets
from psiphi.attacks.searches import Penalty, Steepest
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas import goals
from psiphi.formulas.goals import Goal


@attacks.register
def perceptual(
    threat: Threat,
    form: str = "projected",
    steps: int = 40,
    step: float | None = None,
    price: float = 10.0,
    random_start: bool = True,
    goal: str | Goal = "margin",
    targets: Targets = None,
) -> Attack:
    """An attack within a radius of features, `threats.Features`: the margin is raised where φ changes little.

    form          projected: v ← Π(v + α d(∇)), d the steepest step for a change of φ of length 1, Π on the segment to x
                  lagrangian: ascent of goal − λ max(0, ‖φ(v) − φ(x)‖ − ε), λ rising, and Π at the end
    step          α in units of φ: by default 2.5 ε/steps; lagrangian: by default ε, falling to ε/10
    price         λ at the end, of the lagrangian form
    random_start  of the projected form; the lagrangian one begins near x
    goal          as of `pgd`

    Forwards a row: 1, `steps` with a gradient, 1. Passes of φ a step, which are not counted: projected about 18 (12 of
    them back), lagrangian about 6.

    Source: Laidlaw, Singla, Feizi, "Perceptual adversarial robustness: defense against unseen threat models", 2021,
    section 4.
    """
    if form not in ("projected", "lagrangian"):
        raise ArgumentError(f"form is 'projected' or 'lagrangian'; got {form!r}.")
    search = (
        Steepest(steps, step, random_start=random_start)
        if form == "projected"
        else Penalty(steps, step, price)
    )
    return Attack(threat, goals.named(goal), search, targets=targets)
