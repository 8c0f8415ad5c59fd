"""What the estimators share: checked rows in, a model inside, arrays of the input's dtype out.

A constructor only stores; what is learnt ends in `_`. Networks train in single precision whatever comes, models
with a closed form in the precision of the rows; after training the model has the precision of the rows, so that an
answer does not depend on the rows beside it. Sparse rows (CSR) are made dense a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

import psiphi.zoo  # noqa: F401  registers the builders
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.registry import models
from psiphi.basis.shapes import Shape, as_shape
from psiphi.data.streams import Indexed, Source, as_source
from psiphi.models import Model
from psiphi.models._files import from_bytes, to_bytes
from psiphi.training import fit

ROWS = 4096  # asked of a model at once
MODEL = "psiphi model"  # how a state names bytes that are one


class Estimator(BaseEstimator):
    """Rows in, a trained `Model` in `model_`, answers out as arrays.

    Its state is plain: a model in it is bytes of safetensors with the recipe in their header.
    """

    shape: Any
    epochs: int
    batch_size: int
    lr: float | None
    random_state: Any
    model_: Any
    loss_curve_: list[float]

    def _rows(self, X: Any, *, reset: bool = False, **options: Any) -> Any:
        """X as a checked float array or CSR matrix, (n, features); `reset` in fit, where two rows are needed.

        options: of `validate_data`; with y among them the answer is (X, y).
        """
        if not reset:
            check_is_fitted(self)
        usual = dict(
            accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2 if reset else 1
        )
        return validate_data(self, X, reset=reset, **{**usual, **options})

    def _seed(self, random_state: Any = None) -> int:
        """A seed from this random state, or that of the constructor, by scikit-learn's rule."""
        state = self.random_state if random_state is None else random_state
        return int(check_random_state(state).randint(np.iinfo(np.int32).max))

    def _shape(self, features: int) -> Shape:
        """The shape of a sample: that of the rows, or `shape` where rows are flat pictures."""
        if self.shape is None:
            return (features,)
        shape = as_shape(self.shape)
        if prod(shape) != features:
            raise DataError(f"X has {features} features, and shape={self.shape!r} needs {prod(shape)}.")
        return shape

    def _build(self, model: str, shape: Shape, seed: int, **arguments: Any) -> Model:
        """The zoo's model with those of the arguments that it takes and that were given."""
        entry = models[model]
        given = {
            name: value for name, value in arguments.items() if value is not None and name in entry.parameters
        }
        return entry.build(shape, **given, **_own(entry.name, entry.parameters, self.get_params()), seed=seed)

    def _train(self, model: Any, X: Any, y: Any = None, seed: int = 0, **options: Any) -> Any:
        """Train on the rows, and leave the model in `model_` in the precision of X, the losses in `loss_curve_`."""
        at = torch.float64 if X.dtype == np.float64 else torch.float32
        if hasattr(model, "solve"):
            model.to(at)
        history = fit(
            model,
            source(X, y, model.shape, model.dtype),
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=seed,
            quiet=True,
            **options,
        )
        self.model_ = model.to(at)
        self.loss_curve_ = [row["loss"] for row in history.rows if "loss" in row]
        return self

    def _ask(self, call: Callable[[Tensor], Tensor], X: Any) -> np.ndarray:
        """`call` on rows of X, which are flat unless the model's samples are not; the answer in X's dtype."""
        with torch.no_grad():
            parts = [
                call(dense(X[i : i + ROWS]).view(-1, *self.model_.shape)).numpy()
                for i in range(0, X.shape[0], ROWS)
            ]
        answer = np.concatenate(parts)
        return answer.astype(X.dtype) if answer.dtype.kind == "f" else answer

    def __getstate__(self) -> Any:
        return _packed(super().__getstate__())

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(_unpacked(state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def source(X: Any, y: Any, shape: Shape, dtype: torch.dtype) -> Source:
    """The rows of an array or CSR matrix as `fit` reads them, (n, *shape), dense a batch at a time."""
    labels = None if y is None else torch.from_numpy(np.array(y, dtype=np.int64))
    if isinstance(X, np.ndarray):
        return as_source(dense(X).to(dtype).view(-1, *shape), labels, check=False)

    def gather(rows: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        index = rows if isinstance(rows, slice) else rows.numpy()
        x = dense(X[index]).to(dtype).view(-1, *shape)
        return x, None if labels is None else labels[rows]

    return Indexed(gather, X.shape[0], shape, dtype, labels is not None)


def dense(X: Any) -> Tensor:
    """A tensor of its own, from an array or a sparse matrix."""
    return torch.from_numpy(np.array(X.toarray() if hasattr(X, "toarray") else X))


def _own(name: str, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`model_args`, checked against the builder's signature."""
    arguments = dict(given.get("model_args") or {})
    for each in arguments:
        if each not in parameters:
            raise ArgumentError(
                f"the model {name} has no argument {each}; model_args may hold {', '.join(parameters)}."
            )
    return arguments


def _packed(value: Any) -> Any:
    if isinstance(value, Model):
        return {MODEL: to_bytes(value)}
    if isinstance(value, dict):
        return {key: _packed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_packed(each) for each in value)
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            from_bytes(value[MODEL]) if set(value) == {MODEL} else {k: _unpacked(v) for k, v in value.items()}
        )
    if isinstance(value, list | tuple):
        return type(value)(_unpacked(each) for each in value)
    return value
