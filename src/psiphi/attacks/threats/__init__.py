"""Threats: the sets of changes that an attacker may make to an input."""

from psiphi.attacks.threats._balls import L1, L2, Linf
from psiphi.attacks.threats._parse import parse

__all__ = ["L1", "L2", "Linf", "parse"]
