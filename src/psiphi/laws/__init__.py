"""The laws: measurements on data whose answer is known. `psiphi verify` runs them."""

import re

from psiphi.laws import attacks, autoencoders, likelihoods
from psiphi.laws._law import LAWS, Law, Measured, at_most, law

__all__ = ["LAWS", "Law", "Measured", "at_most", "attacks", "autoencoders", "law", "likelihoods"]

LAWS.sort(key=lambda each: (int(re.findall(r"\d+", each.number)[0]), each.number))
