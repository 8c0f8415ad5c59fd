"""Every row that is sent counts, for its sample; a budget stops the next one."""

from __future__ import annotations

import torch
from torch import Tensor

from psiphi.basis.errors import BudgetError


class Ledger:
    """Rows sent forward and back for each of n samples; `budget` bounds the former, None for no bound.

    price   what a point of the search costs in rows: several where it is sent more than once, 0 where it is not sent
    kept    rows a sample that the search may not spend: those of the last verdict
    """

    def __init__(self, n: int, device: torch.device | str = "cpu", budget: int | None = None):
        self.forwards = torch.zeros(n, dtype=torch.long, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.budget, self.price, self.kept = budget, 1, 0

    def charge(self, rows: Tensor, forwards: int = 1, backwards: int = 0) -> None:
        """Before rows are sent. Raises `BudgetError` where they would pass the budget: nothing is sent then."""
        added = torch.zeros_like(self.forwards).index_add_(0, rows, torch.ones_like(rows))
        total = self.forwards + forwards * added
        if self.budget is not None and (beyond := total > self.budget).any():
            raise BudgetError(
                f"{int(beyond.sum())} samples would be sent more than {self.budget} times: give a larger budget, "
                "or an attack that asks less."
            )
        self.forwards, self.backwards = total, self.backwards + backwards * added

    def left(self, rows: Tensor) -> Tensor | None:
        """How many points of each sample the search may still ask about, (n,); None for any number."""
        if self.budget is None or not self.price:
            return None
        return (self.budget - self.kept - self.forwards[rows]).clamp_min(0) // self.price
