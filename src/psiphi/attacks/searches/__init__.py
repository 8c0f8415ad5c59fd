"""Searches: how to move inside a threat. Who is asked, and how often, is the engine's."""

from psiphi.attacks.searches._apgd import AutoStep, SparseAutoStep
from psiphi.attacks.searches._ddn import Sphere
from psiphi.attacks.searches._deepfool import Crossing
from psiphi.attacks.searches._fab import Bounce
from psiphi.attacks.searches._lagrangian import Lagrangian
from psiphi.attacks.searches._steepest import Steepest

__all__ = ["AutoStep", "Bounce", "Crossing", "Lagrangian", "SparseAutoStep", "Sphere", "Steepest"]
