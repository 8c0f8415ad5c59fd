"""Purification: bring an input back to the model's manifold, then classify."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from psiphi.basis.errors import MissingVerb


class Purified(nn.Module):
    """See `purify`."""

    def __init__(self, classifier: nn.Module, model: nn.Module):
        super().__init__()
        _ = _projection(model)
        self.classifier, self.model = classifier, model

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(_projection(self.model)(x))

    def __repr__(self) -> str:
        return f"purify({type(self.classifier).__name__}, {type(self.model).__name__})"


def _projection(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model's verb; a model that lacks it raises `MissingVerb`, which says who has it."""
    try:
        return cast(Callable[[Tensor], Tensor], model.project)
    except MissingVerb:
        raise
    except AttributeError:
        reason = "it is no model of psiphi and has no method `project(x)`"
        raise MissingVerb(type(model).__name__, "project", reason) from None


def purify(classifier: nn.Module, model: nn.Module) -> Purified:
    """A classifier that sees the projection of its input onto the manifold of `model`: x ↦ f(Π(x)).

    `classifier` maps (B, *x) in the data's units to logits (B, K). Differentiable, so that a white-box
    attack goes through the projection too; returned in eval mode. Raises `MissingVerb` for a model that
    cannot project.

    Source: Samangouei, Kabkab, Chellappa, "Defense-GAN: protecting classifiers against adversarial
    attacks using generative models", 2018; Meng, Chen, "MagNet: a two-pronged defense", 2017.
    """
    return Purified(classifier, model).eval()
