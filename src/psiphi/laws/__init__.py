"""The laws: measurements on data whose answer is known. `psiphi verify` runs them."""

import re

from psiphi.laws import (
    access,
    ascent,
    attacks,
    autoencoders,
    codes,
    critics,
    decisions,
    denoisers,
    diffusion,
    divergences,
    features,
    geometry,
    likelihoods,
    minimum,
    mixtures,
    modes,
    pixels,
    queries,
    regularised,
    samplers,
    tables,
    universal,
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
    "decisions",
    "denoisers",
    "diffusion",
    "divergences",
    "features",
    "geometry",
    "law",
    "likelihoods",
    "minimum",
    "mixtures",
    "modes",
    "pixels",
    "queries",
    "regularised",
    "samplers",
    "tables",
    "universal",
    "variational",
]

LAWS.sort(key=lambda each: (int(re.findall(r"\d+", each.number)[0]), each.number))
