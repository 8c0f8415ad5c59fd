from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.shapes import Shape


class MLP(nn.Module):
    """A multi-layer perceptron between any two shapes: (B, *shape_in) -> (B, *shape_out).

    hidden: widths of the hidden layers; `()` is an affine map.
    """

    def __init__(
        self,
        shape_in: Shape,
        shape_out: Shape,
        hidden: Sequence[int] = (256,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.shape_in, self.shape_out = shape_in, shape_out
        widths = [prod(shape_in), *hidden, prod(shape_out)]
        layers: list[nn.Module] = []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # codes of dimension 0
            for before, after in pairwise(widths):
                layers += [nn.Linear(before, after), activation()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x.flatten(1))
        return out if len(self.shape_out) == 1 else out.view(len(out), *self.shape_out)


class Transposed(nn.Module):
    """An MLP run backwards with tied weights: W becomes Wᵀ; the biases are its own.

    The forward network is referred to, not registered: its weights are its owner's.
    """

    def __init__(self, forwards: MLP):
        super().__init__()
        self.__dict__["forwards"] = forwards
        linear = [layer for layer in forwards.layers if isinstance(layer, nn.Linear)]
        activations = [layer for layer in forwards.layers if not isinstance(layer, nn.Linear)]
        self.biases = nn.ParameterList(linear[0].weight.new_zeros(w.in_features) for w in reversed(linear))
        self.activations = nn.ModuleList(reversed(activations))

    def forward(self, z: Tensor) -> Tensor:
        forwards: MLP = self.__dict__["forwards"]
        linear = [layer for layer in forwards.layers if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(reversed(linear)):
            z = F.linear(z, layer.weight.T, self.biases[i])
            if i < len(self.activations):
                z = self.activations[i](z)
        return z.view(len(z), *forwards.shape_in)
