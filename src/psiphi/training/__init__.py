"""`fit`: one loop for every model, with checkpoints, resume and several processes."""

from psiphi.parts.player import adam
from psiphi.training._callbacks import Callback, Moment, early_stopping
from psiphi.training._fit import fit
from psiphi.training._history import History
from psiphi.training.schedules import cosine, linear

__all__ = ["Callback", "History", "Moment", "adam", "cosine", "early_stopping", "fit", "linear"]
