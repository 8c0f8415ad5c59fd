"""The named minimum-norm attacks: the least change that reaches the goal."""

from __future__ import annotations
