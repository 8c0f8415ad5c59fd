"""The way of a point to the model: checks, normalisation, the model, checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import _checks as checks
from psiphi.access._layout import Layout, channels_last
from psiphi.basis.errors import AccessError, ArgumentError, PsiphiError
from psiphi.basis.shapes import show
from psiphi.formulas.geometry import Box

Bound = float | Sequence[float] | Tensor
Scale = float | Sequence[float] | Tensor | None


class Pipe:
    """logits = model((x − mean)/std), on data in the box; `rows` counts every row that was sent."""

    def __init__(self, model: Callable[[Tensor], Any], bounds: tuple[Bound, Bound], mean: Scale, std: Scale):
        if not callable(model):
            raise ArgumentError(f"a classifier is a module or a function of x; got {type(model).__name__}.")
        if std is not None and not (torch.as_tensor(std) > 0).all():
            raise ArgumentError(f"std needs positive numbers; got {std!r}.")
        self.model, self.mean, self.std = model, mean, std
        self.bounds = checks.as_bounds(bounds)
        self.box, self.rows = Box(*(float(b) if b.ndim == 0 else b for b in self.bounds)), 0
        self._layout: Layout | None = None

    def __repr__(self) -> str:
        model = self.model
        name = (
            type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", repr(model))
        )
        scaled = "" if self.mean is None and self.std is None else f", mean={self.mean}, std={self.std}"
        return f"{name}, bounds=({checks.shown(self.box.lo)}, {checks.shown(self.box.hi)}){scaled}"

    @property
    def refusal(self) -> int | None:
        """The class, its last one, by which the model refuses to answer; None where it always answers."""
        return getattr(self.model, "refusal", None)

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the model's device and in its dtype; the box goes there too."""
        like = next(self._floats(), None)
        x = checks.as_points(x)
        self.box = checks.as_box(self.bounds, x)
        checks.check_inside(x, self.box)
        if like is None:
            return x.clone()
        x = x.to(device=like.device, dtype=like.dtype, copy=True)
        self.box = checks.as_box(self.bounds, x)
        return x.clamp_(self.box.lo, self.box.hi)  # a narrower dtype may round a wall outward

    @contextmanager
    def arranged(self) -> Iterator[None]:
        """The convolutions in the layout that they are fastest in."""
        with channels_last(self.model) as self._layout:
            yield
        self._layout = None

    def scaled(self, points: Tensor) -> Tensor:
        """What the model is given for points that are sent, and counted, now."""
        self.rows += len(points)
        scaled = points if self.mean is None else points - checks.as_channels(self.mean, points)
        return scaled if self.std is None else scaled / checks.as_channels(self.std, points)

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, K)."""
        scaled = self.scaled(points)
        try:
            logits = self.model(scaled)
        except PsiphiError:
            raise
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            if (
                self._layout is not None and self._layout.undo()
            ):  # a model that takes views of its activations
                return self.forward(points)
            raise self.failed(points, error) from error
        return checks.check_logits(logits, len(points)).to(points.device)

    def failed(self, points: Tensor, error: Exception) -> AccessError:
        """What the model raised, as a sentence."""
        first = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        return AccessError(f"the classifier fails on input of shape {show(points.shape)}: {first}")

    def _floats(self) -> Iterator[Tensor]:
        if isinstance(self.model, nn.Module):
            yield from (p for p in self.model.parameters() if p.is_floating_point())
            yield from (b for b in self.model.buffers() if b.is_floating_point())
