"""What one pass of a latent-variable model leaves behind, for the terms of an objective to read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from psiphi.formulas.distributions import Distribution, Likelihood


@dataclass(frozen=True)
class LatentTrace:
    """One pass x -> q(z|x) -> z -> p(x|z), with K samples of z a row.

    x: (B, *shape), what is to be explained; x_in: what the encoder saw; q: (B, …); z: (K, B, …);
    p: (K, B, …); prior: broadcasts against z, or None; where: observed coordinates, bool like x, or None.
    """

    x: Tensor
    x_in: Tensor
    q: Distribution
    z: Tensor
    p: Likelihood
    prior: Distribution | None
    where: Tensor | None = None
