"""Models and their verbs: what can be asked of a thing that has learnt the data."""

from psiphi.models._base import Model, verb
from psiphi.models._classifier import Classifier
from psiphi.models._files import load, save
from psiphi.models._latent import LatentModel
from psiphi.models._linear import Linear

__all__ = ["Classifier", "LatentModel", "Linear", "Model", "load", "save", "verb"]
