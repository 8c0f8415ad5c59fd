from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

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
        self.shape_out = shape_out
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
