"""Outliers: rows that generative models of normal rows find improbable."""

from __future__ import annotations

from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import OutlierMixin
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import generator, mix
from psiphi.basis.registry import models
from psiphi.estimators._base import ROWS, Estimator, dense
from psiphi.formulas import conformal
from psiphi.models import Mixture, Model
from psiphi.parts import adam
from psiphi.training import fit
from psiphi.training.schedules import cosine

MIXTURES = {"full": 50, "diag": 50, "spherical": 100}  # covariances: most components
FLOOR = 0.1  # added to every variance, in units of the columns' own
PULL = 0.5  # added to the variances of a component besides, divided by the rows it explains
WORK = 2e8  # most multiplications in an iteration of a mixture with full covariances
WIDE = 2000  # columns beyond which full covariances are left out
NUMBERS = 1 << 27  # most numbers to learn from
FAR = 1e15  # standard deviations beyond which distance no longer counts
BATCH = 128


class OutlierDetector(OutlierMixin, Estimator):
    """Score of a row: how probable generative models of the zoo, trained on the rows of `fit`, find it.

    The default, `model="mixtures"`, is (1/3) Σ_m ln p_m(x): the logarithm of the geometric mean of three densities,
    each a `gaussian_mixture`, with full covariances (at most 50 components), diagonal ones (50) and spherical ones
    (100). To the covariance of a component that explains n_k rows (0.1 + 1/(2 n_k)) I is added, columns in units of
    their standard deviation, so that no row, alone or one of a few, makes a peak of its own. Another name of
    the zoo, e.g. `vae`, `pca` or `gaussian_mixture`, scores by that model's `anomaly_score` alone. X comes as it is.

    contamination: share of the rows of `fit` below `offset_`, the score at which `predict` turns from 1 to −1.
    folds: 0 takes it from the rows' own scores, which flatter rows that the models have seen; 2 or more from those
    of models that have not seen them (cross-conformal), so that about `contamination` of fresh rows like those of
    `fit` are refused, at the cost of that many fits more. held_out: the share of the rows, drawn by `random_state`,
    that the models do not see and that alone set `offset_` (split conformal): a fresh row that is exchangeable with
    them is then refused with probability at most `contamination`. max_rows: the most rows to learn from, drawn by
    `random_state`. steps: of models that learn by gradient. model_args: further arguments of the zoo's function.

    After `fit`: `models_` (psiphi models of standardised rows), `mean_`, `scale_`, `offset_`, `n_features_in_`.
    NaN and infinity are refused; ties, constant columns and repeated rows are not.
    Sources: Dempster, Laird, Rubin, 1977 (mixtures); Genest & Zidek, "Combining probability distributions", 1986
    (geometric mean); Vovk, "Cross-conformal predictors", 2015; Vovk, Gammerman, Shafer, "Algorithmic learning in a
    random world", 2005, chapter 4 (held-out rows).
    """

    models_: tuple[Model, ...]
    mean_: np.ndarray
    scale_: np.ndarray
    offset_: float

    def __init__(
        self,
        model: str = "mixtures",
        *,
        contamination: float = 0.1,
        folds: int = 0,
        held_out: float = 0.0,
        max_rows: int = 20_000,
        steps: int = 1500,
        random_state: Any = None,
        model_args: Any = None,
    ):
        self.model = model
        self.contamination = contamination
        self.folds = folds
        self.held_out = held_out
        self.max_rows = max_rows
        self.steps = steps
        self.random_state = random_state
        self.model_args = model_args

    def fit(self, X: Any, y: Any = None) -> OutlierDetector:
        """Learn what rows like those of X look like; y is ignored."""
        self._check()
        X, seed = self._rows(X, reset=True), self._seed()
        apart = None
        if self.held_out:
            X, apart = self._parted(X, seed)
        most = min(self.max_rows, max(2, NUMBERS // X.shape[1]))
        seen = dense(X[_some(X.shape[0], most, seed)]).double().numpy()
        self.mean_, self.scale_, self.models_ = self._learnt(seen, seed)
        if apart is not None:
            self.offset_ = _conformal(self._scores(apart), self.contamination)
        elif self.folds:
            self.offset_ = _conformal(self._unseen_scores(seen, seed), self.contamination)
        else:
            self.offset_ = float(np.percentile(self._scores(X), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """ln of the (mean) density, in nats up to a constant, (n,); higher = more normal."""
        return self._scores(self._rows(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` − `offset_`, (n,); negative for outliers."""
        scores = self.score_samples(X)
        return scores - scores.dtype.type(self.offset_)

    def predict(self, X: Any) -> np.ndarray:
        """1 for rows like those of `fit`, −1 for outliers, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _scores(self, X: Any) -> np.ndarray:
        parts = [
            _score(dense(X[i : i + ROWS]).double().numpy(), self.mean_, self.scale_, self.models_)
            for i in range(0, X.shape[0], ROWS)
        ]
        return np.concatenate(parts).astype(X.dtype)

    def _parted(self, X: Any, seed: int) -> tuple[Any, Any]:
        """Rows to learn from, and rows to set the threshold on."""
        n = X.shape[0]
        apart = min(round(self.held_out * n), n - 2)
        if not conformal.spared(max(apart, 0), self.contamination):
            needed = conformal.least_rows(self.contamination)
            raise DataError(
                f"contamination={self.contamination:g} needs {needed} held-out rows at least, and held_out="
                f"{self.held_out:g} of {n} rows are {max(apart, 0)}: give more rows, or a larger share of either."
            )
        order = torch.randperm(n, generator=generator(seed, "held out")).numpy()
        return X[np.sort(order[apart:])], X[np.sort(order[:apart])]

    def _unseen_scores(self, X: np.ndarray, seed: int) -> np.ndarray:
        """Score of each row by models that have not seen it, (n,)."""
        folds = min(self.folds, len(X))
        fold = torch.randperm(len(X), generator=generator(seed, "folds")).numpy() % folds
        scores = np.empty(len(X))
        for k in range(folds):
            scores[fold == k] = _score(X[fold == k], *self._learnt(X[fold != k], mix(seed, k) >> 1))
        return scores

    def _learnt(self, X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[Model, ...]]:
        """Mean and scale of the columns, and models of the rows in these units."""
        mean, scale = _units(X)
        u = _standardised(X, mean, scale)
        members = _members(self.model, *u.shape, distinct=len(u.unique(dim=0)))
        return (
            mean,
            scale,
            tuple(_trained(self._member(*each, u, seed), u, self.steps, seed) for each in members),
        )

    def _member(self, name: str, suited: dict[str, Any], u: Tensor, seed: int) -> Model:
        own = self.model_args or {}
        suited = {each: value for each, value in suited.items() if each not in own}
        model = self._build(name, (u.shape[1],), seed, **suited)
        if not hasattr(model, "anomaly_score"):
            raise ArgumentError(f"{name} has no anomaly_score: choose model='mixtures', 'vae' or 'pca'.")
        return model

    def _check(self) -> None:
        if self.model != "mixtures":
            models[self.model]  # raises where there is none of this name
        if not isinstance(self.contamination, Real) or not 0 < self.contamination <= 0.5:
            raise ArgumentError(f"contamination is a share in (0, 0.5]; got {self.contamination!r}.")
        if not isinstance(self.folds, Integral) or self.folds < 0 or self.folds == 1:
            raise ArgumentError(f"folds is 0, or a whole number of at least 2; got {self.folds!r}.")
        if not isinstance(self.held_out, Real) or not 0 <= self.held_out < 1:
            raise ArgumentError(f"held_out is a share in [0, 1); got {self.held_out!r}.")
        if self.held_out and self.folds:
            raise ArgumentError(
                f"the threshold is set by folds or by held-out rows: leave out folds={self.folds}."
            )
        if not isinstance(self.max_rows, Integral) or self.max_rows < 2:
            raise ArgumentError(f"max_rows is a whole number of at least 2; got {self.max_rows!r}.")


def _members(model: str, n: int, d: int, distinct: int) -> list[tuple[str, dict[str, Any]]]:
    """Names of the zoo with arguments that suit n rows of d columns, `distinct` of them different."""
    if model != "mixtures":
        network = dict(latent_dim=ceil(d / 2), hidden=(128,), likelihood="gaussian:0.3")
        return [(model, {**network, **_mixture("full", n, d, distinct)})]
    kinds = [each for each in MIXTURES if each != "full" or d <= WIDE]
    return [("gaussian_mixture", _mixture(each, n, d, distinct)) for each in kinds]


def _mixture(covariance: str, n: int, d: int, distinct: int) -> dict[str, Any]:
    most = min(MIXTURES[covariance], n // 2, distinct)
    if covariance == "full":
        most = min(most, int(WORK / (n * d * d)))
    return dict(components=max(1, most), covariance=covariance, reg_covar=FLOOR, iterations=30)


def _trained(model: Model, u: Tensor, steps: int, seed: int) -> Model:
    """Trained on u (n, d) and in double precision; networks learn in single precision."""
    if hasattr(model, "solve"):
        model.double()
    rule = adam(1e-3, clip=1.0, schedule=cosine())
    fit(model, u.to(model.dtype), steps=steps, batch_size=BATCH, optimizer=rule, seed=seed, quiet=True)
    if isinstance(model, Mixture):
        _widen(model, len(u))
    return model.double()


def _widen(model: Mixture, n: int) -> None:
    """Σ_k + I/(2 n_k) in units of the columns, n_k = n w_k: a component of a single row is nearly as wide as all."""
    shares, scale = model.weights, model.scale
    rows = (n * shares).clamp(min=1) if len(scale) == len(shares) else shares.new_full((1,), n)
    extra = PULL / (rows * model.statistics.sigma.square())
    if scale.ndim == 2:
        scale = (scale.square() + extra[:, None]).sqrt()
    else:
        unit = torch.eye(scale.shape[-1], dtype=scale.dtype)
        scale = torch.linalg.cholesky(scale @ scale.transpose(1, 2) + extra[:, None, None] * unit)
    model.load_parameters(shares, model.means, scale)


def _score(X: np.ndarray, mean: np.ndarray, scale: np.ndarray, pool: tuple[Model, ...]) -> np.ndarray:
    u = _standardised(X, mean, scale)
    with torch.no_grad():
        return -torch.stack([model.anomaly_score(u) for model in pool]).mean(0).numpy()


def _units(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, 1 for a column that is constant but for rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = X.mean(0), X.std(0)
    if not np.isfinite(scale).all():
        raise DataError(
            f"X reaches {np.abs(X).max():.1g}, whose square is no number: divide its columns by their size."
        )
    rounding = 10 * np.finfo(X.dtype).eps * np.abs(X).max(0)
    return mean, np.where(scale > rounding, scale, 1.0)


def _standardised(X: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.clip((X - mean) / scale, -FAR, FAR))


def _some(n: int, most: int, seed: int) -> np.ndarray | slice:
    if n <= most:
        return slice(None)
    return torch.randperm(n, generator=generator(seed, "rows"))[:most].sort().values.numpy()


def _conformal(scores: np.ndarray, share: float) -> float:
    """The ⌊share (n + 1)⌋-th smallest score: a fresh one is below it with probability at most `share`."""
    return -conformal.threshold(-torch.as_tensor(scores), share)
