"""The named minimum-norm attacks: the least change that reaches the goal."""

from __future__ import annotations

from psiphi.attacks._attack import Attack
from psiphi.attacks._protocols import Threat
from psiphi.attacks._targets import Targets
from psiphi.attacks.searches import Bounce, Crossing, Lagrangian, Sphere
from psiphi.attacks.threats import L2, Linf
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks
from psiphi.formulas.goals import cross_entropy, margin

_L2, _LINF = L2(), Linf()  # without a radius


@attacks.register
def carlini_wagner(
    steps: int = 1000,
    bisections: int = 9,
    lr: float = 0.1,
    initial_c: float = 10.0,
    confidence: float = 0.0,
    decay: float = 0.6,
    patience: int = 40,
    warm: bool = True,
    targets: Targets = None,
) -> Attack:
    """Carlini and Wagner's L2 attack: min ‖δ‖² + c·max(κ − margin, 0), x + δ in a tanh chart of the box.

    The margin is max_{j≠y} Z_j − Z_y, of logits Z, or Z_t − max_{j≠t} Z_j for a target t; the least c that works is
    found by bisection. At most `bisections` rounds of at most `steps` steps of Adam with rate lr·decay^round; a round
    ends when its loss has not fallen for `patience` steps. confidence: κ, in logits. `warm` rounds begin at the
    nearest point so far, the first of which lies on the nearest boundary, linearised at x, with the c at which that
    point would be at rest; they reach smaller distances in a tenth of the steps. The published schedule, every
    round from x and c by bisection alone, is
    `carlini_wagner(lr=0.01, initial_c=1e-3, decay=1, patience=100, warm=False)`.

    Costs a row: 1 forward for the clean check, a forward and at most 9 backwards to linearise (warm), 1 with a
    gradient a step, 1 to verify.

    Source: Carlini, Wagner, "Towards evaluating the robustness of neural networks", 2017, sections V and VI.A.
    """
    search = Lagrangian(steps, bisections, lr, initial_c, confidence, decay, patience, warm)
    return Attack(L2(), margin, search, "minimum-norm", targets, confidence)


@attacks.register
def deepfool(
    threat: Threat = _L2,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int | None = 10,
    targets: Targets = None,
) -> Attack:
    """DeepFool: from boundary to linearised boundary, v = x + (1 + η) Σ_i δ_i, until v is on the other side.

    δ_i is the least change onto the nearest of the planes gap_j(v_i) + ⟨∇gap_j(v_i), δ⟩ = 0, gap_j = Z_j − Z_y, in the
    threat's norm *and* in the box; where no wall is in the way, L2's is |gap_j| ∇gap_j/‖∇gap_j‖₂², and the nearest
    the j of the least |gap_j|/‖∇gap_j‖ in the dual norm. overshoot: η, a share. candidates: classes looked at, the
    label and the most likely others (None: all). Fast, but not the nearest: `fab` and `ddn` go on where it ends.

    Costs a row: 1 forward for the clean check; a forward and candidates − 1 backwards (1 if targeted) for each of at
    most `steps` linearisations and for the point that succeeds; 1 forward to verify.

    Source: Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: a simple and accurate method to fool deep neural networks",
    2016, algorithm 2 and section 3.3.
    """
    rivals = None if candidates is None else check_whole("candidates", candidates, 2) - 1
    return Attack(threat, margin, Crossing(steps, overshoot, rivals), "minimum-norm", targets)


@attacks.register
def ddn(
    steps: int = 100,
    init: float | None = None,
    gamma: float = 0.05,
    targets: Targets = None,
    threat: Threat = _L2,
) -> Attack:
    """Decoupled direction and norm: ascent of the cross-entropy on a sphere that shrinks and grows.

    δ ← δ + α g/‖g‖₂, scaled to the norm ε and clipped to the box; ε ← (1 − γ) ε after a success, else (1 + γ) ε.
    init: ε at first, in the data's units; None begins on the nearest of the boundaries, linearised at x, for one
    forward and at most 9 backwards. Published is init = 1, γ = 0.05 throughout, α from 1 to 0.01 by a cosine over all
    steps. Here α falls from 2 to 0.02 and γ from 4 to 0.1 times `gamma` over 0.35 of the steps, counted from where a
    row first crosses the boundary (while it stays on one side, ε takes up to four steps at once); it leaves as soon as
    it stops improving: a smaller norm for less than half of the gradients. Values are not rounded to levels.

    Costs a row: 1 forward for the clean check, at most `steps` with a gradient, 1 for the last point, and 1 to verify
    unless that was the best.

    Source: Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
    defenses", 2019, algorithm 1.
    """
    if not isinstance(threat, L2):
        raise ArgumentError(f"ddn minimises the L2 norm: threat is L2() or L2(radius); got {threat!r}.")
    return Attack(threat, cross_entropy, Sphere(steps, init, gamma), "minimum-norm", targets)


@attacks.register
def fab(
    threat: Threat = _LINF,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    targets: Targets = None,
) -> Attack:
    """Fast adaptive boundary attack: onto the linearised boundary, biased towards x, and back inside when across.

    v ← clip((1 − α)(v + η δ_v) + α(x + η δ_x)), δ_v and δ_x the least changes of v and of x, in the norm and the box,
    onto the nearest boundary linearised at v; α = min(‖δ_v‖/(‖δ_v‖ + ‖δ_x‖), alpha_max). A success goes back first,
    v ← x + β(v − x), and keeps its plane, where the paper linearises again there: half the passes. Each further of
    `restarts` begins at a random point within half the least distance so far. The last search looks at three points of
    the segment from the best success to x at once. `targets="all"` attacks each class in turn (FAB-T).

    Costs a row: 1 forward for the clean check; a forward and K − 1 backwards (1 if targeted) a step; 3 forwards for the
    last search, or 1 for the last point without a success; 1 to verify a success that is not of the last search.

    Source: Croce, Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", 2020,
    algorithm 1; "Reliable evaluation of adversarial robustness", 2020, section 5 (FAB-T).
    """
    return Attack(threat, margin, Bounce(steps, restarts, alpha_max, eta, beta), "minimum-norm", targets)
