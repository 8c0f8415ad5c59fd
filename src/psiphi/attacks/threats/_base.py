"""What threats share: a radius, one or one a row; inputs as their own chart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.shapes import show
from psiphi.formulas.geometry import Box

T = TypeVar("T", bound="Sized")


@dataclass(frozen=True)
class Sized:
    """A radius: one for all rows, or one a row, (b,); infinite if not given."""

    eps: float | Tensor = inf

    def __post_init__(self) -> None:
        eps = self.eps
        if not isinstance(eps, Tensor):
            try:
                eps = float(eps)
            except (TypeError, ValueError):
                raise ArgumentError(
                    f"{type(self).__name__} needs a radius, or a tensor with one a row; got {eps!r}."
                ) from None
            object.__setattr__(self, "eps", eps)
        if not (torch.as_tensor(eps) >= 0).all():
            raise ArgumentError(f"{type(self).__name__} needs a radius of at least 0; got {eps}.")

    @property
    def radius(self) -> str:
        """The radius in words; nothing for none."""
        if isinstance(self.eps, Tensor) and self.eps.ndim:
            return f"{len(self.eps)} radii"
        return "" if self.eps == inf else f"{float(self.eps):g}"

    def expand(self: T, x: Tensor) -> T:
        eps = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device)
        if eps.ndim > 1 or (eps.ndim == 1 and len(eps) != len(x)):
            raise ShapeError(
                f"eps has shape {show(eps.shape)}; one radius or {len(x)}, one a row, are needed."
            )
        return replace(self, eps=eps.expand(len(x)))


class OfInputs:
    """A threat whose points are inputs."""

    charted: ClassVar[bool] = False

    def origin(self, x: Tensor) -> Tensor:
        return x

    def walls(self, box: Box, x: Tensor) -> Box:
        return box

    def decode(self, u: Tensor, x: Tensor, box: Box) -> Tensor:
        return u
