"""The attacker sees everything: logits and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import _checks as checks
from psiphi.access._frozen import frozen
from psiphi.basis.errors import AccessError, ArgumentError, PsiphiError
from psiphi.basis.shapes import show
from psiphi.formulas.calculus import input_gradient
from psiphi.formulas.geometry import Box

Values = float | Sequence[float] | Tensor | None
_SAMPLED = 4


def white_box(
    model: Callable[[Tensor], Tensor] | WhiteBox,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: Values = None,
    std: Values = None,
) -> WhiteBox:
    """Logits and gradients of `model`, on data in `bounds`.

    logits = model((x − mean)/std); `mean` and `std` are numbers or one a channel, in the data's units.
    `model` maps (B, *x) to logits (B, K); a bare module in the place of an access means
    `white_box(model)`. Raises `AccessError` for outputs that cannot be attacked (probabilities, random,
    NaN, no gradient) and data outside the bounds.
    """
    return model if isinstance(model, WhiteBox) else WhiteBox(model, bounds, mean, std)


class WhiteBox:
    """See `white_box`. `rows` counts every row that was sent to the model."""

    sees = frozenset({"labels", "scores", "gradient"})

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        bounds: tuple[float, float] = (0.0, 1.0),
        mean: Values = None,
        std: Values = None,
    ):
        if not callable(model):
            raise ArgumentError(f"a classifier is a module or a function of x; got {type(model).__name__}.")
        lo, hi = (float(bound) for bound in bounds)
        if not (lo < hi and abs(lo) < float("inf") and abs(hi) < float("inf")):
            raise ArgumentError(f"bounds need two finite numbers, the lower first; got {bounds!r}.")
        if std is not None and not (torch.as_tensor(std) > 0).all():
            raise ArgumentError(f"std needs positive numbers; got {std!r}.")
        self.model, self.box, self.mean, self.std = model, Box(lo, hi), mean, std
        self.rows = 0

    def __repr__(self) -> str:
        name = type(self.model).__name__ if isinstance(self.model, nn.Module) else repr(self.model)
        scaled = "" if self.mean is None and self.std is None else f", mean={self.mean}, std={self.std}"
        return f"white_box({name}, bounds=({self.box.lo:g}, {self.box.hi:g}){scaled})"

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the model's device and in its dtype."""
        x = checks.as_points(x, self.box)
        like = next(self._floats(), None)
        return x.clone() if like is None else x.to(device=like.device, dtype=like.dtype, copy=True)

    def labels(self, y: Any, x: Tensor, what: str = "y") -> Tensor:
        return checks.as_labels(y, len(x), what).to(x.device)

    @contextmanager
    def session(self) -> Iterator[None]:
        """The model in eval mode with frozen parameters; exactly as it was on the way out."""
        with torch.inference_mode(False), frozen(self.model):
            yield

    def logits(self, points: Tensor) -> Tensor:
        """(n, K), without a gradient."""
        with torch.no_grad():
            return self._forward(points)

    def gradient(self, points: Tensor, score_fn: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n, K), score (n,) = `score_fn(logits)`, and its gradient at the points (n, *x)."""
        seen: list[Tensor] = []

        def score(points: Tensor) -> Tensor:
            logits = self._forward(points)
            seen.extend((logits.detach(), value := score_fn(logits)))
            return value

        try:
            gradient = input_gradient(score, points)
        except RuntimeError as error:
            if len(seen) == 2 and not seen[1].requires_grad:
                raise AccessError(
                    "the classifier's output does not depend differentiably on its input: it detaches, "
                    "rounds or leaves torch on the way; make that part differentiable."
                ) from error
            raise
        checks.check_numbers(gradient, "the gradient of the classifier")
        return seen[0], seen[1].detach(), gradient

    def inspect(self, x: Tensor, logits: Tensor) -> None:
        """Checks of the classifier on clean rows and their logits; sends a few rows once more, twice."""
        checks.check_no_probabilities(logits)
        if len(x):
            few = x[:_SAMPLED]
            checks.check_repeatable(self.logits(few), self.logits(few))

    def check_classes(self, y: Tensor, logits: Tensor, what: str = "y") -> None:
        checks.check_classes(y, logits.shape[1], what)

    def _forward(self, points: Tensor) -> Tensor:
        self.rows += len(points)
        mean, std = checks.as_channels(self.mean, points), checks.as_channels(self.std, points)
        scaled = points if mean is None else points - mean
        scaled = scaled if std is None else scaled / std
        try:
            logits = self.model(scaled)
        except PsiphiError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            first = str(error).strip().split("\n")[0]
            shape = show(points.shape)
            raise AccessError(f"the classifier fails on input of shape {shape}: {first}") from error
        return checks.check_logits(logits, len(points))

    def _floats(self) -> Iterator[Tensor]:
        if isinstance(self.model, nn.Module):
            yield from (p for p in self.model.parameters() if p.is_floating_point())
            yield from (b for b in self.model.buffers() if b.is_floating_point())
