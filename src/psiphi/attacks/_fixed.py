"""The named attacks within a fixed radius: compositions of a threat, a goal and a search."""

from __future__ import annotations

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Threat
from psiphi.attacks.searches import Steepest
from psiphi.basis.registry import attacks
from psiphi.formulas.goals import cross_entropy


@attacks.register
def pgd(
    threat: Threat, steps: int = 40, step: float | None = None, random_start: bool = True, restarts: int = 1
) -> Attack:
    """Projected gradient descent on the negative loss: v ← Π(v + α d(∇_v loss)), from a random start.

    `step` is α in the data's units, by default 2.5 ε/steps. Forwards a row: 1 for the clean check, at most
    restarts·(steps + 1) while it moves, 1 to verify.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, section 2.1.
    """
    search = Steepest(steps, step, random_start=random_start, restarts=restarts)
    return Attack(threat, goal=cross_entropy, search=search)


@attacks.register
def fgsm(threat: Threat) -> Attack:
    """Fast gradient (sign) method: one step of the whole radius from x, v = Π(x + ε d(∇_x loss)).

    Source: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", 2015, section 4.
    """
    return Attack(threat, goal=cross_entropy, search=Steepest(steps=1, reach=1.0, random_start=False))
