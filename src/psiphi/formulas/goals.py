"""What an attack wants: scores to raise, one a sample, and when it has succeeded.

All take logits (b, K), labels `y` (b,) and, for a targeted attack, classes `target` (b,) to reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from psiphi.basis.errors import ArgumentError

Logits = Float[Tensor, "b k"]
Labels = Int[Tensor, " b"]


@dataclass(frozen=True, repr=False)
class Relative:
    """A goal that compares logits with those of the clean input: score(logits (b, K), clean (b, K)) -> (b,)."""

    score: Callable[[Tensor, Tensor], Tensor]

    def __repr__(self) -> str:
        return self.score.__name__


Goal = Callable[[Tensor, Tensor, Tensor | None], Tensor] | Relative

_RELATIVE = 1e-5 / torch.finfo(torch.float32).eps


def _pick(logits: Tensor, label: Tensor) -> Tensor:
    return logits.gather(1, label.unsqueeze(1)).squeeze(1)


def _others(logits: Tensor, label: Tensor) -> Tensor:
    return logits.scatter(1, label.unsqueeze(1), -torch.inf)


def cross_entropy(logits: Logits, y: Labels, target: Labels | None = None) -> Float[Tensor, " b"]:
    """Cross-entropy: −ln p_y untargeted, ln p_t targeted.

    −ln p_y = ln(1 + e^s), s = ln Σ_{j≠y} e^{z_j} − z_y: this form keeps the gradient's direction where
    1 − p_y is below the rounding of p_y, and the usual one gives zero.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, section 2.1.
    """
    label = y if target is None else target
    s = _others(logits, label).logsumexp(1) - _pick(logits, label)
    loss = torch.nn.functional.softplus(s)
    return loss if target is None else -loss


def margin(logits: Logits, y: Labels, target: Labels | None = None) -> Float[Tensor, " b"]:
    """Margin: max_{j≠y} z_j − z_y untargeted, z_t − max_{j≠t} z_j targeted; positive once the goal holds.

    Source: Carlini, Wagner, "Towards evaluating the robustness of neural networks", 2017, f_6 in section V.
    """
    label = y if target is None else target
    gap = _others(logits, label).amax(1) - _pick(logits, label)
    return gap if target is None else -gap


def dlr(logits: Logits, y: Labels, target: Labels | None = None) -> Float[Tensor, " b"]:
    """Difference-of-logits ratio, unchanged when logits are shifted or scaled.

    Untargeted (max_{j≠y} z_j − z_y)/(z_π1 − z_π3), targeted (z_t − z_y)/(z_π1 − ½(z_π3 + z_π4)), z_π
    the logits in falling order. K = 2, and K = 3 targeted, have no such ratio: the margin.

    Source: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", 2020, eq. 6 and 7.
    """
    classes = logits.shape[1]
    if classes == 2 or (classes == 3 and target is not None):
        return margin(logits, y, target)
    top = logits.topk(min(classes, 4), dim=1).values
    if target is None:
        return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)
    return (_pick(logits, target) - _pick(logits, y)) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def least_likely(logits: Logits, y: Labels, target: Labels | None = None) -> Float[Tensor, " b"]:
    """ln p_t of the class t = argmin_{j≠y} z_j that is the least likely at these very logits; `target` is not read.

    Source: Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", 2017, section 2.3.
    """
    return cross_entropy(logits, y, logits.scatter(1, y.unsqueeze(1), torch.inf).argmin(1))


def kl(logits: Logits, clean: Logits) -> Float[Tensor, " b"]:
    """KL(p(x) ‖ p(x')) = Σ_k p_k (ln p_k − ln p'_k), p the softmax of the clean logits, p' that of these: no label.

    Source: Zhang et al., "Theoretically principled trade-off between robustness and accuracy", 2019, eq. 5; Miyato
    et al., "Virtual adversarial training", 2019, eq. 5.
    """
    own, other = clean.log_softmax(1), logits.log_softmax(1)
    return (own.exp() * (own - other)).sum(1)


def accepted(logits: Float[Tensor, "b k1"], y: Labels) -> Logits:
    """Logits without the last, a refusal r, which counts for the label: z_y ← max(z_y, r), the others as they are.

    A margin of them is positive where the answer is wrong and not refused.
    """
    answers, label = logits[:, :-1], y.unsqueeze(1)
    return answers.scatter(1, label, torch.maximum(answers.gather(1, label), logits[:, -1:]))


def tolerance(logits: Logits) -> Float[Tensor, " b"]:
    """The margin that rounding could make: max(1e-5 max_j |z_j|, tiny), the 1e-5 scaled with the dtype."""
    kind = torch.finfo(logits.dtype)
    return (_RELATIVE * kind.eps * logits.abs().amax(1)).clamp_min(kind.tiny)


def succeeded(logits: Logits, y: Labels, target: Labels | None = None) -> Bool[Tensor, " b"]:
    """The goal holds by more than rounding: margin > tolerance, strictly."""
    return margin(logits, y, target) > tolerance(logits)


def above(score: Float[Tensor, " b"], other: Float[Tensor, " b"]) -> Bool[Tensor, " b"]:
    """score > other by more than rounding, 64 units in the last place: noise of what has converged is no progress."""
    return score > other + 64 * torch.finfo(score.dtype).eps * other.abs().nan_to_num(posinf=0.0)


def standing(
    logits: Logits, y: Labels, target: Labels | None = None, confidence: float = 0.0
) -> Int[Tensor, " b"]:
    """2 where the goal has succeeded, margin > κ + tolerance, 1 where 0 ≤ margin ≤ κ + tolerance, 0 elsewhere.

    confidence: κ, in logits; with κ = 0, 1 means undecided.
    """
    gap = margin(logits, y, target)
    return (gap >= 0).long() + (gap > tolerance(logits) + confidence).long()


def gaps(
    logits: Logits, y: Labels, target: Labels | None = None, rivals: int | None = None
) -> Float[Tensor, "b r"]:
    """Values any one of which is positive once the goal holds.

    Untargeted z_j − z_y for the j ≠ y, or the `rivals` of them with the largest z_j; targeted the one margin
    z_t − max_{j≠t} z_j.
    """
    if target is not None:
        return margin(logits, y, target).unsqueeze(1)
    count = logits.shape[1] - 1 if rivals is None else min(rivals, logits.shape[1] - 1)
    others = _others(logits, y).topk(count, dim=1).values
    return others - _pick(logits, y).unsqueeze(1)


GOALS: dict[str, Goal] = {each.__name__: each for each in (cross_entropy, margin, dlr)} | {"kl": Relative(kl)}


def named(goal: str | Goal) -> Goal:
    """The goal of this name; a function (logits, y, target) -> scores (b,), or a `Relative`, is itself."""
    if isinstance(goal, str) and goal in GOALS:
        return GOALS[goal]
    if callable(goal) or isinstance(goal, Relative):
        return goal
    raise ArgumentError(
        f"no goal is called {goal!r}; give {', '.join(GOALS)}, or a function (logits, y, target) -> scores."
    )
