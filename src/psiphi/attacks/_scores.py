"""The named attacks that ask for scores alone, within a fixed radius: random search, and estimated gradients."""

from __future__ import annotations

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Threat
from psiphi.attacks._targets import Targets
from psiphi.attacks.searches import Estimated, Squares, Steepest
from psiphi.basis.registry import attacks
from psiphi.formulas import goals
from psiphi.formulas.goals import Goal


@attacks.register
def square(
    threat: Threat,
    queries: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
    goal: str | Goal = "margin",
    ahead: int = 1,
    targets: Targets = None,
) -> Attack:
    """Square: a window at a random place becomes x ± ε (L2, L1: a bump beside a dip), and stays if the score rises.

    queries   points of a restart; the windows shrink in step with them, from the share `p_init` of the image to
              p_init/512
    goal      as of `pgd`; the reference code climbs `cross_entropy` where a target is given
    ahead     at most so many windows of a row go to a white box in one pass, each as if those before it failed: the
              walk is the same, several times faster where few rows are left; the points returned may be others, since
              one that was sent ahead counts too if it succeeds

    Forwards a row: 1, at most restarts·queries (with `ahead`, besides, those after a window that helped), and 1 to
    verify a success of a white box. No backwards.

    Source: Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial attack via
    random search", 2020; of L1, the code of Croce, Hein, "Mind the box", 2021. The defaults are those of AutoAttack.
    """
    return Attack(threat, goals.named(goal), Squares(queries, p_init, restarts, ahead), targets=targets)


@attacks.register
def nes(
    threat: Threat,
    steps: int = 100,
    samples: int = 50,
    sigma: float = 0.001,
    step: float | None = None,
    momentum: float = 0.0,
    goal: str | Goal = "cross_entropy",
    kind: str = "gaussian",
    targets: Targets = None,
) -> Attack:
    """Steepest steps from x along ∇s(v) ≈ (1/2mσ) Σ_{k≤m} (s(v + σu_k) − s(v − σu_k)) u_k, u_k ~ N(0, I).

    samples   2m, the scores that an estimate takes; σ in the data's units, or those of the threat's chart
    step      by default 2.5 ε/steps
    momentum  μ, as in `iterative_fgsm`: averages the estimates of several steps
    goal      as of `pgd`
    kind      "gaussian", natural evolution strategies; "rademacher", u_i = ±1: simultaneous perturbation (SPSA)

    Forwards a row: 1, at most steps·(samples + 1), 1. No backwards.

    Sources: Ilyas, Engstrom, Athalye, Lin, "Black-box adversarial attacks with limited queries and information", 2018,
    section 2.1, whose samples and σ these are; Uesato, O'Donoghue, van den Oord, Kohli, "Adversarial risk and the
    dangers of evaluating against weak attacks", 2018, section 4, which takes Adam's steps.
    """
    climb = Steepest(steps, step, random_start=False, momentum=momentum)
    return Attack(threat, goals.named(goal), Estimated(climb, samples, sigma, kind), targets=targets)
