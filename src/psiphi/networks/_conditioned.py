"""A perceptron for denoising vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.basis.shapes import Shape
from psiphi.networks._embedding import Embedding, zero


class ConditionedMLP(nn.Module):
    """A perceptron told the noise level and the label: x (B, *shape), c (B,), y (B,) or None -> (B, *shape).

    Layer l is h + a((1 + s_l) W_l h + t_l), without the h where the widths differ; s_l and t_l are affine in the
    embedding of c and y. Inputs of at most four numbers also enter as sin ωx and cos ωx, ω = 1, 2, 4, 8: a
    perceptron alone is slow to learn modes much narrower than the data. The last layer starts at zero.
    hidden: widths of the hidden layers, at least one; x about of unit variance; c, y: as in `Embedding`.
    """

    OCTAVES, FEW, TOLD = 4, 4, 64
    frequencies: Tensor

    def __init__(
        self,
        shape: Shape,
        hidden: Sequence[int] = (256, 256, 256),
        activation: Callable[[], nn.Module] = nn.SiLU,
        classes: int = 0,
    ):
        super().__init__()
        if not hidden:
            raise ArgumentError("a denoising perceptron needs at least one hidden layer; got hidden = ().")
        size = prod(shape)
        octaves = self.OCTAVES if size <= self.FEW else 0
        self.register_buffer("frequencies", 2.0 ** torch.arange(octaves))
        widths = [size * (1 + 2 * octaves), *hidden]
        self.embedding = Embedding(self.TOLD, classes)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.films = nn.ModuleList(nn.Linear(self.TOLD, 2 * after) for after in hidden)
        self.activations = nn.ModuleList(activation() for _ in hidden)
        self.last = zero(nn.Linear(hidden[-1], size))

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        e = self.embedding(c, y)
        h = x.flatten(1)
        if len(self.frequencies):
            angle = (h[:, :, None] * self.frequencies).flatten(1)
            h = torch.cat([h, angle.sin(), angle.cos()], 1)
        for layer, film, activation in zip(self.layers, self.films, self.activations, strict=True):
            scale, shift = film(e).chunk(2, 1)
            new = activation(torch.addcmul(shift, layer(h), 1 + scale))
            h = h + new if h.shape == new.shape else new
        return self.last(h).view_as(x)
