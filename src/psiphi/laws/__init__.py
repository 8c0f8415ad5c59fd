"""The laws: measurements on data whose answer is known. `psiphi verify` runs them."""

import re

from psiphi.laws import (
    access,
    ascent,
    attacks,
    autoencoders,
    codes,
    critics,
    denoisers,
    diffusion,
    divergences,
    likelihoods,
    minimum,
    mixtures,
    modes,
    regularised,
    samplers,
    tables,
    variational,
)
from psiphi.laws._law import LAWS, Law, Measured, at_most, law

__all__ = [
    "LAWS",
    "Law",
    "Measured",
    "access",
    "ascent",
    "at_most",
    "attacks",
    "autoencoders",
    "codes",
    "critics",
    "denoisers",
    "diffusion",
    "divergences",
    "law",
    "likelihoods",
    "minimum",
    "mixtures",
    "modes",
    "regularised",
    "samplers",
    "tables",
    "variational",
]

LAWS.sort(key=lambda each: (int(re.findall(r"\d+", each.number)[0]), each.number))
