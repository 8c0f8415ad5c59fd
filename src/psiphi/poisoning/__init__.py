"""Poisoning: change a share of the training rows, train on them, and measure what that did.

A poison is who × what × which label × to what end; `trials` trains clean and poisoned models from one start.
"""

from psiphi.poisoning._aims import Aim, Taken, Toward, Triggered, Wrong
from psiphi.poisoning._backdoor import backdoor
from psiphi.poisoning._feature_collision import feature_collision
from psiphi.poisoning._gradient_matching import gradient_matching
from psiphi.poisoning._label_flip import label_flip
from psiphi.poisoning._outliers import outliers
from psiphi.poisoning._poison import Poison
from psiphi.poisoning._poisoned import Poisoned
from psiphi.poisoning._trials import Trial, Trials, trials
from psiphi.poisoning._triggers import Trigger, blend, patch
from psiphi.poisoning._victim import Victim, head

__all__ = [
    "Aim",
    "Poison",
    "Poisoned",
    "Taken",
    "Toward",
    "Trial",
    "Trials",
    "Trigger",
    "Triggered",
    "Victim",
    "Wrong",
    "backdoor",
    "blend",
    "feature_collision",
    "gradient_matching",
    "head",
    "label_flip",
    "outliers",
    "patch",
    "trials",
]
