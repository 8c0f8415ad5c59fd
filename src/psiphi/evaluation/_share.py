"""A share of rows with its interval."""

from psiphi.formulas.intervals import Share

__all__ = ["Share"]
