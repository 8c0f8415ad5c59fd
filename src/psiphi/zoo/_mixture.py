"""Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.models import Mixture
from psiphi.models._em import ExpectationMaximisation
from psiphi.models._mixture import FACTORS
from psiphi.parts import Statistics
from psiphi.zoo._build import check_weights

METHODS = ("em", "gradient")


@models.register
def gaussian_mixture(
    shape: int | Sequence[int],
    components: int = 8,
    *,
    covariance: str = "full",
    method: str = "em",
    reg_covar: float = 1e-6,
    iterations: int = 200,
    restarts: int = 1,
    seed: int = 0,
) -> Mixture:
    """Gaussian mixture: p(x) = Σ_k w_k N(x; μ_k, Σ_k), the latent-variable model with every answer in closed form.

    components: K; covariance: `full`, `tied`, `diag` or `spherical`. method: `em` (scikit-learn's, from k-means;
    epochs and learning rate have no say) or `gradient` (−ln p(x) as any other loss, from a random start:
    another seed may end elsewhere).
    reg_covar: added to every variance by `em`, the least variance by `gradient`, in units of the data's σ².
    iterations, restarts: of `em`, at most so many, and the best of so many runs.
    Source: Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977.
    """
    shape = as_shape(shape)
    check_weights(reg_covar=reg_covar)
    for name, value in (("components", components), ("iterations", iterations), ("restarts", restarts)):
        if not isinstance(value, Integral) or value < 1:
            raise ArgumentError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if covariance not in FACTORS or method not in METHODS:
        raise ArgumentError(
            f"covariance is one of {', '.join(FACTORS)} and method one of {', '.join(METHODS)}; got {covariance!r} "
            f"and {method!r}."
        )
    em = ExpectationMaximisation(iterations, restarts, seed) if method == "em" else None
    return Mixture(Statistics(shape), components, covariance, floor=reg_covar, solver=em, seed=seed)
