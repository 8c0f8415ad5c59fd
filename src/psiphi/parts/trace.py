"""What one pass of a latent-variable model leaves behind, for the terms of an objective to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.formulas.bounds import log_weights


@dataclass(frozen=True)
class LatentTrace:
    """One pass x -> q(z|x) -> z -> p(x|z), with K samples of z a row.

    x: (B, *shape), what is to be explained; x_in: what the encoder saw; q: (B, …); z: (K, B, …);
    p: (K, B, …); prior: broadcasts against z, or None; where: observed coordinates, bool like x, or None;
    log_q: ln q(z|x), (K, B), where the rate has no closed form; y: labels (B,), −1 unknown, or None;
    noise: the rows' own; parts: modules that terms ask, critics by name and the decoder.
    """

    x: Tensor
    x_in: Tensor
    q: Any
    z: Tensor
    p: Any
    prior: Any
    where: Tensor | None = None
    log_q: Tensor | None = None
    y: Tensor | None = None
    noise: Noise | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log_weights(self) -> Tensor:
        """ln w = ln p(x|z) + ln p(z) − ln q(z|x) of each sample, (K, B)."""
        log_q = self.q.log_prob(self.z) if self.log_q is None else self.log_q
        return log_weights(self.p.log_prob(self.x, self.where), self.prior.log_prob(self.z), log_q)
