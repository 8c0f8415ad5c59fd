"""An attack as a value: threat × goal × search; the access is handed in with the classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

from psiphi.access import Access, white_box
from psiphi.attacks import _calls, _curve
from psiphi.attacks._protocols import Search, Threat, check_pair
from psiphi.attacks._result import Result
from psiphi.attacks._targets import Targets, as_target, check_targets
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.goals import Goal

Kind = Literal["fixed-perturbation", "minimum-norm"]


@dataclass(frozen=True, repr=False)
class Attack:
    """What may change (threat), what to reach (goal, a score to raise), how to move (search).

    targets: classes to reach where the call names none: "least-likely" and "random" ones, a function
    (logits (n, K), y (n,)) -> classes (n,), "all" for the best over every other class, None for any but the label.
    confidence: the margin, of logits, by which the goal must hold.
    """

    threat: Threat
    goal: Goal
    search: Search
    kind: Kind = "fixed-perturbation"
    targets: Targets = None
    confidence: float = 0.0

    def __post_init__(self) -> None:
        check_targets(self.targets)
        check_pair(self.threat, self.search)
        if not 0 <= self.confidence < float("inf"):
            raise ArgumentError(f"confidence is a finite margin of at least 0; got {self.confidence!r}.")

    def __call__(
        self,
        classifier: Callable[[Tensor], Tensor] | Access,
        x: Any,
        y: Any = None,
        *,
        target: Any = None,
        seed: int = 0,
        batch_size: int | None = None,
        stop_early: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
        rows: range | Tensor | None = None,
    ) -> Result:
        """Attack the rows of `x` (B, *x), an array, a tensor, or batches (x, y) such as a DataLoader's.

        `classifier` is an access, or a module or function that returns logits (B, K). `y` (B,) are the
        true labels, by default the classifier's own answers; `target` (B,) or one integer are classes to
        reach, instead of any but `y`, or a name of `targets`. Row i depends on (`seed`, i) alone, not on
        `batch_size`; `rows` gives the i of each row where `x` is a part of a larger batch. `stop_early` lets a row
        leave once its goal holds; without it every row, the already misclassified too, takes all its steps
        (adversarial training). `batch_size` is by default 96 on a CPU, where caches are small, up to 1024 there for
        small rows that are only asked about, and 512 elsewhere.
        `on_progress(finished, of)` is called as rows leave.

        The classifier is left as it was found: parameters, gradients, buffers, modes, random state.
        Raises `AccessError`, `DataError`, `ShapeError`, `ArgumentError`.
        """
        how = {"seed": seed, "batch_size": batch_size, "stop_early": stop_early, "on_progress": on_progress}
        chosen = self.targets if target is None else as_target(target)
        return _calls.attack(self, white_box(classifier), x, y, chosen, rows, how)

    def curve(
        self,
        classifier: Callable[[Tensor], Tensor] | Access,
        x: Any,
        y: Any = None,
        *,
        eps: Sequence[float],
        independent: bool = False,
        **how: Any,
    ) -> _curve.Curve:
        """Robust accuracy at each radius of `eps`, in the threat's norm.

        By bisection: each sample is attacked at ⌈log2(m + 1)⌉ of the m radii, which takes a sample that breaks at a
        radius to break at every larger one; `independent` attacks each sample at each radius instead. Of a
        minimum-norm attack, one run gives all. A step of the attack that is given in the data's units stays as it
        is at every radius. `how` goes to the attack.
        """
        return _curve.curve(self, white_box(classifier), x, y, eps, independent, how)

    def __repr__(self) -> str:
        recipe = getattr(self, "recipe", None)
        told = (
            {f.name: getattr(self, f.name) for f in fields(self)} if recipe is None else recipe["arguments"]
        )
        told = {name: _said(value) for name, value in told.items() if value is not None}
        threat = [told.pop("threat")] if "threat" in told else []
        name = "Attack" if recipe is None else recipe["attack"]
        return f"{name}({', '.join(threat + [f'{key}={value}' for key, value in told.items()])})"


def _said(value: Any) -> str:
    """A function by its name, since its address would differ from run to run; a tensor by its shape."""
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    return value.__name__ if inspect.isfunction(value) else repr(value)
