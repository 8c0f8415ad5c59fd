"""Threats: the sets of changes that an attacker may make to an input."""

from psiphi.attacks.threats._balls import L1, L2, Linf
from psiphi.attacks.threats._chain import Chain
from psiphi.attacks.threats._columns import Columns
from psiphi.attacks.threats._features import Features
from psiphi.attacks.threats._parse import parse
from psiphi.attacks.threats._patch import Patch
from psiphi.attacks.threats._pixels import Pixels
from psiphi.attacks.threats._spatial import Spatial

__all__ = ["L1", "L2", "Chain", "Columns", "Features", "Linf", "Patch", "Pixels", "Spatial", "parse"]
