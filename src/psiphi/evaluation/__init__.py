"""Judgement: numbers about a model, each with its error and what it was measured on."""

from psiphi.evaluation._likelihood import Likelihood, likelihood
from psiphi.evaluation._reconstruction import Reconstruction, reconstruction
from psiphi.evaluation._samples import Samples, samples

__all__ = ["Likelihood", "Reconstruction", "Samples", "likelihood", "reconstruction", "samples"]
