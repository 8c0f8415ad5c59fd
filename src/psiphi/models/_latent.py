"""Models with a code: encoder q(z|x), decoder p(x|z) and, where there is one, a prior p(z)."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import MeasureError
from psiphi.basis.noise import BLOCK, Noise
from psiphi.basis.shapes import as_batch, check_finite
from psiphi.formulas.bounds import ImportanceSums
from psiphi.formulas.distributions import Delta, Distribution, Measure, kl
from psiphi.models._base import Model, check_count, verb
from psiphi.parts import (
    Batch,
    Clock,
    Conditional,
    Decoder,
    LatentTrace,
    Objective,
    Player,
    Statistics,
    Term,
    adam,
)

DRAW_NUMBERS = 1 << 18


def _no_prior(model: LatentModel) -> str | None:
    return None if model.prior is not None else "its codes have no prior distribution"


def _no_posterior(model: LatentModel) -> str | None:
    return "its code is a point, not a distribution" if model.prior is None else None


def _no_density(model: LatentModel) -> str | None:
    if model.prior is None:
        return "it has no prior, so it is no distribution over the data"
    if model.decoder.measure == "loss-only":
        return "its reconstruction loss is no likelihood"
    return None


class LatentModel(Model):
    """x -> q(z|x) -> z -> p(x|z), trained on an objective that reads the pass.

    Which verbs it has follows from its slots: `sample` needs a prior, `log_prob` a prior and a likelihood.
    """

    def __init__(
        self,
        statistics: Statistics,
        latent_dim: int,
        encoder: Conditional,
        decoder: Decoder,
        *,
        objective: Objective | Term,
        prior: nn.Module | None = None,
        optimizer: adam = adam(),  # noqa: B008  a frozen value
        samples: int = 1,
    ):
        super().__init__(statistics)
        self.latent_dim = latent_dim
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.objective, self.optimizer, self.samples = 1.0 * objective, optimizer, samples

    def trace(
        self, x: Tensor, noise: Noise | None, *, x_in: Tensor | None = None, where: Tensor | None = None
    ) -> LatentTrace:
        """One pass over x (B, *shape) with `self.samples` draws of z a row; no noise: the posterior mean."""
        x_in = x if x_in is None else x_in
        q, decoder = self.encoder(x_in), self.decoder
        z = q.mean.unsqueeze(0) if noise is None else q.rsample(noise, self.samples)
        many = x if len(z) == 1 else x.repeat(len(z), *[1] * (x.ndim - 1))
        p = decoder.fitted(decoder(z.flatten(0, 1)), many)
        return LatentTrace(x, x_in, q, z, p.unflatten(len(z)), self._prior(), where)

    def _prior(self) -> Distribution | None:
        return None if self.prior is None else self.prior()

    def players(self) -> list[Player]:
        return [Player(self, _loss, self.optimizer)]

    def check_data(self, low: float, high: float) -> None:
        self.decoder.check_support(low, high)

    @property
    def measure(self) -> Measure:
        """What its numbers measure: `discrete`, `continuous` (densities) or `loss-only`."""
        if self.decoder.measure == "discrete" and self.statistics.measured and not self.statistics.binary:
            return "loss-only"
        return self.decoder.measure

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).mean).mean

    @verb
    def encode(self, x: Any) -> Tensor:
        """The posterior mean E[z|x]: (B, *shape) -> (B, d)."""
        return self._map(lambda part: self.encoder(part).mean, x)

    @verb.when(_no_posterior)
    def posterior(self, x: Any) -> Distribution:
        """q(z|x) for a batch, on the model's device."""
        x = as_batch(x, self.shape)
        check_finite(x.detach())
        return self.encoder(x.to(self.device, self.dtype))

    @verb
    def decode(self, z: Any) -> Tensor:
        """E[x|z]: (B, d) -> (B, *shape)."""
        z = torch.as_tensor(z)
        return self._map(lambda part: self.decoder(part).mean, z, (self.latent_dim,), "z")

    @verb
    def reconstruct(self, x: Any) -> Tensor:
        """ψ(φ(x)) = E[x | z = E[z|x]]: (B, *shape) -> (B, *shape)."""
        return self._map(self.forward, x)

    @verb
    def project(self, x: Any) -> Tensor:
        """The learnt manifold's point for x, ψ(φ(x)): (B, *shape) -> (B, *shape)."""
        return self._map(self.forward, x)

    @verb.when(_no_prior)
    def sample(self, n: int, *, seed: int = 0, y: Any = None, exact: bool = False) -> Tensor:
        """n draws: E[x|z] with z ~ p(z), or x ~ p(x|z) when `exact`; (n, *shape) on the model's device.

        Draw i of a seed is the same whatever n.
        """
        noise = Noise.of(seed, check_count(n), self.device, self.dtype)
        return torch.cat([self._sample(noise.take(rows), exact) for rows in _slices(n, prod(self.shape))])

    def _sample(self, noise: Noise, exact: bool) -> Tensor:
        prior: Any = self._prior()
        p: Any = self.decoder(prior.expand(len(noise)).rsample(noise.split("z"))[0])
        return p.rsample(noise.split("x"))[0] if exact else p.mean

    @verb.when(_no_density)
    def log_prob(self, x: Any, samples: int = 500, seed: int = 0) -> Tensor:
        """ln p(x) by importance sampling, (B,), in nats, in the measure of `self.measure`.

        ln (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q(z|x). A lower bound in expectation; its standard
        error is in `evaluation.likelihood`. Raises `MeasureError` where the likelihood is no density on x.
        """
        return self.importance(x, samples, seed).estimate

    def importance(self, x: Any, samples: int, seed: int = 0) -> ImportanceSums:
        """The sums of importance weights behind `log_prob`, of each row."""
        samples = check_count(samples)
        x = as_batch(x, self.shape)
        check_finite(x.detach())
        if len(x):
            self._check_measure(x)
        noise = Noise.of(seed, len(x), self.device, self.dtype)
        blocks = (slice(i, i + BLOCK) for i in range(0, max(1, len(x)), BLOCK))  # noise comes in blocks
        log_w = [
            self._log_weights(x[rows].to(self.device, self.dtype), noise.take(rows), samples)
            for rows in blocks
        ]
        return ImportanceSums.of(torch.cat(log_w, 1).to(x.device))

    def _log_weights(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """ln p(x|z) + ln p(z) − ln q(z|x) of K draws of z a row, (K, B); decoded in pieces that fit the cache."""
        q: Any = self.encoder(x)
        prior: Any = self._prior()
        z = q.rsample(noise, samples)
        rows = max(1, DRAW_NUMBERS // (prod(self.shape) * samples))
        draws = max(1, DRAW_NUMBERS // (prod(self.shape) * max(1, min(rows, len(x)))))
        explained = [
            torch.cat([self._explain(x[i : i + rows], part) for part in z[:, i : i + rows].split(draws)])
            for i in range(0, max(1, len(x)), rows)
        ]
        return torch.cat(explained, 1) + prior.log_prob(z) - q.log_prob(z)

    def _explain(self, x: Tensor, z: Tensor) -> Tensor:
        """ln p(x|z), (K, B)."""
        return self.decoder(z.flatten(0, 1)).unflatten(len(z)).log_prob(x)

    def _check_measure(self, x: Tensor) -> None:
        self.decoder.check_support(float(x.detach().min()), float(x.detach().max()))
        if self.decoder.measure == "discrete" and not bool(((x == 0) | (x == 1)).all()):
            grey = float(((x != 0) & (x != 1)).float().mean())
            raise MeasureError(
                f"a Bernoulli likelihood is no density on grey values ({grey:.0%} of yours lie between 0 and 1): "
                f"binarise them, e.g. (x > 0.5).float(), or train with likelihood='gaussian'."
            )

    @verb
    def anomaly_score(self, x: Any) -> Tensor:
        """How badly x fits, (B,), in nats, higher = stranger: −ln p(x|z) + KL(q‖p) at the posterior mean z.

        Without a prior it is the reconstruction loss d(x, ψ(φ(x))) alone.
        """
        return self._map(self._strangeness, x)

    def _strangeness(self, x: Tensor) -> Tensor:
        trace = self.trace(x, None)
        loss = -trace.p.log_prob(x)[0]
        return loss if trace.prior is None or isinstance(trace.q, Delta) else loss + kl(trace.q, trace.prior)


def _loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    return model.objective(model.trace(batch.x, batch.noise), clock)


def _slices(n: int, size: int) -> list[slice]:
    rows = max(64, (1 << 21) // size // 64 * 64)
    return [slice(i, min(n, i + rows)) for i in range(0, n, rows)]
