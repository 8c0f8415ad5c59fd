"""Judgement: numbers about a model, each with its error and what it was measured on."""

from psiphi.evaluation._anomalies import Anomalies, Ranking, anomalies
from psiphi.evaluation._collapse import CollapseWarning, watch_collapse
from psiphi.evaluation._dequantise import binarised, dequantised
from psiphi.evaluation._elbo import Elbo, elbo
from psiphi.evaluation._latents import Latents, latents
from psiphi.evaluation._likelihood import Likelihood, heading, likelihood
from psiphi.evaluation._rate_distortion import RateDistortion, rate_distortion
from psiphi.evaluation._reconstruction import Reconstruction, reconstruction
from psiphi.evaluation._samples import Samples, samples
from psiphi.evaluation._share import Share
from psiphi.evaluation._units import atoms

__all__ = [
    "Anomalies",
    "CollapseWarning",
    "Elbo",
    "Latents",
    "Likelihood",
    "Ranking",
    "RateDistortion",
    "Reconstruction",
    "Samples",
    "Share",
    "anomalies",
    "atoms",
    "binarised",
    "dequantised",
    "elbo",
    "heading",
    "latents",
    "likelihood",
    "rate_distortion",
    "reconstruction",
    "samples",
    "watch_collapse",
]
