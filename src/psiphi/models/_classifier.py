"""Classifiers: x -> logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import DataError
from psiphi.models._base import Model, verb
from psiphi.parts import Batch, Clock, Player, Statistics, adam

Loss = Callable[[Any, Batch, Clock], dict[str, Tensor]]


class Classifier(Model):
    """A network on standardised data; calling it gives logits (B, classes).

    loss: (classifier, batch, clock) -> dict with "loss" and what else the history is to show, the cross-entropy unless
    given.
    """

    def __init__(
        self,
        statistics: Statistics,
        classes: int,
        network: nn.Module,
        *,
        optimizer: adam = adam(),  # noqa: B008
        loss: Loss | None = None,
    ):
        super().__init__(statistics)
        self.classes, self.network, self.optimizer = classes, network, optimizer
        self.loss = loss or cross_entropy_loss

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, *shape) -> (B, classes)."""
        return self.network(self.statistics(x))

    def players(self) -> list[Player]:
        return [Player(self, self.loss, self.optimizer)]

    @verb
    def predict(self, x: Any) -> Tensor:
        """The most likely class, (B,)."""
        return self._map(lambda part: self(part).argmax(1), x)


def cross_entropy_loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    """−ln softmax(f(x))_y, the mean over rows whose label is known, and the share of them that are right."""
    if batch.y is None:
        raise DataError("a classifier needs labels: pass y, or data with labels.")
    known = batch.y >= 0
    logits = model(batch.x)
    top = int(batch.y.max())
    if top >= model.classes:
        raise DataError(
            f"labels reach {top}, the classifier has {model.classes} classes (0 to {model.classes - 1}): "
            f"build it with classes={top + 1}."
        )
    loss = F.cross_entropy(logits, batch.y, ignore_index=-1, reduction="sum") / known.sum().clamp(min=1)
    with torch.no_grad():
        accuracy = ((logits.argmax(1) == batch.y) & known).sum() / known.sum().clamp(min=1)
    return {"loss": loss, "accuracy": accuracy}
