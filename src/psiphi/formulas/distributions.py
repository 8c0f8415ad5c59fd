"""Distributions as thin frozen records of tensors, and the divergences between them in closed form.

The last `event` axes of a record make one draw; all axes before them are batch axes, and every
`log_prob` and `kl` sums over the event and keeps the batch. Noise is always handed in: `rsample`
reads keyed noise of one row a sample of the batch, so draw i does not depend on how many are drawn.

`torch.distributions` is the oracle of the tests; it takes no noise source and cannot mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi, prod
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise

LOG_2PI = log(2 * pi)
Measure = Literal["discrete", "continuous", "mixed", "loss-only"]


def sum_event(x: Tensor, event: int) -> Tensor:
    """Sum over the last `event` axes: (*batch, *event) -> (*batch)."""
    return x.sum(tuple(range(-event, 0))) if event else x


def split_samples(x: Tensor, samples: int) -> Tensor:
    """The leading axis as samples and rows: (K·B, …) -> (K, B, …)."""
    return x.view(samples, len(x) // samples, *x.shape[1:])


def _draws(
    noise: Noise, kind: Callable[[Noise, tuple[int, ...]], Tensor], mean: Tensor, samples: int
) -> Tensor:
    """Noise for `samples` draws of each row: (K, B, *event), rows along the second axis."""
    eps = kind(noise, (samples, *mean.shape[1:])).to(mean.dtype)
    return eps.transpose(0, 1)


@dataclass(frozen=True)
class Delta:
    """All mass at `point`: E[x] = point, no density.

    point: (*batch, *event); layers: activations on the way to it, where they were recorded.
    """

    point: Tensor
    event: int = 1
    layers: tuple[Tensor, ...] = ()
    measure: ClassVar[Measure] = "loss-only"

    @property
    def mean(self) -> Tensor:
        return self.point

    def rsample(self, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """The point itself, (K, *batch, *event)."""
        return self.point.expand(samples, *self.point.shape)

    def unflatten(self, samples: int) -> Delta:
        return Delta(split_samples(self.point, samples), self.event)


@dataclass(frozen=True)
class DiagonalNormal:
    """N(mean, diag(exp(2 log_scale))): ln p(x) = −½ Σ [((x − μ)/σ)² + 2 ln σ + ln 2π].

    mean: (*batch, *event); log_scale broadcasts against it.
    """

    mean: Tensor
    log_scale: Tensor
    event: int = 1
    measure: ClassVar[Measure] = "continuous"

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """z = μ + σ ε, (K, B, *event)."""
        eps = _draws(noise, Noise.normal, self.mean, samples)
        return torch.addcmul(self.mean.unsqueeze(0), self.log_scale.exp().unsqueeze(0), eps)

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        """(*batch); `where` (bool, like x) keeps the observed coordinates only."""
        if where is not None:
            x = torch.where(where, x, self.mean)
        squares = ((x - self.mean) * (-self.log_scale).exp()).square()
        if where is None and self.log_scale.ndim == 0:
            count = prod(self.mean.shape[self.mean.ndim - self.event :])
            return -0.5 * (sum_event(squares, self.event) + count * (2 * self.log_scale + LOG_2PI))
        each = squares + 2 * self.log_scale + LOG_2PI
        return -0.5 * sum_event(each if where is None else each * where, self.event)

    def whiten(self, x: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """A point and a log-scale in this distribution's own units: (x − μ)/σ and ln s − ln σ."""
        return (x - self.mean) * (-self.log_scale).exp(), log_scale - self.log_scale

    def kl(self, other: DiagonalNormal | StandardNormal) -> Tensor:
        """KL(self ‖ other), (*batch)."""
        return sum_event(twice_normal_kl(self, other), self.event) / 2

    def unflatten(self, samples: int) -> DiagonalNormal:
        scale = self.log_scale
        if scale.ndim == self.mean.ndim and scale.shape[0] == self.mean.shape[0]:
            scale = split_samples(scale, samples)
        return DiagonalNormal(split_samples(self.mean, samples), scale, self.event)


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I): ln p(x) = −½ Σ [x² + ln 2π].

    mean: zeros of the event's shape, (*batch, *event) or what broadcasts to it.
    """

    mean: Tensor
    event: int = 1
    measure: ClassVar[Measure] = "continuous"

    @property
    def log_scale(self) -> Tensor:
        return self.mean

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """(K, B, *event)."""
        return _draws(noise, Noise.normal, self.mean, samples)

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        if where is not None:
            x = torch.where(where, x, 0)
        each = x.square() + LOG_2PI
        return -0.5 * sum_event(each if where is None else each * where, self.event)

    def whiten(self, x: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        return x, log_scale


@dataclass(frozen=True)
class FullNormal:
    """N(mean, L Lᵀ): z = μ + L ε and ln p(x) = −½‖L⁻¹(x − μ)‖² − Σ ln L_ii − (d/2) ln 2π.

    mean: (*batch, d); tril: (*batch, d, d), lower triangular with a positive diagonal.
    """

    mean: Tensor
    tril: Tensor
    event: int = 1
    measure: ClassVar[Measure] = "continuous"

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """(K, B, d)."""
        eps = _draws(noise, Noise.normal, self.mean, samples)
        return self.mean + (self.tril @ eps.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        if where is not None:
            raise ArgumentError("a full-covariance normal cannot mask coordinates; use a diagonal one.")
        tril = self.tril.expand(*x.shape[:-1], *self.tril.shape[-2:])
        white = torch.linalg.solve_triangular(tril, (x - self.mean).unsqueeze(-1), upper=False).squeeze(-1)
        return -0.5 * (white.square().sum(-1) + x.shape[-1] * LOG_2PI) - self._half_log_det()

    def kl(self, other: FullNormal) -> Tensor:
        """KL = ½[tr(Σ₂⁻¹Σ₁) + (μ₂−μ₁)ᵀΣ₂⁻¹(μ₂−μ₁) − d + ln det Σ₂ − ln det Σ₁], (*batch)."""
        d = self.mean.shape[-1]
        gap = (other.mean - self.mean).unsqueeze(-1)
        both = torch.cat([self.tril.expand(*gap.shape[:-1], d), gap], -1)
        white = torch.linalg.solve_triangular(other.tril.expand(*both.shape[:-1], d), both, upper=False)
        return 0.5 * (white.square().sum((-2, -1)) - d) + other._half_log_det() - self._half_log_det()

    def _half_log_det(self) -> Tensor:
        return self.tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def unflatten(self, samples: int) -> FullNormal:
        return FullNormal(split_samples(self.mean, samples), split_samples(self.tril, samples))


@dataclass(frozen=True)
class Bernoulli:
    """Independent Bernoulli(σ(ℓ)): ln p(x) = Σ [x ℓ − ln(1 + e^ℓ)].

    logits: (*batch, *event). At x between 0 and 1 the formula is the cross-entropy, a loss but no density.
    """

    logits: Tensor
    event: int = 1
    measure: ClassVar[Measure] = "discrete"

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """Draws in {0, 1}, (K, B, *event); without gradient, as there is none."""
        u = _draws(noise, Noise.uniform, self.logits, samples)
        return (u < self.mean).to(self.logits.dtype)

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        if where is not None:
            x = torch.where(where, x, 0)
        logits, x = torch.broadcast_tensors(self.logits, x)
        loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return -sum_event(loss if where is None else torch.where(where, loss, 0), self.event)

    def unflatten(self, samples: int) -> Bernoulli:
        return Bernoulli(split_samples(self.logits, samples), self.event)


@dataclass(frozen=True)
class Distorted:
    """A reconstruction and the loss of missing it: "ln p"(x) = −Σ d(x, mean), a loss but no density.

    mean: (*batch, *event); distortion: d of each coordinate, from `formulas.distortions` or your own.
    """

    mean: Tensor
    distortion: Callable[[Tensor, Tensor], Tensor]
    event: int = 1
    measure: ClassVar[Measure] = "loss-only"

    def rsample(self, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """The reconstruction itself, (K, *batch, *event): a loss has no noise to draw."""
        return self.mean.expand(samples, *self.mean.shape)

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        if where is not None:
            x = torch.where(where, x, self.mean)
        each = -self.distortion(x, self.mean)
        return sum_event(each if where is None else torch.where(where, each, 0), self.event)

    def unflatten(self, samples: int) -> Distorted:
        return Distorted(split_samples(self.mean, samples), self.distortion, self.event)


Normal = DiagonalNormal | StandardNormal | FullNormal
Distribution = Delta | Normal | Bernoulli
Likelihood = DiagonalNormal | Bernoulli | Distorted


def twice_normal_kl(q: DiagonalNormal, p: DiagonalNormal | StandardNormal) -> Tensor:
    """2 KL(q ‖ p) of each coordinate: [σ_q² + (μ_q − μ_p)²]/σ_p² − 1 − 2 ln(σ_q/σ_p).

    Shape of the event kept. Source: Kingma & Welling, "Auto-encoding variational Bayes", 2013, app. B.
    """
    drift, gap = p.whiten(q.mean, q.log_scale)
    gap = gap + gap  # half the cost of 2 * gap: torch wraps and copies a Python number in each product
    return torch.expm1(gap) - gap + drift * drift


def kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) in closed form, (*batch), in nats.

    Raises `ArgumentError` where the pair has no closed form here.
    """
    if isinstance(q, DiagonalNormal) and isinstance(p, DiagonalNormal | StandardNormal):
        return q.kl(p)
    if isinstance(q, Normal) and isinstance(p, Normal):
        return _full(q).kl(_full(p))
    if isinstance(q, Bernoulli) and isinstance(p, Bernoulli):
        on = q.mean * (q.logits - p.logits)
        return sum_event(on - F.softplus(q.logits) + F.softplus(p.logits), q.event)
    raise ArgumentError(
        f"no closed form for KL({type(q).__name__} ‖ {type(p).__name__}); estimate it from samples."
    )


def has_kl(q: Any, p: Any) -> bool:
    """Whether `kl(q, p)` has a closed form here."""
    return (isinstance(q, Normal) and isinstance(p, Normal)) or (
        isinstance(q, Bernoulli) and isinstance(p, Bernoulli)
    )


def draw(q: Any, noise: Noise, samples: int = 1) -> tuple[Tensor, Tensor]:
    """z ~ q with its ln q(z), (K, B, …) and (K, B); a flow has both from one pass."""
    if hasattr(q, "rsample_log_prob"):
        return q.rsample_log_prob(noise, samples)
    z = q.rsample(noise, samples)
    return z, q.log_prob(z)


def _full(p: DiagonalNormal | StandardNormal | FullNormal) -> FullNormal:
    if isinstance(p, FullNormal):
        return p
    return FullNormal(p.mean, torch.diag_embed(p.log_scale.exp().expand_as(p.mean)))
