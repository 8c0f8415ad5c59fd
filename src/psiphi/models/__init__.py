"""Models and their verbs: what can be asked of a thing that has learnt the data."""

from psiphi.models._base import Model, verb
from psiphi.models._classifier import Classifier, cross_entropy_loss
from psiphi.models._denoiser import DenoiserModel
from psiphi.models._files import load, save
from psiphi.models._generator import Generator
from psiphi.models._labelled import LabelledModel
from psiphi.models._latent import LatentModel
from psiphi.models._linear import Linear
from psiphi.models._mixture import Mixture
from psiphi.models._penultimate import Penultimate
from psiphi.models._search import Nearest, nearest_code

__all__ = [
    "Classifier",
    "DenoiserModel",
    "Generator",
    "LabelledModel",
    "LatentModel",
    "Linear",
    "Mixture",
    "Model",
    "Nearest",
    "Penultimate",
    "cross_entropy_loss",
    "load",
    "nearest_code",
    "save",
    "verb",
]
