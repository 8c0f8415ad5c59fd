from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.models import Classifier
from psiphi.parts import Statistics
from psiphi.zoo._build import encoder_network


@models.register
def classifier(
    shape: int | Sequence[int],
    classes: int = 10,
    *,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    network: nn.Module | None = None,
    seed: int = 0,
) -> Classifier:
    """Classifier: min E[−ln softmax(f(x))_y]; calling it gives the logits f(x), (B, classes).

    net: `mlp` (hidden = widths) or `conv` (hidden = channels); network: a module of your own,
    (B, *shape) -> (B, classes).
    """
    if classes < 2:
        raise ArgumentError(f"a classifier needs at least 2 classes; got {classes}.")
    shape = as_shape(shape)
    return Classifier(Statistics(shape), classes, encoder_network(net, network, shape, classes, hidden, seed))
