from __future__ import annotations

from collections.abc import Sequence

from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.models import Linear
from psiphi.parts import Statistics
from psiphi.zoo._build import check_latent


@models.register
def pca(shape: int | Sequence[int], latent_dim: int = 8, *, seed: int = 0) -> Linear:
    """Principal component analysis: the d-dimensional affine subspace of least squared error.

    Fitted by scikit-learn; `log_prob` and `sample` are those of its density. No draw is made in fitting, so
    `seed` has no effect; it is there so that every model is built alike.
    Source: Tipping & Bishop, "Probabilistic principal component analysis", 1999.
    """
    shape = as_shape(shape)
    check_latent(latent_dim, shape)
    return Linear(Statistics(shape), latent_dim)
