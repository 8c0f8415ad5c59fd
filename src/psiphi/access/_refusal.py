"""A classifier that may refuse to answer, as attacks see it: what it refuses counts for the label."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from psiphi.access._ledger import Ledger
from psiphi.access._protocol import Access, Reply, Values
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.geometry import Box
from psiphi.formulas.goals import accepted


def answering(access: Access, y: Tensor | None) -> Access:
    """The access, where its classifier answers everything; else one on which success means *wrong and not refused*.

    A classifier refuses by a class of its own, the last one, whose number is its attribute `refusal`; `y` are the
    labels (n,) of the rows of the session. Raises `ArgumentError` without labels.
    """
    refusal = getattr(access, "refusal", None)
    if refusal is None:
        return access
    if y is None:
        raise ArgumentError(
            f"{access!r} may refuse an answer, and only the label tells a refusal from an error: give the labels y."
        )
    return Answering(access, refusal, y)


def check_answers(access: Access, who: str) -> None:
    """Refuse a classifier that may refuse, where nothing tells a refusal from an error."""
    if getattr(access, "refusal", None) is not None:
        raise ArgumentError(
            f"{who} takes refusals for errors, and {access!r} may refuse: give the classifier alone."
        )


class Answering:
    """See `answering`. Logits (m, n, K), the label's being max(z_y, z_refusal); a refusal as a label is y."""

    refusal = None

    def __init__(self, inner: Access, number: int, y: Tensor):
        self.inner, self.number, self.y = inner, number, y
        self.sees, self.decides, self.recorded = inner.sees, inner.decides, inner.recorded
        self.budget, self.judging = inner.budget, inner.judging

    def __repr__(self) -> str:
        return f"{self.inner!r}, what it refuses being no success"

    @property
    def box(self) -> Box:
        return self.inner.box

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the model's device and in its dtype."""
        return self.inner.points(x)

    @contextmanager
    def session(self, x: Tensor, seed: int = 0) -> Iterator[Ledger]:
        """As that of the classifier."""
        self.y = self.y.to(x.device)
        with self.inner.session(x, seed) as ledger:
            yield ledger

    def look(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What is said of the points, without a gradient."""
        return self._merged(self.inner.look(points, rows), rows)

    def climb(self, points: Tensor, value: Values, rows: Tensor | None = None) -> Reply:
        """A value (n,) of the merged logits and its gradient."""
        reply = self.inner.climb(points, lambda logits: value(self._logits(logits, rows)), rows)
        return self._merged(reply, rows)

    def slopes(self, points: Tensor, values: Values, rows: Tensor | None = None) -> Reply:
        """Values (n, R) of the merged logits and the gradient of each."""
        reply = self.inner.slopes(points, lambda logits: values(self._logits(logits, rows)), rows)
        return self._merged(reply, rows)

    def verdict(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What is said of the points at last."""
        return self._merged(self.inner.verdict(points, rows), rows)

    def inspect(self, x: Tensor, said: Tensor) -> None:
        """As the classifier's, of what was said."""
        self.inner.inspect(x, said)

    def _logits(self, logits: Tensor, rows: Tensor | None) -> Tensor:
        """Those of the answers; a surrogate may know no refusal."""
        if logits.shape[1] == self.number:
            return logits
        if logits.shape[1] != self.number + 1:
            raise ArgumentError(
                f"{self.inner!r} gives {logits.shape[1]} logits, and the classifier {self.number} and a refusal: give "
                "a surrogate of as many classes."
            )
        return logits[:, : self.number] if rows is None else accepted(logits, self.y[rows])

    def _merged(self, reply: Reply, rows: Tensor | None) -> Reply:
        said = reply.said
        if said.ndim == 3:
            said = torch.stack([self._logits(each, rows) for each in said])
        elif rows is not None:
            said = torch.where(said == self.number, self.y[rows], said)
        return Reply(said, reply.value, reply.gradient)
