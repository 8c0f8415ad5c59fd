"""Classification where few labels are known, by a generative model of all rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.estimators._base import Estimator

UNKNOWN = -1


class SemiSupervisedClassifier(ClassifierMixin, Estimator):
    """Labels of rows from few known ones and the shape of all rows: M2, `zoo.semi_supervised_vae`.

    In `fit`, y is −1 where a label is unknown, as in `sklearn.semi_supervised`. (Where y holds −1 and one other label
    only, they are the two classes, and a warning says so.) alpha: weight of −ln q(y|x) of a labelled row (None: the
    zoo's own; the paper's is 0.1 n / n_labelled). The other arguments are those of `Autoencoder`; model: any model of
    the zoo with q(y|x) that takes `classes`.

    After `fit`: `classes_`, `model_`, `loss_curve_`, `n_features_in_`.
    Source: Kingma, Rezende, Mohamed, Welling, "Semi-supervised learning with deep generative models", 2014, eq. 9.
    """

    classes_: np.ndarray

    def __init__(
        self,
        model: str = "semi_supervised_vae",
        latent_dim: int = 8,
        *,
        alpha: float | None = None,
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
        self.alpha = alpha
        self.hidden = hidden
        self.shape = shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.model_args = model_args

    def fit(self, X: Any, y: Any) -> SemiSupervisedClassifier:
        """Train on all rows; y: (n,) labels of any kind, −1 where unknown."""
        (X, y), seed = self._rows(X, y=y, reset=True), self._seed()
        known = np.ones(len(y), dtype=bool) if y.dtype.kind in "US" else np.asarray(y != UNKNOWN)
        if not known.all() and len(np.unique(y[known])) == 1:
            warnings.warn(
                "y holds -1 and one other label: they are taken as two classes, and no label as unknown.",
                stacklevel=2,
            )
            known[:] = True
        check_classification_targets(y[known])
        self.classes_ = np.unique(y[known])
        if len(self.classes_) < 2:
            raise DataError(f"y names {len(self.classes_)} class; a classifier needs at least two classes.")
        index = np.full(len(y), UNKNOWN)
        index[known] = np.searchsorted(self.classes_, y[known])
        given = dict(
            classes=len(self.classes_), latent_dim=self.latent_dim, alpha=self.alpha, hidden=self.hidden
        )
        return self._train(self._build(self.model, self._shape(X.shape[1]), seed, **given), X, index, seed)

    def predict_proba(self, X: Any) -> np.ndarray:
        """q(y|x), (n, classes), columns in the order of `classes_`."""

        def shares(x: Tensor) -> Tensor:
            return self.model_.log_q(x).exp()

        return self._ask(shares, self._rows(X))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label, (n,)."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]
