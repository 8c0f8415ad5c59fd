"""Images as positions and colours: a pixel is all channels of a position; of flat data (b, d), a coordinate."""

from __future__ import annotations

from math import prod

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from psiphi.formulas.geometry import Box


def grid(x: Shaped[Tensor, "b *x"]) -> tuple[int, tuple[int, ...]]:
    """The number of channels C, and the extents of the positions: of (b, C, H, W) these are (H, W), of (b, d) (d,)."""
    return (1, tuple(x.shape[1:])) if x.ndim == 2 else (x.shape[1], tuple(x.shape[2:]))


def flat(x: Shaped[Tensor, "b *x"]) -> Shaped[Tensor, "b c p"]:
    """x as colours of positions, P of them in reading order."""
    channels, extents = grid(x)
    return x.reshape(len(x), channels, prod(extents))


def walls(box: Box, x: Float[Tensor, "b *x"]) -> tuple[Float[Tensor, "c p"], Float[Tensor, "c p"]]:
    """The lowest and the highest colour at each position, for a box that is the same for all rows."""
    one = x.new_empty((1, *x.shape[1:]))
    lo, hi = (flat(torch.as_tensor(bound).to(one).expand_as(one))[0] for bound in box)
    return lo, hi


def changed(v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"]) -> Bool[Tensor, "b p"]:
    """Positions where v differs from x in a channel or more."""
    return flat(v != x).any(1)


def first(value: Float[Tensor, "b p"], k: Float[Tensor, " b"]) -> Bool[Tensor, "b p"]:
    """The k largest values of a row; of equals, the earlier ones."""
    place = value.argsort(dim=1, descending=True, stable=True)
    mine = torch.arange(value.shape[1], device=value.device) < k[:, None]
    return torch.zeros_like(mine).scatter_(1, place, mine)


def pixels_project(
    v: Float[Tensor, "b *x"], x: Float[Tensor, "b *x"], k: float | Float[Tensor, " b"], box: Box
) -> Float[Tensor, "b *x"]:
    """argmin ‖u − v‖₂ over the u of the box that differ from x, in the box, at k positions at most.

    At position p, u_p = clip(v_p) lessens ‖u − v‖² by ‖v_p − x_p‖² − ‖v_p − clip(v_p)‖² ≥ 0 over u_p = x_p, so the k
    largest of these are taken.

    Source: Croce, Hein, "Sparse and imperceivable adversarial attacks", 2019, PGD₀.
    """
    nearest = box.clamp(v)
    gain = flat((v - x).square() - (v - nearest).square()).sum(1)
    kept = first(gain, torch.as_tensor(k, dtype=x.dtype, device=x.device).expand(len(x)))
    return torch.where(kept[:, None], flat(nearest), flat(x)).view_as(x)


def painted(
    x: Float[Tensor, "n *x"],
    place: Int[Tensor, "n k"],
    colour: Float[Tensor, "n k c"],
    k: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n *x"]:
    """x with these colours at these positions, the later over the earlier; of each row the first k alone, if given."""
    out = flat(x).clone()
    for slot in range(place.shape[1]):
        where = place[:, slot, None, None].expand(-1, out.shape[1], 1)
        paint = colour[:, slot, :, None]
        if k is not None:
            paint = torch.where((slot < k)[:, None, None], paint, out.gather(2, where))
        out.scatter_(2, where, paint)
    return out.view_as(x)
