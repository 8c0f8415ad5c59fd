"""Expectation-maximisation by scikit-learn, started from k-means, into the tensors of a `Mixture`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from psiphi.basis.errors import DataError
from psiphi.basis.noise import generator, mix
from psiphi.models._mixture import Mixture

IN_MEMORY_NUMBERS = 1 << 28
TOLERANCE = 1e-4  # nats a row: less gain in an iteration ends it


@dataclass(frozen=True)
class ExpectationMaximisation:
    """A solver for `Mixture`: the best of `restarts` runs of at most `iterations` iterations.

    Source: Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977.
    """

    iterations: int
    restarts: int
    seed: int

    def __call__(self, model: Mixture, rows: int, gather: Any) -> dict[str, float]:
        """Fit to the rows, up to 2²⁸ numbers of them (beyond, to as many drawn by the seed)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        u = self._rows(model, rows, gather)
        _check_distinct(u, model.components)
        found: Any = GaussianMixture(
            model.components,
            covariance_type=model.covariance,  # pyright: ignore[reportArgumentType]
            reg_covar=model.floor,
            tol=TOLERANCE,
            max_iter=self.iterations,
            n_init=self.restarts,
            random_state=mix(self.seed, "em") % (1 << 32),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said in the returned numbers
            try:
                found.fit(u)
            except ValueError as error:
                if "covariance" not in str(error):
                    raise
                raise DataError(
                    f"a component has a singular covariance at reg_covar={model.floor:g}: raise it, ask for fewer "
                    f"components than {model.components}, or choose covariance='diag' or 'spherical'."
                ) from None
        weights, means, covariances = (
            torch.as_tensor(each) for each in (found.weights_, found.means_, found.covariances_)
        )
        if model.factors.ndim == 2:
            scale = covariances.sqrt().reshape(model.factors.shape)
        else:
            scale = torch.linalg.cholesky(covariances).reshape(model.factors.shape)
        model.load_parameters(weights, means, scale)
        nll = -float(found.score(u)) + u.shape[1] * float(model.statistics.sigma.log())
        return {
            "loss": nll,
            "nll": nll,
            "iterations": float(found.n_iter_),
            "converged": float(found.converged_),
        }

    def _rows(self, model: Mixture, rows: int, gather: Any) -> np.ndarray:
        index, most = torch.arange(rows), max(2, IN_MEMORY_NUMBERS // model.means.shape[1])
        if rows > most:
            index = torch.randperm(rows, generator=generator(self.seed, "rows"))[:most].sort().values
        x = gather(index).flatten(1).cpu().double()
        mean, sigma = model.statistics.mean.flatten().cpu().double(), float(model.statistics.sigma)
        return ((x - mean) / sigma).numpy()


def _check_distinct(u: np.ndarray, wanted: int) -> None:
    seen: set[bytes] = set()
    for row in u:
        seen.add(row.tobytes())
        if len(seen) >= wanted:
            return
    raise DataError(
        f"{wanted} components need at least as many distinct rows; there are {len(seen)}: ask for at most "
        f"{len(seen)} components."
    )
