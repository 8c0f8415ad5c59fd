"""Judgement: numbers about a model, each with its error and what it was measured on."""

from psiphi.evaluation._adaptive import Adaptive, adaptive
from psiphi.evaluation._anomalies import Anomalies, Ranking, anomalies
from psiphi.evaluation._collapse import CollapseWarning, watch_collapse
from psiphi.evaluation._dequantise import binarised, dequantised
from psiphi.evaluation._elbo import Elbo, elbo
from psiphi.evaluation._energy import curl, energy
from psiphi.evaluation._features import penultimate
from psiphi.evaluation._fidelity import Fidelity, fidelity
from psiphi.evaluation._frechet import Frechet, KernelDistance, SmallSampleWarning, frechet, kernel_distance
from psiphi.evaluation._honest import Verdict
from psiphi.evaluation._honesty import Honesty, honesty
from psiphi.evaluation._latents import Latents, latents
from psiphi.evaluation._levels import Level
from psiphi.evaluation._likelihood import Likelihood, heading, likelihood
from psiphi.evaluation._memory import Memory, nearest_training
from psiphi.evaluation._modes import Modes, modes
from psiphi.evaluation._rate_distortion import RateDistortion, rate_distortion
from psiphi.evaluation._reconstruction import Reconstruction, reconstruction
from psiphi.evaluation._robustness import Headline, Robustness, robustness
from psiphi.evaluation._samples import Samples, samples
from psiphi.evaluation._share import Share
from psiphi.evaluation._two_sample import TwoSample, two_sample
from psiphi.evaluation._units import atoms
from psiphi.evaluation._watch_modes import ModeCollapseWarning, watch_modes

__all__ = [
    "Adaptive",
    "Anomalies",
    "CollapseWarning",
    "Elbo",
    "Fidelity",
    "Frechet",
    "Headline",
    "Honesty",
    "KernelDistance",
    "Latents",
    "Level",
    "Likelihood",
    "Memory",
    "ModeCollapseWarning",
    "Modes",
    "Ranking",
    "RateDistortion",
    "Reconstruction",
    "Robustness",
    "Samples",
    "Share",
    "SmallSampleWarning",
    "TwoSample",
    "Verdict",
    "adaptive",
    "anomalies",
    "atoms",
    "binarised",
    "curl",
    "dequantised",
    "elbo",
    "energy",
    "fidelity",
    "frechet",
    "heading",
    "honesty",
    "kernel_distance",
    "latents",
    "likelihood",
    "modes",
    "nearest_training",
    "penultimate",
    "rate_distortion",
    "reconstruction",
    "robustness",
    "samples",
    "two_sample",
    "watch_collapse",
    "watch_modes",
]
