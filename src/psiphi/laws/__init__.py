"""The laws: measurements on data whose answer is known. `psiphi verify` runs them."""

import re

from psiphi.laws import (
    attacks,
    autoencoders,
    codes,
    critics,
    divergences,
    likelihoods,
    mixtures,
    modes,
    regularised,
    tables,
    variational,
)
from psiphi.laws._law import LAWS, Law, Measured, at_most, law

__all__ = [
    "LAWS",
    "Law",
    "Measured",
    "at_most",
    "attacks",
    "autoencoders",
    "codes",
    "critics",
    "divergences",
    "law",
    "likelihoods",
    "mixtures",
    "modes",
    "regularised",
    "tables",
    "variational",
]

LAWS.sort(key=lambda each: (int(re.findall(r"\d+", each.number)[0]), each.number))
