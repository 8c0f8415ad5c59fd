"""Defences: what stands before, in or after a classifier."""

from psiphi.defenses import filters
from psiphi.defenses._adversarial_training import adversarial_training, robust_accuracy, trades
from psiphi.defenses._certificate import Certificate
from psiphi.defenses._detect import Detection, Detector, detect
from psiphi.defenses._filter_poison import Filtered, filter_poison
from psiphi.defenses._guard import Guarded
from psiphi.defenses._outcome import Outcome
from psiphi.defenses._purify import Purified, purify
from psiphi.defenses._smooth import Smoothed, noisy_training, smooth
from psiphi.defenses._tuned import Tuned, tuned

__all__ = [
    "Certificate",
    "Detection",
    "Detector",
    "Filtered",
    "Guarded",
    "Outcome",
    "Purified",
    "Smoothed",
    "Tuned",
    "adversarial_training",
    "detect",
    "filter_poison",
    "filters",
    "noisy_training",
    "purify",
    "robust_accuracy",
    "smooth",
    "trades",
    "tuned",
]
