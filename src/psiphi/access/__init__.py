"""What an attacker may see of a classifier. An access owns the box, the normalisation, the gradient,
the checks of the classifier, and the count of rows sent to it."""

from psiphi.access._ledger import Ledger
from psiphi.access._protocol import Access, Reply
from psiphi.access._white_box import WhiteBox, white_box

__all__ = ["Access", "Ledger", "Reply", "WhiteBox", "white_box"]
