"""Single layers."""

from __future__ import annotations

from torch import Tensor, nn


class Maxout(nn.Module):
    """The largest of `pieces` affine maps, unit by unit: (B, n) -> (B, m).

    Source: Goodfellow et al., "Maxout networks", 2013, eq. 1.
    """

    def __init__(self, width_in: int, width_out: int, pieces: int = 5):
        super().__init__()
        self.pieces, self.affine = pieces, nn.Linear(width_in, pieces * width_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.affine(x).unflatten(1, (-1, self.pieces)).max(2).values


class First(nn.Module):
    """The first k numbers of a vector: (B, n) -> (B, k)."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.count]
