"""The attacker sees everything: logits and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.access._frozen import frozen
from psiphi.access._ledger import Ledger
from psiphi.access._pipe import Bound, Pipe, Scale
from psiphi.access._protocol import Reply, Sees, Values
from psiphi.basis.errors import AccessError
from psiphi.formulas.calculus import input_gradient, input_gradients
from psiphi.formulas.geometry import Box

_SAMPLED = 4


def white_box(
    model: Any,
    bounds: tuple[Bound, Bound] = (0.0, 1.0),
    mean: Scale = None,
    std: Scale = None,
) -> Any:
    """Logits and gradients of `model`, on data in `bounds`.

    logits = model((x − mean)/std); `bounds`, `mean` and `std` are numbers or one a channel, in the data's units.
    `model` maps (B, *x) to logits (B, K); a bare module in the place of an access means
    `white_box(model)`, and an access is returned as it is. Raises `AccessError` for outputs that cannot be attacked
    (probabilities, random, NaN, no gradient) and data outside the bounds.
    """
    return model if hasattr(model, "sees") else WhiteBox(Pipe(model, bounds, mean, std))


class WhiteBox:
    """See `white_box`. `rows` counts every row that was sent to the model."""

    sees: frozenset[Sees] = frozenset({"labels", "scores", "gradient", "jacobian"})
    decides, recorded = True, False
    budget, judging = None, 1

    def __init__(self, pipe: Pipe):
        self.pipe, self.ledger = pipe, None

    def __repr__(self) -> str:
        return f"white_box({self.pipe!r})"

    @property
    def box(self) -> Box:
        return self.pipe.box

    @property
    def rows(self) -> int:
        return self.pipe.rows

    @property
    def refusal(self) -> int | None:
        return self.pipe.refusal

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the model's device and in its dtype."""
        return self.pipe.points(x)

    @contextmanager
    def session(self, x: Tensor, seed: int = 0) -> Iterator[Ledger]:
        """The model in eval mode with frozen parameters; exactly as it was on the way out."""
        self.ledger = Ledger(len(x), x.device)
        try:
            with frozen(self.pipe.model), self.pipe.arranged():
                yield self.ledger
        finally:
            self.ledger = None

    def look(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """Logits (1, n, K), without a gradient."""
        self._charge(rows)
        with torch.no_grad():
            return Reply(self.pipe.forward(points).unsqueeze(0))

    verdict = look

    def climb(self, points: Tensor, value: Values, rows: Tensor | None = None) -> Reply:
        """Logits, `value(logits)` (n,) and its gradient at the points (n, *x)."""
        self._charge(rows, 1)
        return self._differentiated(points, value, input_gradient)

    def slopes(self, points: Tensor, values: Values, rows: Tensor | None = None) -> Reply:
        """Logits, `values(logits)` (n, R) and the gradient of each at the points (n, R, *x)."""
        reply = self._differentiated(points, values, input_gradients)
        assert reply.gradient is not None
        self._charge(rows, reply.gradient.shape[1])
        return reply

    def inspect(self, x: Tensor, said: Tensor) -> None:
        """Checks of the classifier on clean rows and their logits; sends a few rows once more, twice."""
        checks.check_no_probabilities(said[0])
        if len(x):
            few = x[:_SAMPLED]
            checks.check_repeatable(self.look(few).said[0], self.look(few).said[0])

    def _charge(self, rows: Tensor | None, backwards: int = 0) -> None:
        if rows is not None and self.ledger is not None:
            self.ledger.charge(rows, 1, backwards)

    def _differentiated(self, points: Tensor, value: Values, gradient: Callable[..., Tensor]) -> Reply:
        seen: list[Tensor] = []

        def score(points: Tensor) -> Tensor:
            logits = self.pipe.forward(points)
            seen.extend((logits.detach(), found := value(logits)))
            return found

        try:
            slope = gradient(score, points)
        except RuntimeError as error:
            if len(seen) == 2 and (not seen[1].requires_grad or "used in the graph" in str(error)):
                raise AccessError(
                    "the classifier's output does not depend differentiably on its input: it detaches, "
                    "rounds or leaves torch on the way; make that part differentiable."
                ) from error
            raise
        checks.check_numbers(slope, "the gradient of the classifier")
        return Reply(seen[0].unsqueeze(0), seen[1].detach(), slope)
