"""Models with a code: encoder q(z|x), decoder p(x|z) and, where there is one, a prior p(z)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, MeasureError
from psiphi.basis.noise import BLOCK, Noise
from psiphi.basis.shapes import as_batch
from psiphi.formulas import distortions
from psiphi.formulas.bounds import ImportanceSums, log_weights
from psiphi.formulas.denoising import score_of
from psiphi.formulas.distributions import Delta, Measure, draw, has_kl
from psiphi.models._base import Model, check_count, check_unlabelled, one_each, slices, verb
from psiphi.models._chains import chain, chain_plan, density
from psiphi.models._impute import gaps, impute
from psiphi.parts import (
    Batch,
    Clock,
    Conditional,
    Contest,
    Decoder,
    Dirac,
    DistortionDecoder,
    LatentTrace,
    Objective,
    Player,
    Statistics,
    Term,
    adam,
    rate,
)
from psiphi.parts.corruption import Corruption, Gaussian
from psiphi.samplers import Plan

DRAW_NUMBERS = 1 << 18
RECONSTRUCTIONS = 3  # of a denoiser's projection


def _no_prior(model: LatentModel) -> str | None:
    return None if model.prior is not None else "its codes have no prior distribution"


def _no_sample(model: LatentModel) -> str | None:
    return None if _no_score(model) is None else _no_prior(model)


def _no_posterior(model: LatentModel) -> str | None:
    return "its code is a point, not a distribution" if isinstance(model.encoder, Dirac) else None


def _no_density(model: LatentModel) -> str | None:
    if model.prior is None:
        return "it has no prior, so it is no distribution over the data"
    if isinstance(model.encoder, Dirac):
        return "its code is a point, so that it bounds no likelihood"
    if model.decoder.measure == "loss-only":
        return "its reconstruction loss is no likelihood"
    return None


def _no_score(model: LatentModel) -> str | None:
    """Why r(x̃) is not E[x|x̃]: Tweedie's formula needs Gaussian noise and a loss whose minimiser is the mean."""
    if not isinstance(model.corruption, Gaussian):
        learnt = "nothing was corrupted" if model.corruption is None else "its corruption is not Gaussian"
        return f"{learnt} in training, and a score needs additive Gaussian noise"
    if isinstance(model.decoder, DistortionDecoder) and model.decoder.distortion is not distortions.squared:
        return "the minimiser of its loss is not the mean E[x|x̃], which a score needs"
    return None


def _no_head(model: LatentModel) -> str | None:
    return None if model.head is not None else "it was not built with labels"


class LatentModel(Model):
    """x -> q(z|x) -> z -> p(x|z), trained on an objective that reads the pass.

    Which verbs it has follows from its slots: `sample` needs a prior or a `score`, `log_prob` a prior and a likelihood,
    `score` Gaussian corruption and a loss whose minimiser is the mean, `predict` a head z -> logits.
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
        corruption: Corruption | None = None,
        head: nn.Module | None = None,
        optimizer: adam = adam(),  # noqa: B008  a frozen value
        samples: int = 1,
        contests: Sequence[Contest] = (),
        ema: float | None = None,
    ):
        super().__init__(statistics)
        self.latent_dim = latent_dim
        self.encoder, self.decoder, self.prior, self.head = encoder, decoder, prior, head
        self.corruption = corruption
        self.takes_missing = getattr(decoder, "takes_missing", False)
        self.objective, self.optimizer, self.samples = 1.0 * objective, optimizer, samples
        self.contests, self.ema = tuple(contests), ema
        self.critics = nn.ModuleList(contest.critic for contest in contests)

    def trace(
        self,
        x: Tensor,
        noise: Noise | None,
        *,
        x_in: Tensor | None = None,
        where: Tensor | None = None,
        y: Tensor | None = None,
        decode: bool = True,
    ) -> LatentTrace:
        """One pass over x (B, *shape) with `self.samples` draws of z a row; no noise: the posterior mean.

        decode: False leaves p out, for a critic of codes.
        """
        if x_in is None:
            clean = noise is None or self.corruption is None
            x_in = x if clean else self.corruption(x, noise.split("corruption"))  # pyright: ignore[reportOptionalCall, reportOptionalMemberAccess]
        if self.objective.gradient and noise is not None:
            x_in = x_in.detach().requires_grad_()
        q, prior, decoder = self.encoder(x_in), self._prior(), self.decoder
        z, log_q = self._code(q, prior, noise)
        parts = {"decoder": decoder, **{c.name: c.critic for c in self.contests}}
        if not decode:
            return LatentTrace(x, x_in, q, z, None, prior, where, log_q, y, noise, parts)
        many = x if len(z) == 1 else x.repeat(len(z), *[1] * (x.ndim - 1))
        p = decoder.fitted(decoder(z.flatten(0, 1)), many)
        return LatentTrace(x, x_in, q, z, p.unflatten(len(z)), prior, where, log_q, y, noise, parts)

    def _code(self, q: Any, prior: Any, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        """Draws of z, and ln q(z|x) where the rate has no closed form."""
        if prior is None or isinstance(q, Delta) or has_kl(q, prior):
            return q.mean.unsqueeze(0) if noise is None else q.rsample(noise, self.samples), None
        if noise is not None:
            return draw(q, noise, self.samples)
        z = q.mean.unsqueeze(0)
        return z, q.log_prob(z)

    def _prior(self) -> Any:
        return None if self.prior is None else self.prior()

    def players(self) -> list[Player]:
        """The model alone; or a critic each of its contests, then all of the model that is no critic."""
        least = 2 if self.contests or any(each.batch for _, each in self.objective.parts) else 1
        if not self.contests:
            return [Player(self, _loss, self.optimizer, ema=self.ema, least=least)]
        own = nn.ModuleList(part for name, part in self.named_children() if name != "critics")
        loss = lambda module, batch, clock: _loss(self, batch, clock)  # noqa: E731
        critics = [contest.player(self) for contest in self.contests]
        return [*critics, Player(own, loss, self.optimizer, ema=self.ema, name="model", least=least)]

    def check_data(self, low: float, high: float) -> None:
        self.decoder.check_support(low, high)

    def check_columns(self, lows: Tensor, highs: Tensor) -> None:
        if self.takes_missing:
            self.decoder.check_columns(lows, highs)  # pyright: ignore[reportAttributeAccessIssue]

    def check_rows(self, x: Tensor) -> None:
        super().check_rows(x)
        if self.takes_missing and len(x):
            x = x.detach()
            lows, highs = (x.nan_to_num(end * torch.inf) for end in (1, -1))
            missing = x.isnan().all(0)
            self.check_columns(
                *(each.masked_fill(missing, torch.nan) for each in (lows.amin(0), highs.amax(0)))
            )

    @property
    def measure(self) -> Measure:
        """What its numbers measure: `discrete`, `continuous` (densities), `mixed` (both) or `loss-only`."""
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
    def posterior(self, x: Any) -> Any:
        """q(z|x) for a batch, on the model's device."""
        x = as_batch(x, self.shape)
        self.check_rows(x)
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
    def project(self, x: Any, steps: int | None = None) -> Tensor:
        """The learnt manifold's point for x, r = ψ∘φ applied `steps` times: (B, *shape) -> (B, *shape).

        Once; of a denoising autoencoder 3 times, as r(x) = x + σ² ∇ ln p_σ(x) is one step uphill. A code nearer to x
        than φ(x): `psiphi.models.nearest_code(model.decode, …)`.
        """
        usual = 1 if self.corruption is None else RECONSTRUCTIONS
        for _ in range(usual if steps is None else check_count(steps, "steps")):
            x = self._map(self.forward, x)
        return x

    @verb.when(_no_sample)
    def sample(
        self, n: int, *, seed: int = 0, y: Any = None, exact: bool = False, plan: str | Plan | None = None,
        quiet: bool = True,
    ) -> Tensor:  # fmt: skip
        """n draws, (n, *shape) on the model's device: E[x|z] with z ~ p(z), or x ~ p(x|z) when `exact`.

        Without a prior, a walk by the score from N(m, v + σ²). plan: `langevin:500`, `walkback:200`,
        `walkback:200,exact=True`, or a `Plan` at the σ of training in the data's units; unless given 200 steps of
        Langevin's chain and E[x|x̃] of the last state x̃, or x̃ itself when `exact`. `samples_from` names the density.
        Draw i of a seed is the same whatever n.
        """
        prior: Any = self._prior()
        if prior is None:
            check_unlabelled(self, y)
            return chain(self, n, seed, chain_plan(self, plan, exact), quiet)
        if plan is not None:
            raise ArgumentError(f"{self.title} samples its prior and walks by no plan; got plan={plan!r}.")
        if y is not None:
            if not hasattr(prior, "given"):
                check_unlabelled(self, y)
            y = one_each(y, check_count(n), prior.classes).to(self.device)
        noise = Noise.of(seed, check_count(n), self.device, self.dtype)
        return torch.cat([
            self._sample(noise.take(rows), exact, prior if y is None else prior.given(y[rows]))
            for rows in slices(n, prod(self.shape))
        ])  # fmt: skip

    def extra_repr(self) -> str:
        return f"samples_from={self.samples_from()!r}" if hasattr(self, "sample") else ""

    def samples_from(self, plan: str | Plan | None = None, *, exact: bool = False) -> str:
        """Which density `sample` draws from with these arguments, in words."""
        _ = self.sample
        if self.prior is None:
            return density(chain_plan(self, plan, exact), self._training_sigma(None))
        return "p(x) = ∫ p(x|z) p(z) dz" if exact else "the means E[x|z] of z from the prior"

    def _sample(self, noise: Noise, exact: bool, prior: Any = None) -> Tensor:
        prior = self._prior() if prior is None else prior
        p: Any = self.decoder(prior.rsample(noise.split("z"))[0])
        return p.rsample(noise.split("x"))[0] if exact else p.mean

    @verb.when(_no_density)
    def log_prob(self, x: Any, samples: int = 500, seed: int | Noise = 0) -> Tensor:
        """ln p(x) by importance sampling, (B,), in nats, in the measure of `self.measure`.

        ln (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q(z|x). A lower bound in expectation; its standard
        error is in `evaluation.likelihood`. Raises `MeasureError` where the likelihood is no density on x.
        """
        return self.importance(x, samples, seed).estimate

    def importance(self, x: Any, samples: int, seed: int | Noise = 0) -> ImportanceSums:
        """The sums of importance weights behind `log_prob`, of each row; seed: or the noise of each row itself."""
        samples = check_count(samples)
        x = as_batch(x, self.shape)
        self.check_rows(x)
        if len(x):
            self._check_measure(x)
        noise = seed if isinstance(seed, Noise) else Noise.of(seed, len(x), self.device, self.dtype)
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
        z, log_q = draw(q, noise, samples)
        rows = max(1, DRAW_NUMBERS // (prod(self.shape) * samples))
        draws = max(1, DRAW_NUMBERS // (prod(self.shape) * max(1, min(rows, len(x)))))
        explained = [
            torch.cat([self._explain(x[i : i + rows], part) for part in z[:, i : i + rows].split(draws)])
            for i in range(0, max(1, len(x)), rows)
        ]
        return log_weights(torch.cat(explained, 1), prior.log_prob(z), log_q)

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
        return loss if trace.prior is None or isinstance(trace.q, Delta) else loss + rate.value(trace)

    @verb
    def impute(
        self, x: Any, where: Any = None, *, samples: int = 500, seed: int = 0, exact: bool = False
    ) -> Tensor:
        """x with what is missing filled by E[x_m|x_o], or by a draw from p(x_m|x_o) when `exact`: (B, *shape).

        Σ_k w̃_k E[x_m|z_k], w̃_k ∝ p(x_o|z_k) p(z_k) / ½[q(z_k) + p(z_k)], with `samples` draws a row, half from the
        posterior, half from the prior; a category is the most probable one. Without a density x_m ← ψ(φ(x))_m, again
        and again. where: True where x is seen, (*shape) or (B, *shape); without it NaN is what is missing.
        """
        x, seen = gaps(self, x, where)
        self.check_rows(x)
        filled = impute(self, x, seen, check_count(samples), seed, exact, _no_density(self) is None)
        return torch.where(seen, x, filled)

    @verb.when(_no_score)
    def denoise(self, x: Any, sigma: Any = None) -> Tensor:
        """E[x|x̃] = r(x̃) for x̃ = x + σ ε with the σ of training: (B, *shape) -> (B, *shape).

        With a bottleneck it is the best that the code can carry: approximate. Raises `ArgumentError` at another σ.
        """
        self._training_sigma(sigma)
        return self._map(self.forward, x)

    @verb.when(_no_score)
    def score(self, x: Any, sigma: Any = None) -> Tensor:
        """∇ ln p_σ(x) ≈ (r(x) − x)/σ², p_σ the data's density blurred by N(0, σ²I): (B, *shape) -> (B, *shape).

        Source: Alain & Bengio, "What regularized auto-encoders learn from the data-generating distribution", 2014.
        """
        known = self._training_sigma(sigma)
        return self._map(lambda part: score_of(part, self(part), known), x)

    def _training_sigma(self, sigma: Any) -> float:
        """The σ of training; the one that is asked for, or one a row, must be it."""
        mine: float = self.corruption.sigma  # pyright: ignore[reportOptionalMemberAccess, reportFunctionMemberAccess]
        asked = torch.as_tensor(mine if sigma is None else sigma, dtype=torch.float64).reshape(-1)
        if bool(((asked - mine).abs() > 1e-6 * mine).any()):
            raise ArgumentError(
                f"{self.title} learnt to remove noise of σ = {mine:g}; it knows nothing of {float(asked[0]):g}."
            )
        return mine

    @verb.when(_no_head)
    def predict(self, x: Any) -> Tensor:
        """The most likely class given the posterior mean, argmax_y q(y | E[z|x]), (B,)."""
        return self._map(lambda part: self.head(self.encoder(part).mean).argmax(1), x)  # pyright: ignore[reportOptionalCall]


def _loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    with torch.set_grad_enabled(torch.is_grad_enabled() or model.objective.gradient):
        return model.objective(model.trace(batch.x, batch.noise, y=batch.y), clock)
