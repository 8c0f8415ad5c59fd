"""One short function a paper: a signature, a docstring, one composition.

Every function takes the shape of a sample first and a `seed` for the initial weights, and returns a
`Model` that remembers its recipe. `register` adds a builder of your own, which files and the command
line then know by its name.
"""

from psiphi.basis.registry import models as _models
from psiphi.zoo._autoencoders import ae, vae
from psiphi.zoo._classifiers import classifier
from psiphi.zoo._linear import pca

register = _models.register

__all__ = ["ae", "classifier", "pca", "register", "vae"]
