"""What models are composed of: conditionals, traces, objectives, players."""

from psiphi.parts.clock import END, Clock, warmup
from psiphi.parts.conditional import (
    BernoulliDecoder,
    Conditional,
    Decoder,
    Dirac,
    DistortionDecoder,
    GaussianDecoder,
    NormalEncoder,
    StandardPrior,
    likelihood,
)
from psiphi.parts.objective import Objective, Term, batch_term, free_bits, nll, rate, term
from psiphi.parts.player import Batch, Player, adam
from psiphi.parts.statistics import Statistics
from psiphi.parts.trace import LatentTrace

__all__ = [
    "END",
    "Batch",
    "BernoulliDecoder",
    "Clock",
    "Conditional",
    "Decoder",
    "Dirac",
    "DistortionDecoder",
    "GaussianDecoder",
    "LatentTrace",
    "NormalEncoder",
    "Objective",
    "Player",
    "StandardPrior",
    "Statistics",
    "Term",
    "adam",
    "batch_term",
    "free_bits",
    "likelihood",
    "nll",
    "rate",
    "term",
    "warmup",
]
