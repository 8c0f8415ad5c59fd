"""Samplers: a plan is a table of rows, and one loop runs it."""

from psiphi.formulas import schedules
from psiphi.samplers._guides import classifier_free, classifier_guided, clipped, inpainted
from psiphi.samplers._named import (
    ancestral,
    annealed_langevin,
    ddim,
    dpm_solver,
    heun,
    langevin,
    predictor_corrector,
    samplers,
    walkback,
)
from psiphi.samplers._plan import Plan, Row
from psiphi.samplers._walk import trajectory, walk

register = samplers.register

__all__ = [
    "Plan",
    "Row",
    "ancestral",
    "annealed_langevin",
    "classifier_free",
    "classifier_guided",
    "clipped",
    "ddim",
    "dpm_solver",
    "heun",
    "inpainted",
    "langevin",
    "predictor_corrector",
    "register",
    "samplers",
    "schedules",
    "trajectory",
    "walk",
    "walkback",
]
