"""Windows of an image in a random search: how large they are as queries are spent, and what is put into them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

FALLS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def level(i: Int[Tensor, " b"], queries: int) -> Int[Tensor, " b"]:
    """How often p has been halved at window i = 0, 1, …: once at each of `FALLS` that ⌊10 000 i/queries⌋ has passed.

    Source: Andriushchenko, Croce, Flammarion, Hein, "Square Attack", 2020, supplement, and its code, which halves at
    500 as well.
    """
    falls = torch.tensor(FALLS, device=i.device)
    return torch.bucketize(i * 10_000 // queries, falls)


def sides(p: float, height: int, width: int, odd: bool = False) -> tuple[int, int]:
    """Height and width of a window over the share p of an image: s × s, s = round √(p·height·width), at least 1.

    odd: at least 3, and the next odd number. What a side of the image cuts off goes into the other one, so that an
    image of one row has windows of p·width.
    """
    short, long = sorted((height, width))
    side = _odd(round((p * height * width) ** 0.5), odd)
    if side <= short:
        return side, side
    side = min(long, max(short, _odd(round(p * long), odd)))
    return (short, side) if height <= width else (side, short)


def _odd(side: int, odd: bool) -> int:
    return max(side, 3) // 2 * 2 + 1 if odd else max(side, 1)


def bump(height: int, width: int, q: int) -> Float[Tensor, "h w"]:
    """η_ij ∝ Σ_{k=r+1..K} k^(−4/q), r = max(|i − ⌊h/2⌋|, |j − ⌊w/2⌋|), K = ⌊max(h, w)/2⌋ + 1, and ‖η‖_q = 1.

    In float64.

    Source: Andriushchenko, Croce, Flammarion, Hein, "Square Attack", 2020, eq. 3; of q = 1, the code of Croce, Hein,
    "Mind the box", 2021.
    """
    k = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.double)
    tail = k.pow(-4 / q).flip(0).cumsum(0).flip(0)
    i, j = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    eta = tail[torch.maximum(i[:, None], j[None, :])]
    return eta / torch.linalg.vector_norm(eta, q)


def lobes(height: int, width: int, q: int) -> Float[Tensor, "2 h w"]:
    """A bump over one half and minus one over the other, ‖·‖_q = 1: one above the other, and side by side."""

    def halves(height: int, width: int) -> Tensor:
        above = height // 2
        top = [bump(above, width, q)] if above else []
        return torch.cat([*top, -bump(height - above, width, q)])

    both = torch.stack((halves(height, width), halves(width, height).T))
    return both / torch.linalg.vector_norm(both, q, dim=(1, 2), keepdim=True)
