"""`fit`: one loop for every model, with checkpoints, resume and several processes."""

from psiphi.parts.player import adam
from psiphi.training._callbacks import Callback, Moment, Monitor, early_stopping
from psiphi.training._fit import fit
from psiphi.training._history import History
from psiphi.training.schedules import cosine, linear

__all__ = ["Callback", "History", "Moment", "Monitor", "adam", "cosine", "early_stopping", "fit", "linear"]
