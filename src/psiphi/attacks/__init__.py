"""Attacks: what may change × what to reach × how to move; one engine runs them all."""

from psiphi.attacks import searches, threats
from psiphi.attacks._attack import Attack
from psiphi.attacks._named import fgsm, pgd
from psiphi.attacks._result import Result
from psiphi.attacks.threats import L2, Linf

__all__ = ["L2", "Attack", "Linf", "Result", "fgsm", "pgd", "searches", "threats"]
