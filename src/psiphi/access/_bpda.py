"""A step without a useful gradient, with the gradient of another in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psiphi.basis.errors import AccessError, ArgumentError
from psiphi.basis.shapes import show


def bpda(forward: Callable[[Tensor], Any], backward: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """A module with the values of one function and the derivative of another: y = f(x), ∂y/∂x := ∂b/∂x.

    `forward` f may round, draw, or leave torch (it then returns an array); no gradient runs through it. `backward` b is
    a differentiable stand-in of the same shape, by default the identity, for a step that keeps x about as it is. Put it
    in front of the classifier, `white_box(nn.Sequential(bpda(quantise), classifier))`, and within `expectation` where f
    draws. Modules among f and b keep their parameters, modes and devices. Raises `AccessError` where the shapes differ.

    Source: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 4.1.
    """
    for name, value in (("forward", forward), ("backward", backward)):
        if not callable(value) and not (name == "backward" and value is None):
            raise ArgumentError(f"{name} is a module or a function of x; got {type(value).__name__}.")
    return _Swapped(forward, backward)


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Swapped(nn.Module):
    """See `bpda`."""

    def __init__(self, value: Callable[[Tensor], Any], slope: Callable[[Tensor], Tensor] | None):
        super().__init__()
        self.value, self.slope = value, slope

    def extra_repr(self) -> str:
        return ", ".join(
            getattr(each, "__name__", "") for each in (self.value, self.slope) if hasattr(each, "__name__")
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            value = self.value(x.detach().clone())
        if not isinstance(value, Tensor):
            value = torch.as_tensor(np.asarray(value))
        value = value.detach().to(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        slope = x if self.slope is None else self.slope(x)
        if slope.shape != value.shape:
            who = "x has, whose gradient is passed on," if self.slope is None else "backward gives"
            raise AccessError(
                f"bpda: forward gives shape {show(value.shape)}, {who} {show(slope.shape)}; the same is needed: give a "
                "differentiable backward with the shape of forward."
            )
        return _Swap.apply(slope, value)  # pyright: ignore[reportReturnType]
