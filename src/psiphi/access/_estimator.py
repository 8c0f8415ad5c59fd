"""Classifiers of scikit-learn's convention as functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from psiphi.basis.errors import AccessError, ArgumentError


class Estimator:
    """A fitted classifier as arrays (n, *x) -> scores (n, K), or labels (n,) as places in its `classes_`."""

    def __init__(self, model: Any, reveal: str):
        self.__name__ = type(model).__name__
        classes = getattr(model, "classes_", None)
        if not isinstance(classes, np.ndarray) or classes.ndim != 1:
            raise ArgumentError(
                f"{self.__name__} has no classes_: a fitted classifier of one label is needed; fit it first, or give a "
                "function of x."
            )
        self.model, self.classes, self.reveal = model, classes, reveal
        self.unbounded = hasattr(model, "decision_function")
        if reveal == "scores" and not (self.unbounded or hasattr(model, "predict_proba")):
            raise ArgumentError(
                f"{self.__name__} has neither decision_function nor predict_proba: say reveal='labels'."
            )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if x.ndim > 2 and getattr(self.model, "n_features_in_", None) is not None:
            x = x.reshape(len(x), -1)
        if self.reveal == "labels":
            order = np.argsort(self.classes)
            return order[np.searchsorted(self.classes, self.model.predict(x), sorter=order)]
        if not self.unbounded:
            return self.model.predict_proba(x)
        scores = np.asarray(self.model.decision_function(x))
        if scores.ndim == 1:
            return np.stack((np.zeros_like(scores), scores), 1)
        if scores.shape[1] != len(self.classes):
            raise AccessError(
                f"{self.__name__}.decision_function gives {scores.shape[1]} numbers for {len(self.classes)} classes: "
                "set decision_function_shape='ovr', or say reveal='labels'."
            )
        return scores
