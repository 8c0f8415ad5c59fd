"""Information in tables of counts, and the parts of a variational model's rate. All in nats."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor


def entropy(counts: Num[Tensor, "..."]) -> float:
    """H = −Σ p ln p with p = counts/n; ln(cells) when they are equal, 0 of nothing."""
    total = float(counts.sum())
    return log(total) - sum(c * log(c) for c in counts.flatten().tolist() if c) / total if total else 0.0


def miller_madow(counts: Num[Tensor, "..."]) -> float:
    """H + (m − 1)/2n with m cells occupied: the entropy of counts with its bias of first order taken off.

    Source: Miller, "Note on the bias of information estimates", 1955.
    """
    total = float(counts.sum())
    return entropy(counts) + (int((counts > 0).sum()) - 1) / (2 * total) if total else 0.0


def mutual_information(table: Num[Tensor, "a b"], of: Callable[[Tensor], float] = miller_madow) -> float:
    """I = H(a) + H(b) − H(a, b) of a table of counts, not below 0; `of`: the estimate of H."""
    return max(0.0, of(table.sum(1)) + of(table.sum(0)) - of(table))


def information_gap(
    information: Float[Tensor, "units factors"], entropies: Float[Tensor, " factors"]
) -> Float[Tensor, " factors"]:
    """(I₁ − I₂)/H of each factor, I₁ ≥ I₂ the two units that know most of it; 1 when one unit alone knows all.

    Source: Chen, Li, Grosse, Duvenaud, "Isolating sources of disentanglement in VAEs", 2018, eq. 6.
    """
    most = torch.cat([information, torch.zeros_like(information[:1])]).topk(2, dim=0).values
    return (most[0] - most[1]) / entropies


class RateParts(NamedTuple):
    """Of each draw; their means are I(n; z), KL(q(z) ‖ Π q(z_j)) and Σ KL(q(z_j) ‖ p(z_j))."""

    index_code: Tensor
    total_correlation: Tensor
    dimension_wise: Tensor


def rate_parts(
    log_q: Float[Tensor, " b"],
    log_aggregate: Float[Tensor, " b"],
    log_marginals: Float[Tensor, "b d"],
    log_prior: Float[Tensor, " b"],
) -> RateParts:
    """E KL(q(z|x) ‖ p(z)) = E ln q(z|x)/q(z) + E ln q(z)/Π q(z_j) + E ln Π q(z_j)/p(z), z ~ q(z|x), of draws b.

    q(z) = (1/N) Σ_n q(z|x_n) is the aggregate posterior, q(z_j) its marginals, p(z) = Π p(z_j).
    Source: Chen, Li, Grosse, Duvenaud, "Isolating sources of disentanglement in VAEs", 2018, eq. 2; the first part
    alone: Hoffman, Johnson, "ELBO surgery", 2016.
    """
    product = log_marginals.sum(1)
    return RateParts(log_q - log_aggregate, log_aggregate - product, product - log_prior)


def controlled_means(parts: Float[Tensor, "p b"], error: Float[Tensor, " b"]) -> Float[Tensor, " p"]:
    """Means of parts less their share of the mean of `error`, the known noise of their sum.

    v̄_k − β_k ē with β_k = Cov(v_k, e)/Σ_k Cov(v_k, e): the least noisy of its kind, and as Σ β_k = 1, the means add
    up to the mean of Σ_k v_k − e. Where e does not vary there is nothing to take off but its mean, shared equally.
    Source: control variates, e.g. Owen, "Monte Carlo theory, methods and examples", 2013, section 8.9.
    """
    shares = (parts - parts.mean(1, keepdim=True)) @ (error - error.mean())
    total = shares.sum()
    known = bool(total > torch.finfo(parts.dtype).eps * (1 + parts.square().sum()))
    beta = shares / total if known else torch.full_like(shares, 1 / len(parts))
    return parts.mean(1) - beta * error.mean()
