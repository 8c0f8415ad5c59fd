"""What an attacker may see of a classifier. An access owns the box, the normalisation, the gradient,
the checks of the classifier, and the count of rows sent to it."""

from psiphi.access._black_box import BlackBox, Reveal, black_box
from psiphi.access._bpda import bpda
from psiphi.access._expectation import Expectation, expectation
from psiphi.access._gray_box import GrayBox, gray_box
from psiphi.access._ledger import Ledger
from psiphi.access._protocol import Access, Reply
from psiphi.access._white_box import WhiteBox, white_box

__all__ = [
    "Access",
    "BlackBox",
    "Expectation",
    "GrayBox",
    "Ledger",
    "Reply",
    "Reveal",
    "WhiteBox",
    "black_box",
    "bpda",
    "expectation",
    "gray_box",
    "white_box",
]
