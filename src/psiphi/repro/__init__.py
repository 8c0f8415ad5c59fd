"""Published tables, a recipe each: a setting in minutes and a full one. `psiphi repro NAME` runs them.

A recipe composes models of the zoo, `fit` and `evaluation`; it has no training loop of its own.
"""

from psiphi.repro import (
    aae2016,
    adbench,
    ddim2021,
    hinton2006,
    iwae2016,
    ksparse2013,
    m2,
    madry_mnist,
    pacgan2018,
    poison_mnist,
    purification,
    trades_mnist,
)
from psiphi.repro._recipe import Found, Job, Outcome, Recipe, Row, find

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        aae2016,
        adbench,
        ddim2021,
        hinton2006,
        iwae2016,
        ksparse2013,
        m2,
        madry_mnist,
        pacgan2018,
        poison_mnist,
        purification,
        trades_mnist,
    )
}

__all__ = ["RECIPES", "Found", "Job", "Outcome", "Recipe", "Row", "find"]
