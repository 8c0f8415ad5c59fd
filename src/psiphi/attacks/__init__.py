"""Attacks: what may change × what to reach × how to move; one engine runs them all."""

from psiphi.attacks import searches, threats
from psiphi.attacks._attack import Attack
from psiphi.attacks._curve import Curve
from psiphi.attacks._fixed import (
    apgd,
    fgsm,
    iterative_fgsm,
    iterative_least_likely,
    least_likely,
    pgd,
)
from psiphi.attacks._minimum import carlini_wagner, ddn, deepfool, fab
from psiphi.attacks._result import Result
from psiphi.attacks.threats import L1, L2, Linf

__all__ = [
    "L1",
    "L2",
    "Attack",
    "Curve",
    "Linf",
    "Result",
    "apgd",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "fab",
    "fgsm",
    "iterative_fgsm",
    "iterative_least_likely",
    "least_likely",
    "pgd",
    "searches",
    "threats",
]
