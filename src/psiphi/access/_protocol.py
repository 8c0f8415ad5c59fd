"""What an access is to the engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from psiphi.access._ledger import Ledger
from psiphi.formulas.geometry import Box

Sees = Literal["labels", "scores", "gradient", "jacobian"]
Values = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reply:
    """What an access says of n points.

    said        logits (m, n, K), or labels (m, n), of m draws: 1, unless the classifier is random
    value       of the function asked for, its mean over the draws: (n,), or (n, R) beside a Jacobian
    gradient    of the value at the points: (n, *x), or (n, R, *x)
    """

    said: Tensor
    value: Tensor | None = None
    gradient: Tensor | None = None


class Access(Protocol):
    """What may be seen of a classifier, enforced. It owns the box, the normalisation, the randomness, the count.

    `rows` (n,) says which sample each point is of, for the count and the budget; None outside a session.
    """

    @property
    def sees(self) -> frozenset[Sees]:
        """What is shown of an answer."""
        ...

    @property
    def decides(self) -> bool:
        """Whether an answer during the search is a verdict: a row may leave on it."""
        ...

    @property
    def recorded(self) -> bool:
        """Whether an answer stands as it was given, so that no further query confirms it."""
        ...

    @property
    def budget(self) -> int | None:
        """How many rows of a sample one attack may send; None for any number."""
        ...

    @property
    def judging(self) -> int:
        """How many rows one verdict on a point costs."""
        ...

    @property
    def refusal(self) -> int | None:
        """The class, the last one, by which the classifier refuses to answer; None where it always answers."""
        ...

    @property
    def box(self) -> Box:
        """The walls of the data."""
        ...

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the model's device and in its dtype."""
        ...

    def session(self, x: Tensor, seed: int = 0) -> AbstractContextManager[Ledger]:
        """The model as it should be while it is attacked; exactly as it was on the way out."""
        ...

    def look(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What is said of the points, without a gradient."""
        ...

    def climb(self, points: Tensor, value: Values, rows: Tensor | None = None) -> Reply:
        """A value (n,) of the logits and its gradient: one pass."""
        ...

    def slopes(self, points: Tensor, values: Values, rows: Tensor | None = None) -> Reply:
        """Values (n, R) of the logits and the gradient of each: one pass forward, R back."""
        ...

    def verdict(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What is said of the points at last, on which success is judged."""
        ...

    def inspect(self, x: Tensor, said: Tensor) -> None:
        """Checks of the classifier on clean rows and what was said of them."""
        ...
