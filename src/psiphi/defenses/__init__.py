"""Defences: what stands before, in or after a classifier."""

from psiphi.defenses._adversarial_training import adversarial_training, robust_accuracy, trades
from psiphi.defenses._purify import Purified, purify

__all__ = ["Purified", "adversarial_training", "purify", "robust_accuracy", "trades"]
