"""Representations and densities: an autoencoder as a transformer, any likelihood model as a density."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.estimators._base import Estimator


def has(verb: str) -> Any:
    """For `available_if`: whether the model has this verb; before `fit` nobody knows, and the answer is yes."""
    return lambda self: not hasattr(self, "model_") or hasattr(self.model_, verb)


class _Sampled(Estimator):
    def _log_prob(self, X: Any) -> np.ndarray:
        """ln p(x); a model that estimates it draws the same noise for every row, so that order has no say."""
        model = self.model_

        def each(x: Tensor) -> Tensor:
            same = Noise.of(0, torch.zeros(len(x), dtype=torch.long), model.device, model.dtype)
            return model.log_prob(x, seed=same)

        return self._ask(each, X)

    @available_if(has("sample"))
    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draws from p(x), (n_samples, features); row i of a seed is the same however many are drawn."""
        check_is_fitted(self)
        seed = self._seed(random_state)
        with torch.no_grad():
            return self.model_.sample(n_samples, seed=seed, exact=True).flatten(1).numpy()


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Sampled):
    """Codes of rows by any autoencoder of the zoo, as a transformer.

    model: its name, e.g. `ae`, `k_sparse_ae`, `denoising_ae`, `vae`, `pca`; latent_dim: numbers a code; hidden: widths
    of the encoder, mirrored in the decoder. shape: of one sample where rows are flat pictures, e.g. (1, 28, 28).
    epochs, batch_size, lr: of training (lr None: the model's own). model_args: further arguments of the zoo's
    function, e.g. {"k": 5}. X: array, data frame or CSR matrix, as it is: put a scaler before it where columns have
    different units.

    After `fit`: `model_` (the psiphi model, with all its verbs), `loss_curve_`, `n_features_in_`.
    """

    def __init__(
        self,
        model: str = "ae",
        latent_dim: int = 8,
        *,
        hidden: Any = None,
        shape: Any = None,
        epochs: int = 30,
        batch_size: int = 128,
        lr: float | None = None,
        random_state: Any = None,
        model_args: Any = None,
    ):
        self.model = model
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.shape = shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.model_args = model_args

    def fit(self, X: Any, y: Any = None) -> Autoencoder:
        """Train on the rows of X; y is ignored."""
        X, seed = self._rows(X, reset=True), self._seed()
        model = self._build(
            self.model, self._shape(X.shape[1]), seed, latent_dim=self.latent_dim, hidden=self.hidden
        )
        for verb in ("encode", "decode"):
            if not hasattr(model, verb):
                raise ArgumentError(
                    f"{self.model} cannot {verb}, so it is no autoencoder: choose model='ae' or 'vae'."
                )
        return self._train(model, X, seed=seed)

    def transform(self, X: Any) -> np.ndarray:
        """E[z|x], (n, latent_dim)."""
        X = self._rows(X)
        return self._ask(lambda x: self.model_.encode(x).flatten(1), X)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """E[x|z] of codes, (n, latent_dim) -> (n, features)."""
        check_is_fitted(self)
        Z: Any = check_array(X, dtype=[np.float64, np.float32])  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            x = self.model_.decode(torch.from_numpy(np.array(Z))).flatten(1)
        return x.numpy().astype(Z.dtype)

    def score_samples(self, X: Any) -> np.ndarray:
        """ln p(x) in nats where the model has a likelihood, else −‖x − ψ(φ(x))‖², (n,); higher = more normal."""
        X = self._rows(X)
        if hasattr(self.model_, "log_prob") and self.model_.measure != "loss-only":
            return self._log_prob(X)
        return self._ask(lambda x: -(x - self.model_.reconstruct(x)).square().flatten(1).sum(1), X)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return int(getattr(self.model_, "latent_dim", None) or self.model_.components)


class DensityEstimator(DensityMixin, _Sampled):
    """ln p(x) of rows by any model of the zoo that has a likelihood.

    model: its name, e.g. `gaussian_mixture`, `pca`, `vae`, `iwae`; components, latent_dim, hidden: go to those models
    that have them. The other arguments are those of `Autoencoder`.

    After `fit`: `model_`, `loss_curve_`, `n_features_in_`.
    """

    def __init__(
        self,
        model: str = "gaussian_mixture",
        *,
        components: int = 8,
        latent_dim: int = 8,
        hidden: Any = None,
        shape: Any = None,
        epochs: int = 30,
        batch_size: int = 128,
        lr: float | None = None,
        random_state: Any = None,
        model_args: Any = None,
    ):
        self.model = model
        self.components = components
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.shape = shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.model_args = model_args

    def fit(self, X: Any, y: Any = None) -> DensityEstimator:
        """Train on the rows of X; y is ignored."""
        X, seed = self._rows(X, reset=True), self._seed()
        given = dict(components=self.components, latent_dim=self.latent_dim, hidden=self.hidden)
        model: Any = self._build(self.model, self._shape(X.shape[1]), seed, **given)
        if not hasattr(model, "log_prob") or model.measure == "loss-only":
            raise ArgumentError(
                f"{self.model} has no density: choose model='gaussian_mixture', 'pca' or 'vae'."
            )
        return self._train(model, X, seed=seed)

    def score_samples(self, X: Any) -> np.ndarray:
        """ln p(x) in nats, (n,)."""
        return self._log_prob(self._rows(X))

    def score(self, X: Any, y: Any = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Mean ln p(x), in nats a row."""
        return float(self.score_samples(X).mean())
