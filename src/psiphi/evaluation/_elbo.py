"""The evidence lower bound in named parts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psiphi.basis.errors import MissingVerb
from psiphi.basis.noise import BLOCK, Noise
from psiphi.basis.shapes import as_batch
from psiphi.evaluation._likelihood import standard_error
from psiphi.formulas.bounds import log_mean_exp
from psiphi.formulas.distributions import DiagonalNormal, FullNormal, StandardNormal, has_kl, kl
from psiphi.formulas.information import controlled_means, rate_parts
from psiphi.models._base import evaluating

PAIR_NUMBERS = 1 << 21


@dataclass(frozen=True)
class Elbo:
    """E ln p(x) ≥ reconstruction − rate, and rate = index_code + total_correlation + dimension_wise, in nats.

    reconstruction: E ln p(x|z); rate: E KL(q(z|x) ‖ p(z)); index_code: what a code says about which row it came
    from, at most ln rows; total_correlation: how dependent the units are; dimension_wise: how far each unit's
    aggregate is from its prior; prior_gap: KL(q(z) ‖ p(z)), the sum of these two, which are None where the prior
    does not factorise or the marginals of q are not known; spread: standard error of the bound over rows.
    """

    elbo: float
    reconstruction: float
    rate: float
    index_code: float
    total_correlation: float | None
    dimension_wise: float | None
    prior_gap: float
    spread: float
    measure: str
    rows: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        parts = f"index-code {self.index_code:.3f}"
        if self.total_correlation is not None:
            parts += f" + total correlation {self.total_correlation:.3f} + dimension-wise {self.dimension_wise:.3f}"
        else:
            parts += f" + KL(q(z) ‖ p(z)) {self.prior_gap:.3f}"
        return (
            f"{self.elbo:.2f} ± {self.spread:.2g} nats ({self.measure}) = reconstruction {self.reconstruction:.2f} "
            f"− rate {self.rate:.3f}; rate = {parts}"
        )


class Pass(NamedTuple):
    """Of each row: one draw z (n, d), ln q(z|x), ln p(z), E_q ln p(x|z), KL(q ‖ p); and the posteriors, in blocks."""

    z: Tensor
    log_q: Tensor
    log_prior: Tensor
    explained: Tensor
    rate: Tensor
    posteriors: list[Any]
    factorises: bool


@torch.no_grad()
def elbo(model: Any, x: Any, seed: int = 0) -> Elbo:
    """The bound over the rows of x, its rate split by the aggregate posterior of these rows.

    z ~ q(z|x) once a row; q(z) = (1/n) Σ q(z|x_n) over all rows, so the cost is n². The parts are means over draws of
    ln q(z|x) − ln q(z), ln q(z) − Σ ln q(z_j) and Σ ln q(z_j) − ln p(z); where the rate has a closed form, the error
    of its own sampled mean is a control variate for them, so that they add up to it exactly.
    Raises `MissingVerb` where the model does not pass through a code with a posterior and a prior.
    Source: Hoffman, Johnson, "ELBO surgery", 2016; Chen, Li, Grosse, Duvenaud, "Isolating sources of
    disentanglement in VAEs", 2018.
    """
    found = passed(model, x, seed)
    aggregate, marginals = _aggregate(found)
    if found.factorises and marginals is not None:
        parts = rate_parts(found.log_q, aggregate, marginals, found.log_prior)
    else:
        parts = (found.log_q - aggregate, aggregate - found.log_prior)
    means = controlled_means(torch.stack(parts), found.log_q - found.log_prior - found.rate)
    bound = found.explained - found.rate
    return Elbo(
        elbo=float(bound.mean()),
        reconstruction=float(found.explained.mean()),
        rate=float(found.rate.mean()),
        index_code=float(means[0]),
        total_correlation=float(means[1]) if len(parts) == 3 else None,
        dimension_wise=float(means[2]) if len(parts) == 3 else None,
        prior_gap=float(means[1:].sum()),
        spread=standard_error(bound),
        measure=str(model.measure),
        rows=len(bound),
    )


def passed(model: Any, x: Any, seed: int = 0) -> Pass:
    """One pass over rows of x with keyed noise, in double precision on the CPU."""
    if not (hasattr(model, "posterior") and hasattr(model, "trace")):
        raise MissingVerb(
            getattr(model, "title", type(model).__name__),
            "give a bound",
            "it has no code with a posterior and a prior",
        )
    x = as_batch(x, model.shape)
    noise = Noise.of(seed, len(x), model.device, model.dtype).split("elbo")
    columns: list[tuple[Tensor, ...]] = []
    posteriors, factorises = [], True
    with evaluating(model):
        for i in range(0, len(x), BLOCK):  # noise comes in blocks
            rows = slice(i, min(len(x), i + BLOCK))
            part = x[rows].to(model.device, model.dtype)
            trace = model.trace(part, noise.take(rows), x_in=part)
            factorises = isinstance(trace.prior, StandardNormal | DiagonalNormal)
            log_q = trace.q.log_prob(trace.z) if trace.log_q is None else trace.log_q
            log_prior = trace.prior.log_prob(trace.z)
            explained = trace.p.log_prob(trace.x, trace.where).mean(0)
            columns.append((trace.z[0], log_q[0], log_prior[0], explained, _rate(trace, log_q - log_prior)))
            posteriors.append(trace.q)
    z, log_q, log_prior, explained, rate = (torch.cat(each).double().cpu() for each in zip(*columns))
    return Pass(z, log_q, log_prior, explained, rate, posteriors, factorises)


def _rate(trace: Any, sampled: Tensor) -> Tensor:
    """KL(q ‖ p) of each row, (B,): in closed form, or from the draws where there is none."""
    return kl(trace.q, trace.prior) if has_kl(trace.q, trace.prior) else sampled.mean(0)


def _aggregate(found: Pass) -> tuple[Tensor, Tensor | None]:
    """ln q(z) (n,) and ln q(z_j) (n, d) of every draw under all posteriors; pairs in pieces that fit the cache."""
    n, d = found.z.shape
    q = [_marginals(each) for each in found.posteriors]
    known = all(each is not None for each in q)
    diagonal = all(isinstance(each, DiagonalNormal) for each in found.posteriors)
    joint, marginals = [], []
    for z in found.z.split(max(1, PAIR_NUMBERS // (n * d))):
        each = torch.cat([m.log_prob(z[:, None]) for m in q if m is not None], 1) if known else None
        if each is not None:
            marginals.append(log_mean_exp(each.transpose(0, 1)))
        log_q = each.sum(-1) if diagonal and each is not None else _joint(found.posteriors, z)
        joint.append(log_mean_exp(log_q.T))
    return torch.cat(joint), torch.cat(marginals) if known else None


def _marginals(q: Any) -> DiagonalNormal | None:
    """q(z_j|x) of each unit, as a normal without an event: its `log_prob` keeps the units."""
    if isinstance(q, DiagonalNormal):
        log_scale = q.log_scale.expand_as(q.mean)
    elif isinstance(q, FullNormal):
        log_scale = q.tril.square().sum(-1).log() / 2
    else:
        return None
    return DiagonalNormal(q.mean.double().cpu(), log_scale.double().cpu(), event=0)


def _joint(posteriors: list[Any], z: Tensor) -> Tensor:
    """ln q(z_i|x_n) of every pair, (b, n)."""
    parts = []
    for q in posteriors:
        mean = q.mean
        pairs = z.to(mean)[:, None].expand(len(z), *mean.shape)
        parts.append(q.log_prob(pairs).double().cpu())
    return torch.cat(parts, 1)
