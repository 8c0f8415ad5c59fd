"""Defences: what stands before, in or after a classifier."""

from psiphi.defenses._purify import Purified, purify

__all__ = ["Purified", "purify"]
