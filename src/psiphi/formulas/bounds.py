"""What follows from log-weights ln w = ln p(x, z) − ln q(z|x): the bound and the importance sampler."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from jaxtyping import Float
from torch import Tensor


def log_weights(log_likelihood: Tensor, log_prior: Tensor, log_q: Tensor) -> Tensor:
    """ln w = ln p(x|z) + ln p(z) − ln q(z|x) of draws z ~ q, in whatever shape they come.

    Source: Kingma & Welling, "Auto-encoding variational Bayes", 2013, app. D.
    """
    return log_likelihood + log_prior - log_q


def log_mean_exp(log_w: Float[Tensor, "k *b"]) -> Float[Tensor, " *b"]:
    """ln (1/K) Σ_k w_k: the importance-weighted bound, and the estimate of ln p(x).

    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """
    return log_w.logsumexp(0) - log(len(log_w))


@dataclass(frozen=True)
class ImportanceSums:
    """Sums of K weights of each point, kept as ln Σw and ln Σw²."""

    log_sum: Tensor
    log_sum_squares: Tensor
    samples: int

    @staticmethod
    def of(log_w: Float[Tensor, "k b"]) -> ImportanceSums:
        return ImportanceSums(log_w.logsumexp(0), (2 * log_w).logsumexp(0), len(log_w))

    @property
    def estimate(self) -> Tensor:
        """ln (1/K) Σ w, (B,), in nats."""
        return self.log_sum - log(self.samples)

    @property
    def effective(self) -> Tensor:
        """Effective sample size 1 / Σ w̃², with normalised weights w̃, (B,)."""
        return (2 * self.log_sum - self.log_sum_squares).exp()

    @property
    def standard_error(self) -> Tensor:
        """SE of the estimate: SE² ≈ Σ w̃² − 1/K (delta method), (B,). The bias is about −SE²/2."""
        return (1 / self.effective - 1 / self.samples).clamp(min=0).sqrt()
