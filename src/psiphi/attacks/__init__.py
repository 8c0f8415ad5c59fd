"""Attacks: what may change × what to reach × how to move; one engine runs them all."""

from psiphi.attacks import searches, threats
from psiphi.attacks._attack import Attack
from psiphi.attacks._auto import auto
from psiphi.attacks._battery import Battery
from psiphi.attacks._curve import Curve
from psiphi.attacks._decisions import hop_skip_jump
from psiphi.attacks._fixed import (
    apgd,
    fgsm,
    iterative_fgsm,
    iterative_least_likely,
    least_likely,
    pgd,
)
from psiphi.attacks._minimum import carlini_wagner, ddn, deepfool, fab
from psiphi.attacks._one_pixel import one_pixel
from psiphi.attacks._perceptual import perceptual
from psiphi.attacks._perturbation import Perturbation
from psiphi.attacks._result import Result
from psiphi.attacks._scores import nes, square
from psiphi.attacks._spatial import spatial
from psiphi.attacks._targets import Rivals
from psiphi.attacks._transfer import Transfer, transfer
from psiphi.attacks._universal import Universal, universal
from psiphi.attacks.threats import L1, L2, Linf

__all__ = [
    "L1",
    "L2",
    "Attack",
    "Battery",
    "Curve",
    "Linf",
    "Perturbation",
    "Result",
    "Rivals",
    "Transfer",
    "Universal",
    "apgd",
    "auto",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "fab",
    "fgsm",
    "hop_skip_jump",
    "iterative_fgsm",
    "iterative_least_likely",
    "least_likely",
    "nes",
    "one_pixel",
    "perceptual",
    "pgd",
    "searches",
    "spatial",
    "square",
    "threats",
    "transfer",
    "universal",
]
