"""What is missing given what is seen: the factor model in closed form, and weights of draws of a code."""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def factor_conditional(
    x: Float[Tensor, "b D"],
    seen: Bool[Tensor, "b D"],
    mean: Float[Tensor, " D"],
    weight: Float[Tensor, "D d"],
    variance: Float[Tensor, ""],
) -> Float[Tensor, "b D"]:
    """E[x|x_o] of x = m + W z + σ ξ, z ~ N(0, I): m + W (W_oᵀW_o + σ²I)⁻¹ W_oᵀ(x_o − m_o), the mean without noise.

    W_o: the rows of W that are seen. It equals m + C_·o C_oo⁻¹ (x_o − m_o), C = W Wᵀ + σ²I, at the coordinates
    that are missing. σ² = 0 stands for its limit; what nothing seen tells of stays at its mean.
    """
    there = weight * seen.unsqueeze(-1)
    within = there.mT @ there + variance * torch.eye(weight.shape[1], dtype=x.dtype, device=x.device)
    off = torch.where(seen, x - mean, 0).unsqueeze(-1)
    z = torch.linalg.pinv(within, hermitian=True) @ (there.mT @ off)
    return mean + (weight @ z).squeeze(-1)


def defensive_log_weights(
    log_likelihood: Float[Tensor, "k *b"], log_prior: Float[Tensor, "k *b"], log_q: Float[Tensor, "k *b"]
) -> Float[Tensor, "k *b"]:
    """ln w = ln p(x|z) + ln p(z) − ln [½ q(z) + ½ p(z)], half of the draws from q, half from the prior p.

    w ≤ 2 p(x|z), so that weights have a finite variance however narrow q is.
    Source: Owen & Zhou, "Safe and effective importance sampling", 2000, section 2.
    """
    return log_likelihood + log_prior - torch.logaddexp(log_q, log_prior) + log(2)
