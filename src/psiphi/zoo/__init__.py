"""One short function a paper: a signature, a docstring, one composition.

Every function takes the shape of a sample first and a `seed` for the initial weights, and returns a
`Model` that remembers its recipe. `register` adds a builder of your own, which files and the command
line then know by its name.
"""

from psiphi.basis.registry import models as _models
from psiphi.zoo._adversarial import gan, wgan, wgan_gp
from psiphi.zoo._autoencoders import ae, contractive_ae, denoising_ae, k_sparse_ae, sparse_ae
from psiphi.zoo._classifiers import classifier
from psiphi.zoo._diffusion import ddpm, edm, score_model
from psiphi.zoo._linear import pca
from psiphi.zoo._matched import aae, factor_vae, info_vae, semi_supervised_aae, vae_gan, waae, wae_mmd
from psiphi.zoo._mixture import gaussian_mixture
from psiphi.zoo._variational import conditional_vae, iwae, semi_supervised_vae, supervised_vae, vae

register = _models.register

__all__ = [
    "aae",
    "ae",
    "classifier",
    "conditional_vae",
    "contractive_ae",
    "ddpm",
    "denoising_ae",
    "edm",
    "factor_vae",
    "gan",
    "gaussian_mixture",
    "info_vae",
    "iwae",
    "k_sparse_ae",
    "pca",
    "register",
    "score_model",
    "semi_supervised_aae",
    "semi_supervised_vae",
    "sparse_ae",
    "supervised_vae",
    "vae",
    "vae_gan",
    "waae",
    "wae_mmd",
    "wgan",
    "wgan_gp",
]
