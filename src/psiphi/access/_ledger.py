"""Every row that is sent counts, for its sample; a budget stops the next one."""

from __future__ import annotations

import torch
from torch import Tensor

from psiphi.basis.errors import BudgetError


class Ledger:
    """Rows sent forward and back for each of n samples; `budget` bounds the former, None for no bound."""

    def __init__(self, n: int, device: torch.device | str = "cpu", budget: int | None = None):
        self.forwards = torch.zeros(n, dtype=torch.long, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.budget = budget

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
        """How often each sample may still be sent, (n,); None without a budget."""
        return None if self.budget is None else self.budget - self.forwards[rows]
