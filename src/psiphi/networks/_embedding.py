"""What a denoising network is told besides its input: the noise level and the label."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Affine = TypeVar("Affine", nn.Linear, nn.Conv2d)


def zero(layer: Affine) -> Affine:
    """The layer, its weights and biases set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Embedding(nn.Module):
    """Noise level and label as one vector: c (B,), y (B,) int64 or None -> (B, width).

    c: any finite real, e.g. ln σ / 4; it enters as sin ωc and cos ωc with ω in a geometric series from 1/8, which
    tells all of [-10, 10] apart, to 16. y: 0..classes − 1, or −1 for no label, whose embedding is a row of its own;
    None is −1 everywhere. With classes = 0 labels are ignored.
    """

    frequencies: Tensor

    def __init__(self, width: int, classes: int = 0, features: int = 32):
        super().__init__()
        self.classes = classes
        self.register_buffer("frequencies", 2.0 ** torch.linspace(-3, 4, features // 2))
        self.level = nn.Linear(features // 2 * 2, width)
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, c: Tensor, y: Tensor | None = None) -> Tensor:
        angle = c[:, None] * self.frequencies
        out = self.level(torch.cat([angle.sin(), angle.cos()], 1))
        if self.label is not None:
            if y is None:
                out = out + self.label.weight[self.classes]
            else:
                out = out + self.label(torch.where(y < 0, self.classes, y))
        return self.mix(out)
