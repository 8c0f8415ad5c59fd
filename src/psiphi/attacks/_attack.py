"""An attack as a value: threat × goal × search; the access is handed in with the classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from psiphi.access import WhiteBox, white_box
from psiphi.attacks import engine
from psiphi.attacks._protocols import Search, Threat
from psiphi.attacks._result import Result
from psiphi.formulas.goals import Goal

Kind = Literal["fixed-perturbation", "minimum-norm"]


@dataclass(frozen=True, repr=False)
class Attack:
    """What may change (threat), what to reach (goal, a score to raise), how to move (search)."""

    threat: Threat
    goal: Goal
    search: Search
    kind: Kind = "fixed-perturbation"

    def __call__(
        self,
        classifier: Callable[[Tensor], Tensor] | WhiteBox,
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
        """Attack the rows of `x` (B, *x).

        `classifier` is an access, or a module or function that returns logits (B, K). `y` (B,) are the
        true labels, by default the classifier's own answers; `target` (B,) or one integer are classes to
        reach, instead of any but `y`. Row i depends on (`seed`, i) alone, not on `batch_size`; `rows` gives
        the i of each row where `x` is a part of a larger batch. `stop_early` lets a row leave once its goal
        holds; without it every row, the already misclassified too, takes all its steps (adversarial
        training). `batch_size` is by default 64 on a CPU, where caches are small, and 512 elsewhere.
        `on_progress(finished, of)` is called as rows leave.

        The classifier is left as it was found: parameters, gradients, buffers, modes, random state.
        Raises `AccessError`, `DataError`, `ShapeError`, `ArgumentError`.
        """
        return engine.run(
            self,
            white_box(classifier),
            x,
            y,
            target,
            seed=seed,
            batch_size=batch_size,
            stop_early=stop_early,
            on_progress=on_progress,
            rows=rows,
        )

    def __repr__(self) -> str:
        recipe = getattr(self, "recipe", None)
        if recipe is None:
            goal = getattr(self.goal, "__name__", repr(self.goal))
            return f"Attack({self.threat!r}, goal={goal}, search={self.search!r}, kind={self.kind!r})"
        threat, *rest = recipe["arguments"].items()
        said = [repr(threat[1]), *(f"{name}={value!r}" for name, value in rest if value is not None)]
        return f"{recipe['attack']}({', '.join(said)})"
