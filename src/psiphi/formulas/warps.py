"""Rotation, translation and scaling of images by bilinear interpolation, in pixels and radians."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, pad

Border = Callable[[Tensor, int], Tensor]


def turned(
    x: Float[Tensor, "b c h w"],
    angle: Float[Tensor, " b"],
    shift: Float[Tensor, "b 2"],
    scale: Float[Tensor, " b"],
    border: str = "zeros",
) -> Float[Tensor, "b c h w"]:
    """Images rotated and scaled about their centre, then shifted: v(p) = x(c + R(−θ)(p − c − s)/k).

    angle   θ in radians, anticlockwise as in `torch.rot90`
    shift   s in pixels: of rows, downwards, and of columns, to the right
    scale   k, above 1 to enlarge
    border  what lies beyond the edge, by name of `BORDERS`: zeros, the nearest pixel, or the mirrored image

    Between pixels bilinear, and differentiable in θ, s and k. Where c + R(−θ)(p − c − s)/k is a pixel, its value is
    returned bit for bit: so the identity and shifts by whole pixels are exact.
    """
    h, w = x.shape[2:]
    middle = (h - 1) / 2, (w - 1) / 2
    rows = torch.arange(h, dtype=x.dtype, device=x.device) - middle[0]
    columns = torch.arange(w, dtype=x.dtype, device=x.device) - middle[1]
    down = (rows - shift[:, :1]).unsqueeze(2) / scale.view(-1, 1, 1)
    right = (columns - shift[:, 1:]).unsqueeze(1) / scale.view(-1, 1, 1)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    outside = BORDERS[border]
    source_row = outside(cos * down + sin * right + middle[0], h)
    source_column = outside(cos * right - sin * down + middle[1], w)
    # On a canvas whose sides are powers of two, coordinates in [-1, 1] hold pixels without rounding.
    high, wide = (1 << (side - 1).bit_length() for side in (h, w))
    canvas = pad(x, (0, wide - w, 0, high - h))
    grid = torch.stack(((2 * source_column + 1) / wide - 1, (2 * source_row + 1) / high - 1), 3)
    return grid_sample(canvas, grid, "bilinear", "zeros", align_corners=False)


def _nearest(at: Tensor, side: int) -> Tensor:
    return at.clamp(0, side - 1)


def _mirrored(at: Tensor, side: int) -> Tensor:
    """Mirrored at the outer edges of the pixels, so that the outermost ones come twice."""
    return (side - ((at + 0.5).remainder(2 * side) - side).abs() - 0.5).clamp(0, side - 1)


BORDERS: dict[str, Border] = {
    "zeros": lambda at, side: at,
    "border": _nearest,
    "reflection": _mirrored,
}
