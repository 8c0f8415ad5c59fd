"""Who is poisoned: an architecture and a recipe, trained anew each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from psiphi.models import Classifier
from psiphi.training import fit
from psiphi.zoo import classifier


@dataclass(frozen=True)
class Victim:
    """How a model comes to be: `build(seed)` gives it with fresh weights, `recipe` is what `fit` is told.

    build   seed -> a model of psiphi whose call gives logits: `lambda seed: pp.zoo.classifier(shape, 10, seed=seed)`
    recipe  arguments of `pp.fit`: epochs or steps, lr, batch_size, …
    """

    build: Callable[[int], Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def train(self, x: Tensor, y: Tensor, seed: int) -> Any:
        """A model trained on rows x and labels y: the same seed, rows and labels give the same weights, bit for bit."""
        model = self.build(seed)
        fit(model, x, y, seed=seed, quiet=True, **self.recipe)
        return model.eval()


def head(features: nn.Module, size: int, shape: tuple[int, ...], classes: int, **recipe: Any) -> Victim:
    """A victim of transfer learning: the features stay as they are, the affine layer on their `size` numbers is learnt.

    features: a module (n, *shape) -> (n, size) of data in their own units; its parameters are frozen from now on.
    """
    features.requires_grad_(False)

    def build(seed: int) -> Classifier:
        model = classifier(size, classes, hidden=(), seed=seed)
        whole = classifier(shape, classes, network=nn.Sequential(features, model.network))
        whole.statistics.measured.fill_(True)  # the features take the data in their own units
        return whole

    return Victim(build, recipe)
