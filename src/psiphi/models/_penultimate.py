"""What the last affine layer of a classifier is given: its features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.models._base import evaluating

CHUNK = 1024


class Penultimate(nn.Module):
    """What the last affine layer of a classifier is given, (B, *x) -> (B, d); differentiable, always in eval mode.

    Errors: `ArgumentError` for a network without an affine layer.
    """

    def __init__(self, classifier: nn.Module):
        super().__init__()
        _ = _affine(classifier)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        with evaluating(self.classifier), heard(self.classifier) as seen:
            self.classifier(x)
        return seen[-1].flatten(1)

    @torch.no_grad()
    def rows(self, x: Tensor) -> Tensor:
        """Features of many rows, (n, d), in chunks and without a gradient; where x is."""
        home = next(self.parameters(), x)
        return torch.cat([self(part.to(home.device, home.dtype)).to(x.device) for part in x.split(CHUNK)])


@contextmanager
def heard(classifier: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, what an affine layer is given joins the list, call by call: its last is the penultimate layer's."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for module in _affine(classifier)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _affine(classifier: nn.Module) -> list[nn.Linear]:
    affine = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
    if not affine:
        raise ArgumentError(
            f"a {type(classifier).__name__} has no affine layer (nn.Linear) whose input could serve as features: give "
            f"a function x -> (n, d) instead."
        )
    return affine
