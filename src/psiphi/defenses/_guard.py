"""A classifier and a detector as one: what is flagged gets no answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import _checks as checks
from psiphi.basis.errors import ArgumentError
from psiphi.defenses._outcome import Outcome
from psiphi.models._base import evaluating

ROWS = 1024


class Guarded(nn.Module):
    """x ↦ (z_1, …, z_K, max_k z_k + (s(x) − τ)/w): the last of K + 1 logits is the largest where the score s is above
    the threshold τ. w > 0 is the distance of τ from the median score of the validation rows.

    Its attribute `refusal`, the number K, tells attacks which class is no answer: of a guarded classifier they count
    only what is wrong *and* passes the detector, and follow the gradient of both.

    Source: Carlini, Wagner, "Adversarial examples are not easily detected: bypassing ten detection methods", 2017;
    there the last logit is a product, which needs max_k z_k > 0.
    """

    def __init__(self, classifier: nn.Module, detector: Any):
        super().__init__()
        if not callable(classifier):
            raise ArgumentError(
                f"a detector guards the module itself, (B, *x) -> logits; got {classifier!r}: guard that module, and "
                "attack the result through an access."
            )
        self.classifier, self.detector = classifier, detector
        with torch.no_grad(), evaluating(self):
            logits = classifier(detector.example)
        self.refusal = checks.check_logits(logits, 1).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(x)
        over = (self.detector(x) - self.detector.threshold) / self.detector.width
        return torch.cat([logits, logits.amax(1, keepdim=True) + over.to(logits)[:, None]], 1)

    def predict(self, x: Any) -> Tensor:
        """The class, (b,); −1 where the row is flagged."""
        x = checks.as_points(x).to(self.detector.example)
        with torch.no_grad(), evaluating(self):
            parts = [
                torch.where(self.detector.flags(part), -1, self.classifier(part).argmax(1))
                for part in x.split(ROWS)
            ]
        return torch.cat(parts)

    def outcome(self, x: Any, y: Any) -> Outcome:
        """How many rows are answered rightly, answered wrongly, and flagged, against labels (b,)."""
        return Outcome.of(self.predict(x), y)

    def __repr__(self) -> str:
        return f"{self.detector!r}.guard({type(self.classifier).__name__})"
