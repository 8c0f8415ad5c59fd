"""The tour: everything, on embedded data, told in one page."""

from psiphi.app.tour._run import FULL, QUICK, Settings, run

__all__ = ["FULL", "QUICK", "Settings", "run"]
