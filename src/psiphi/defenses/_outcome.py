"""What becomes of rows where a classifier may also keep its answer back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.formulas.intervals import Share


@dataclass(frozen=True)
class Outcome:
    """Shares of rows that are answered rightly, answered wrongly, and not answered; each with its interval.

    An attack has broken what is answered wrongly; what is withheld counts neither as broken nor as right.
    """

    right: Share
    wrong: Share
    withheld: Share

    @staticmethod
    def of(answer: Tensor, y: Any) -> Outcome:
        """Of answers (n,), −1 where there is none, and labels (n,), none missing. Raises `DataError`, `ShapeError`."""
        answer, y = answer.cpu(), checks.as_labels(y, len(answer)).cpu()
        n, withheld = len(y), answer == -1
        right = (answer == y) & ~withheld
        return Outcome(*(Share(int(rows.sum()), n) for rows in (right, ~right & ~withheld, withheld)))

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).as_dict() for name in ("right", "wrong", "withheld")}

    def __str__(self) -> str:
        return f"right {self.right}, wrong {self.wrong}, withheld {self.withheld}"
