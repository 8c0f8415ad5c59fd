"""Searches: how to move inside a threat. Who is asked, and how often, is the engine's."""

from psiphi.attacks.searches._apgd import AutoStep, SparseAutoStep
from psiphi.attacks.searches._ddn import Sphere
from psiphi.attacks.searches._deepfool import Crossing
from psiphi.attacks.searches._estimate import Estimated
from psiphi.attacks.searches._evolution import Evolution
from psiphi.attacks.searches._fab import Bounce
from psiphi.attacks.searches._grid import Grid
from psiphi.attacks.searches._hop import Hops
from psiphi.attacks.searches._lagrangian import Lagrangian
from psiphi.attacks.searches._palette import Palette
from psiphi.attacks.searches._penalty import Penalty
from psiphi.attacks.searches._random import RandomPoints
from psiphi.attacks.searches._squares import Squares
from psiphi.attacks.searches._steepest import Steepest

__all__ = [
    "AutoStep",
    "Bounce",
    "Crossing",
    "Estimated",
    "Evolution",
    "Grid",
    "Hops",
    "Lagrangian",
    "Palette",
    "Penalty",
    "RandomPoints",
    "SparseAutoStep",
    "Sphere",
    "Squares",
    "Steepest",
]
