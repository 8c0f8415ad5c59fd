"""Searches: how to move inside a threat. Who is asked, and how often, is the engine's."""

from psiphi.attacks.searches._steepest import Steepest

__all__ = ["Steepest"]
