"""The named attacks within a fixed radius: compositions of a threat, a goal and a search.

ε is the threat's radius and `step` is α, both in the data's units. A row's forwards: 1 for the clean check, at most
restarts·(steps + 1) − 1 with a gradient, 1 for the last point or to verify a success.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Threat
from psiphi.attacks._targets import Targets
from psiphi.attacks.searches import AutoStep, SparseAutoStep, Steepest
from psiphi.attacks.threats import L1
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box, l1_sparse
from psiphi.formulas.goals import Goal


@attacks.register
def pgd(
    threat: Threat,
    steps: int = 40,
    step: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    goal: str | Goal = "cross_entropy",
    momentum: float = 0.0,
    targets: Targets = None,
    sparsity: float | None = None,
) -> Attack:
    """Projected gradient descent on the negative loss: v ← Π(v + α d(∇_v loss)), from a random start.

    step      by default 2.5 ε/steps
    goal      cross_entropy, margin, dlr or kl by name, or a function (logits, y, target) -> scores (b,) to raise
    momentum  μ, as in `iterative_fgsm`
    sparsity  of an L1 threat: the share of the coordinates that one step moves, equally far, instead of the steepest
              and what a wall leaves length for (0.01 is published); no exact rest at an optimum

    Forwards a row: 1, at most restarts·(steps + 1) − 1 with a gradient, 1.

    Sources: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, section 2.1; of
    `sparsity`, Tramèr, Boneh, "Adversarial training and robustness for multiple perturbations", 2019, section 4.2.
    """
    direction = None
    if sparsity is not None:
        if not isinstance(threat, L1) or not 0 < sparsity <= 1:
            raise ArgumentError(
                f"sparsity is a share of the coordinates in (0, 1], for an L1 threat; got {sparsity!r} and {threat!r}."
            )
        direction = partial(_sparse, sparsity)
    search = Steepest(
        steps, step, random_start=random_start, restarts=restarts, momentum=momentum, direction=direction
    )
    return Attack(threat, goals.named(goal), search, targets=targets)


@attacks.register
def fgsm(threat: Threat, targets: Targets = None) -> Attack:
    """Fast gradient (sign) method: one step of the whole radius from x, v = Π(x + ε d(∇_x loss)).

    Forwards a row: 1, 1 with a gradient, 1.

    Source: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", 2015, section 4.
    """
    return Attack(threat, goals.cross_entropy, _from_x(1), targets=targets)


@attacks.register
def iterative_fgsm(
    threat: Threat,
    steps: int = 10,
    step: float | None = None,
    project: bool = True,
    momentum: float = 0.0,
    targets: Targets = None,
) -> Attack:
    """Basic iterative method, from x: v ← Π(v + α d(∇_v loss)); with momentum m ← μ m + ∇/‖∇‖₁, v ← Π(v + α d(m)).

    step      by default ε/steps
    project   Π is the nearest point of ball ∩ box; without it of the box alone, the literal reading, which
              drifts up to steps·α away from x: `distance` of the result says how far
    momentum  μ, 1 as published. The gradient is normalised before it is accumulated, and the sum is not

    Forwards a row: 1, `steps` with a gradient, 1.

    Sources: Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", 2017, section 2.2; Dong et
    al., "Boosting adversarial attacks with momentum", 2018, eq. 6 and 7, whose step and number of steps these are.
    """
    return Attack(threat, goals.cross_entropy, _from_x(steps, step, momentum, project), targets=targets)


@attacks.register
def least_likely(threat: Threat) -> Attack:
    """One step of the whole radius towards the class t = argmin_{j≠y} z_j(x): v = Π(x + ε d(∇_x ln p_t)).

    Forwards a row: 1, 1 with a gradient, 1.

    Source: Kurakin, Goodfellow, Bengio, "Adversarial machine learning at scale", 2017, section 2.3.
    """
    return Attack(threat, goals.cross_entropy, _from_x(1), targets="least-likely")


@attacks.register
def iterative_least_likely(
    threat: Threat, steps: int = 10, step: float | None = None, recompute: bool = False
) -> Attack:
    """Steps towards the least likely class, v ← Π(v + α d(∇_v ln p_t)), from x; t = argmin_{j≠y} z_j(x).

    step       by default ε/steps
    recompute  t = argmin_{j≠y} z_j(v) anew at each step; t is then no target, and success is misclassification

    Forwards a row: 1, `steps` with a gradient, 1.

    Source: Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", 2017, section 2.3.
    """
    if recompute:
        return Attack(threat, goals.least_likely, _from_x(steps, step))
    return Attack(threat, goals.cross_entropy, _from_x(steps, step), targets="least-likely")


@attacks.register
def apgd(
    threat: Threat,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    goal: str | Goal = "cross_entropy",
    targets: Targets = None,
    widths: tuple[float, ...] = (),
) -> Attack:
    """Auto-PGD, from a random start: steps with momentum, of 2ε at first, halved where progress stalls.

    z = Π(v_k + η d(∇)), v_{k+1} = Π(v_k + ¾ (z − v_k) + ¼ (v_k − v_{k−1})); at checkpoints η ← η/2 and v ← the best
    point, if less than the share ρ of the steps since the last one raised the score, or if neither η nor the
    best score changed there. In the L1 ball: steps along a share of the coordinates that shrinks with the
    support of the best point, of ε at first; `rho` has no part in it.

    goal    as of `pgd`
    widths  of an L1 threat: parts of each walk stay in balls of these multiples of ε, (3, 2, 1) as published for L1

    Forwards a row: 1, at most restarts·(steps + 1) − 1 with a gradient, 1.

    Sources: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", 2020, algorithm 1; Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers", 2021, section 4.
    """
    if widths and not isinstance(threat, L1):
        raise ArgumentError(f"widths are for an L1 threat; got {widths!r} and {threat!r}.")
    sparse = isinstance(threat, L1)
    search = SparseAutoStep(steps, restarts, tuple(widths)) if sparse else AutoStep(steps, restarts, rho)
    return Attack(threat, goals.named(goal), search, targets=targets)


def _sparse(share: float, m: Tensor, v: Tensor, box: Box, length: Tensor) -> Tensor:
    return l1_sparse(m, v, box, share)


def _from_x(steps: int, step: float | None = None, momentum: float = 0.0, project: bool = True) -> Steepest:
    """From x, by default as far as the radius."""
    return Steepest(steps, step, reach=1.0, random_start=False, momentum=momentum, project=project)
