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
    RecordedDirac,
    StandardPrior,
    likelihood,
)
from psiphi.parts.contest import Contest
from psiphi.parts.corruption import corruption
from psiphi.parts.critic import Critic
from psiphi.parts.objective import Objective, Term, batch_term, free_bits, nll, rate, term
from psiphi.parts.player import Batch, Player, adam
from psiphi.parts.posteriors import outputs, posterior
from psiphi.parts.priors import prior
from psiphi.parts.slope import Lipschitz, lipschitz
from psiphi.parts.statistics import Statistics
from psiphi.parts.terms import bound, contraction, label_nll, sparsity
from psiphi.parts.trace import LatentTrace

__all__ = [
    "END",
    "Batch",
    "BernoulliDecoder",
    "Clock",
    "Conditional",
    "Contest",
    "Critic",
    "Decoder",
    "Dirac",
    "DistortionDecoder",
    "GaussianDecoder",
    "LatentTrace",
    "Lipschitz",
    "NormalEncoder",
    "Objective",
    "Player",
    "RecordedDirac",
    "StandardPrior",
    "Statistics",
    "Term",
    "adam",
    "batch_term",
    "bound",
    "contraction",
    "corruption",
    "free_bits",
    "label_nll",
    "likelihood",
    "lipschitz",
    "nll",
    "outputs",
    "posterior",
    "prior",
    "rate",
    "sparsity",
    "term",
    "warmup",
]
