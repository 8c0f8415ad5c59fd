"""Gaussian mixtures: the latent-variable model whose every quantity is a finite sum."""

from __future__ import annotations

from collections.abc import Callable
from math import log, prod
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, forked
from psiphi.basis.shapes import as_batch, check_finite
from psiphi.formulas import mixtures
from psiphi.formulas.mixtures import Categorical
from psiphi.models._base import CHUNK_NUMBERS, Model, check_count, check_unlabelled, verb
from psiphi.models._impute import gaps
from psiphi.parts import Batch, Clock, Player, Statistics, adam

Solver = Callable[["Mixture", int, Any], dict[str, float]]

# The shape of the factors of K covariances in d dimensions; `formulas.mixtures` reads their kind from it.
FACTORS: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "full": lambda k, d: (k, d, d),
    "tied": lambda k, d: (1, d, d),
    "diag": lambda k, d: (k, d),
    "spherical": lambda k, d: (k, 1),
}


def _by_gradient(model: Mixture) -> str | None:
    return None if model.solver is not None else "it learns by gradient"


class Mixture(Model):
    """Prior p(k) = w_k, likelihood p(x|k) = N(μ_k, Σ_k), posterior p(k|x), and p(x) = Σ_k w_k N(x; μ_k, Σ_k).

    The code is k as a one-hot vector, so E[z|x] is the vector of responsibilities. Held without constraints and in
    the networks' units (x − mean)/σ: `logits` of the weights, `means`, and `factors` L with ln of the diagonal in its
    place. solver: fits them as buffers; without one they are parameters, trained on −ln p(x).
    floor: least variance, and least L_ii², in units of σ².
    """

    logits: Tensor
    means: Tensor
    factors: Tensor
    measure = "continuous"

    def __init__(
        self,
        statistics: Statistics,
        components: int,
        covariance: str,
        *,
        floor: float,
        solver: Solver | None = None,
        optimizer: adam = adam(1e-2),  # noqa: B008  a frozen value
        seed: int = 0,
    ):
        super().__init__(statistics)
        self.components, self.covariance, self.floor = components, covariance, floor
        self.solver, self.optimizer = solver, optimizer
        d = prod(self.shape)
        with forked(seed, "means"):
            start = 0.3 * torch.randn(components, d)
            factors = 0.01 * torch.randn(FACTORS[covariance](components, d))
        # Close together and half as wide as the data: of starts without a look at the data, least often stuck.
        wide = torch.eye(d) if factors.ndim == 3 else 1.0
        values = {
            "logits": torch.zeros(components),
            "means": start,
            "factors": (factors.tril() if factors.ndim == 3 else factors) - 0.5 * wide,
        }
        for name, value in values.items():
            if solver is None:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    # ------------------------------------------------------------------------------------------ learning
    @verb.when(_by_gradient)
    def solve(self, rows: int, gather: Any) -> dict[str, float]:
        """Fit to `rows` rows that `gather(index)` brings as float (b, *shape); returns the named numbers."""
        assert self.solver is not None
        return self.solver(self, rows, gather)

    def players(self) -> list[Player]:
        return [Player(self, _loss, self.optimizer, after_step=_keep_above_the_floor)]

    @property
    def weights(self) -> Tensor:
        """Prior p(k), (K,)."""
        return self.logits.softmax(0)

    @property
    def centres(self) -> Tensor:
        """Means of the components in the data's own units, (K, *shape)."""
        return self.statistics.inverse(self.means.unflatten(1, self.shape))

    @property
    def scale(self) -> Tensor:
        """Factors of the covariances in units of σ, as `formulas.mixtures` takes them."""
        if self.factors.ndim == 2:
            return self.factors.exp()
        return self.factors.tril(-1) + torch.diag_embed(self.factors.diagonal(dim1=1, dim2=2).exp())

    @property
    def covariances(self) -> Tensor:
        """Covariances of the components in the data's own units, (K, d, d)."""
        scale, (k, d) = self.scale, self.means.shape
        tril = scale if scale.ndim == 3 else torch.diag_embed(scale.expand(len(scale), d))
        return (self.statistics.sigma.square() * (tril @ tril.transpose(1, 2))).expand(k, d, d)

    def load_parameters(self, weights: Tensor, means: Tensor, scale: Tensor) -> None:
        """Take p(k) (K,), means (K, d) and factors of the covariances, both in units of σ."""
        floor = torch.finfo(self.dtype).tiny
        diagonal = scale if scale.ndim == 2 else scale.diagonal(dim1=1, dim2=2)
        logs = diagonal.clamp(min=floor).log()
        with torch.no_grad():
            self.logits.copy_(weights.clamp(min=floor).log())
            self.means.copy_(means)
            self.factors.copy_(logs if scale.ndim == 2 else scale.tril(-1) + torch.diag_embed(logs))

    def _units(self, x: Tensor) -> Tensor:
        return self.statistics(x).flatten(1)

    def _theta(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.logits.log_softmax(0), self.means, self.scale

    def log_joint(self, x: Tensor) -> Tensor:
        """ln p(x, k) in the data's own units, (B, *shape) -> (B, K)."""
        u, theta = self._units(x), self._theta()
        rows = max(64, CHUNK_NUMBERS // self.means.numel())
        joint = torch.cat([mixtures.log_joint(part, *theta) for part in u.split(rows)])
        return joint - prod(self.shape) * self.statistics.sigma.log()

    def log_density(self, x: Tensor) -> Tensor:
        """ln p(x) = ln Σ_k p(x, k), (B,)."""
        return self.log_joint(x).logsumexp(1)

    # ------------------------------------------------------------------------------------------ the code
    def _encode(self, x: Tensor) -> Tensor:
        return self.log_joint(x).softmax(1)

    def _decode(self, z: Tensor) -> Tensor:
        return (z @ self.centres.flatten(1)).unflatten(1, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._decode(self._encode(x))

    @verb
    def encode(self, x: Any) -> Tensor:
        """E[z|x], the responsibilities p(k|x) = w_k N(x; μ_k, Σ_k) / p(x): (B, *shape) -> (B, K)."""
        return self._map(self._encode, x)

    @verb
    def posterior(self, x: Any) -> Categorical:
        """p(k|x) for a batch, on the model's device."""
        x = as_batch(x, self.shape)
        check_finite(x.detach())
        return Categorical(self.log_joint(x.to(self.device, self.dtype)))

    @verb
    def predict(self, x: Any) -> Tensor:
        """The most probable component, (B,)."""
        return self._map(lambda part: self.log_joint(part).argmax(1), x)

    @verb
    def decode(self, z: Any) -> Tensor:
        """Σ_k z_k μ_k, which for a posterior is E[μ_k|x]: (B, K) -> (B, *shape)."""
        return self._map(self._decode, torch.as_tensor(z), (self.components,), "z")

    @verb
    def reconstruct(self, x: Any) -> Tensor:
        """Σ_k p(k|x) μ_k, the posterior mean of the component's mean: (B, *shape) -> (B, *shape)."""
        return self._map(self.forward, x)

    @verb
    def project(self, x: Any) -> Tensor:
        """Σ_k p(k|x) μ_k, the posterior mean of the component's mean: (B, *shape) -> (B, *shape)."""
        return self._map(self.forward, x)

    # --------------------------------------------------------------------------------------- the density
    @verb
    def log_prob(self, x: Any, samples: int = 0, seed: int = 0) -> Tensor:
        """ln Σ_k w_k N(x; μ_k, Σ_k), exact, (B,), in nats; `samples` and `seed` have no effect."""
        return self._map(self.log_density, x)

    @verb
    def anomaly_score(self, x: Any) -> Tensor:
        """−ln p(x), (B,), in nats, higher = stranger."""
        return self._map(lambda part: -self.log_density(part), x)

    @verb
    def sample(self, n: int, *, seed: int = 0, y: Any = None, exact: bool = False) -> Tensor:
        """n draws x = μ_k + L_k ε with k ~ w, (n, *shape): exact draws from p(x), `exact` or not.

        Draw i of a seed is the same whatever n. (E[x|z] alone would be one of K points.)
        """
        check_unlabelled(self, y)
        noise = Noise.of(seed, check_count(n), self.device, self.dtype)
        eps = noise.split("x").normal((prod(self.shape),))
        scale, u = self.scale, torch.empty_like(eps)
        index = mixtures.pick(self.weights, noise.split("z").uniform())
        for k, mean in enumerate(self.means):
            mine, factor = index == k, scale[k % len(scale)]
            spread = eps[mine] * factor if scale.ndim == 2 else eps[mine] @ factor.T
            u[mine] = mean + spread
        return self.statistics.inverse(u.unflatten(1, self.shape))

    @verb
    def score(self, x: Any, sigma: Any) -> Tensor:
        """∇ ln p_σ(x) in closed form, p_σ the density of x₀ + σ ε: (B, *shape), per unit of x.

        sigma: a number of at least 0 in the data's units, or one for each row; 0 is p itself.
        """
        return self._at_noise(self._score, x, sigma)

    @verb
    def denoise(self, x: Any, sigma: Any) -> Tensor:
        """E[x₀ | x₀ + σ ε = x] = x + σ² ∇ ln p_σ(x), in closed form: (B, *shape). sigma: as in `score`."""

        def clean(part: Tensor, sigma: Tensor) -> Tensor:
            return part + sigma.square().view(-1, *[1] * len(self.shape)) * self._score(part, sigma)

        return self._at_noise(clean, x, sigma)

    def _score(self, x: Tensor, sigma: Tensor) -> Tensor:
        log_weights, means, scale = self._theta()
        unit, spectrum = self.statistics.sigma, mixtures.spectrum(scale)
        rows = max(64, CHUNK_NUMBERS // means.numel())
        parts = [
            mixtures.smoothed_score(u, s, log_weights, means, *spectrum)
            for u, s in zip(self._units(x).split(rows), (sigma.squeeze(1) / unit).split(rows))
        ]
        return torch.cat(parts).unflatten(1, self.shape) / unit

    def _at_noise(self, call: Callable[[Tensor, Tensor], Tensor], x: Any, sigma: Any) -> Tensor:
        x = as_batch(x, self.shape)
        check_finite(x.detach())
        level = torch.as_tensor(sigma, dtype=self.dtype, device=x.device)
        if level.numel() not in (1, len(x)) or not bool((level.isfinite() & (level >= 0)).all()):
            raise ArgumentError(
                f"sigma is a number of at least 0, or one for each of {len(x)} rows; got {sigma!r}."
            )
        return self._beside(call, x, level.reshape(-1, 1).expand(len(x), 1))

    @verb
    def impute(self, x: Any, where: Any = None) -> Tensor:
        """x with what is missing filled by its mean given what is seen, E[x_m | x_o], exact: (B, *shape).

        where: True where x is seen, (*shape) or (B, *shape); without it NaN is what is missing. A covariance that
        is not diagonal is factored anew for each pattern of missing values.
        """
        x, seen = gaps(self, x, where)
        return self._beside(self._fill, x, seen.flatten(1))

    def _fill(self, x: Tensor, seen: Tensor) -> Tensor:
        patterns, which = seen.bool().unique(dim=0, return_inverse=True)
        theta, u = self._theta(), self._units(x)
        filled = x.flatten(1).clone()
        mean = self.statistics.mean.flatten()
        for i, pattern in enumerate(patterns):
            rows = which == i
            guess = mixtures.conditional_mean(u[rows], pattern, *theta)
            back = mean + self.statistics.sigma * guess
            filled[rows] = torch.where(pattern, filled[rows], back)
        return filled.unflatten(1, self.shape)

    def _beside(self, call: Callable[[Tensor, Tensor], Tensor], x: Tensor, more: Tensor) -> Tensor:
        """call(x, more) in chunks of rows; more: what belongs to each row, (B, m)."""
        d = prod(self.shape)
        both = torch.cat([x.flatten(1).to(torch.promote_types(x.dtype, self.dtype)), more], 1)
        return self._map(
            lambda part: call(part[:, :d].unflatten(1, self.shape), part[:, d:]),
            both,
            (d + more.shape[1],),
        )


def _loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    loss = -model.log_density(batch.x).mean()
    return {"loss": loss, "nll": loss.detach()}


def _keep_above_the_floor(model: Any) -> None:
    """L_ii² ≥ floor: without it the likelihood of a component that shrinks onto one row has no bound."""
    least = 0.5 * log(model.floor) if model.floor else -torch.inf
    factors = model.factors
    (factors if factors.ndim == 2 else factors.diagonal(dim1=1, dim2=2)).clamp_(min=least)
