"""The checks of an evaluation: what each measures, and the verdict it gives."""

from __future__ import annotations

from collections.abc import Callable

from psiphi.evaluation._honest import (
    _certified,
    _claims,
    _model,
    _points,
    _rivals,
    _slopes,
    _state,
    _strength,
)
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject, climbs, module_of, right
from psiphi.evaluation._honest._verdict import GRAVITY, Verdict, gravest

# What looks at the classifier alone comes first: it is asked even where no attack can run. What climbs comes before
# what does not, which is then judged by the rows that no gradient breaks.
MEASURES: dict[str, Callable[[Subject], Notes]] = {
    "answers": _model.answers,
    "gradients": _slopes.gradients,
    "finite differences": _slopes.differences,
    "ball and box": _points.returned,
    "success grows with ε": _strength.growing,
    "everything breaks at full width": _strength.unbounded,
    "iterative ≥ one step": _strength.one_step,
    "twice the steps": _strength.doubled,
    "white box ≥ transfer ≥ noise": _rivals.noise,
    "transfer": _rivals.transfer,
    "several losses": _rivals.losses,
    "gradients ≥ no gradients": _rivals.gradient_free,
    "purifier": _claims.purifier,
    "certificate": _certified.certificate,
}

VERDICTS: tuple[Callable[[Evidence], Verdict], ...] = (
    _state.mode,
    _model.logits,
    _model.randomness,
    _model.independence,
    _slopes.masking,
    _slopes.slopes,
    _points.allowed,
    _strength.grows,
    _strength.reaches,
    _strength.iterates,
    _strength.converges,
    _rivals.ordered,
    _rivals.blind,
    _rivals.several,
    _rivals.tried,
    _claims.adaptively,
    _certified.certified,
    _points.undecided,
    _points.enough,
)

CLIMBING = ("doubled", "another loss")

# Probes whose points the attack was free to return, by name: what they break counts.
PROBES = (*(f"radius {factor:g} ε" for factor in _strength.RADII if factor <= 1),
          "one step", "twice the steps", "noise", "transfer", "square", "another loss")  # fmt: skip

__all__ = [
    "CLIMBING",
    "GRAVITY",
    "MEASURES",
    "PROBES",
    "VERDICTS",
    "Evidence",
    "Notes",
    "Subject",
    "Verdict",
    "climbs",
    "gravest",
    "module_of",
    "right",
]
