from __future__ import annotations

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError


class TopK(nn.Module):
    """The k entries of a row with the largest |h|, zero elsewhere; the gradient flows there alone.

    Of equal entries the lowest indices are kept. alpha: in eval mode α k of them (rounded, at most all); signed: of
    either sign, else the k largest h.
    Source: Makhzani & Frey, "k-sparse autoencoders", 2014, algorithm 1.
    """

    def __init__(self, k: int, alpha: float = 1.0, signed: bool = True):
        super().__init__()
        if k < 1 or round(alpha * k) < 1:
            raise ArgumentError(f"k-sparse codes keep at least one number; got k = {k}, α = {alpha:g}.")
        self.k, self.alpha, self.signed = k, alpha, signed

    def forward(self, h: Tensor) -> Tensor:
        k = min(self.k if self.training else round(self.alpha * self.k), h.shape[1])
        size = h.detach().abs() if self.signed else h.detach()
        least = size.topk(k, 1).values[:, -1:]
        above, ties = size > least, size == least
        spare = k - above.sum(1, keepdim=True)
        return torch.where(above | (ties & (ties.cumsum(1) <= spare)), h, 0)
