"""Convolutional encoder and decoder for any image size and any number of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from psiphi.basis.errors import ShapeError
from psiphi.basis.shapes import Shape, show


def _sizes(shape: Shape, channels: Sequence[int]) -> list[Shape]:
    """The image's shape before each stride-2 stage, and after the last: (C, H, W) -> (c, ⌈H/2⌉, ⌈W/2⌉)."""
    if len(shape) != 3:
        raise ShapeError(
            f"a convolutional network needs images (channels, height, width); the data have {show(shape)}: "
            f"use net='mlp' or reshape."
        )
    sizes = [shape]
    for width in channels:
        _, height, breadth = sizes[-1]
        sizes.append((width, (height + 1) // 2, (breadth + 1) // 2))
    return sizes


class ConvEncoder(nn.Module):
    """Stride-2 convolutions, then an affine map: (B, C, H, W) -> (B, *shape_out)."""

    def __init__(
        self,
        shape_in: Shape,
        shape_out: Shape,
        channels: Sequence[int] = (32, 64),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.shape_out = shape_out
        sizes = _sizes(shape_in, channels)
        layers: list[nn.Module] = []
        for (before, *_), (after, *_) in pairwise(sizes):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), activation()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(prod(sizes[-1]), prod(shape_out)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).unflatten(1, self.shape_out)


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: (B, *shape_in) -> (B, C, H, W), odd sizes included."""

    def __init__(
        self,
        shape_in: Shape,
        shape_out: Shape,
        channels: Sequence[int] = (32, 64),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        sizes = _sizes(shape_out, channels)[::-1]
        layers: list[nn.Module] = [
            nn.Linear(prod(shape_in), prod(sizes[0])),
            nn.Unflatten(1, sizes[0]),
        ]
        for before, after in pairwise(sizes):
            extra = (1 - after[1] % 2, 1 - after[2] % 2)
            up = nn.ConvTranspose2d(before[0], after[0], 3, stride=2, padding=1, output_padding=extra)
            layers += [activation(), up]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z.flatten(1))
