"""Attacks: what may change × what to reach × how to move; one engine runs them all."""

from psiphi.attacks import searches, threats
from psiphi.attacks._attack import Attack
from psiphi.attacks._curve import Curve
from psiphi.attacks._fixed import fgsm, pgd
from psiphi.attacks._result import Result
from psiphi.attacks.threats import L1, L2, Linf

__all__ = ["L1", "L2", "Attack", "Curve", "Linf", "Result", "fgsm", "pgd", "searches", "threats"]
