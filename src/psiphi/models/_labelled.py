"""Models of data and labels: p(x, y, z) = p(y) p(z) p(x|y, z)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import DataError
from psiphi.basis.noise import BLOCK, Noise
from psiphi.basis.shapes import as_batch, check_finite
from psiphi.formulas.bounds import ImportanceSums
from psiphi.formulas.distributions import Measure
from psiphi.models._base import Model, check_count, one_each, verb
from psiphi.models._latent import LatentModel
from psiphi.parts import Batch, Clock, LatentTrace, Objective, Player, Statistics, adam, nll, rate, term
from psiphi.parts.labelled import Given, LabelledDecoder, LabelledEncoder

ELBO = nll + rate


@dataclass(frozen=True)
class LabelledTrace:
    """What a pass leaves: y (B,), −1 unknown; bounds L(x, y) ≤ ln p(x, y), (B, k), where needed; log_q: ln q(y|x)."""

    y: Tensor
    bounds: Tensor
    log_q: Tensor

    def known(self, value: Tensor) -> Tensor:
        return torch.where(self.y >= 0, value, 0)

    def of_label(self, values: Tensor) -> Tensor:
        """The entry of each row's own label, (B,); 0 where it is unknown."""
        return self.known(values.gather(1, self.y.clamp(min=0)[:, None]).squeeze(1))


@term
def labelled(trace: LabelledTrace) -> Tensor:
    """−L(x, y) of the rows whose label is known."""
    return -trace.of_label(trace.bounds)


@term
def unlabelled(trace: LabelledTrace) -> Tensor:
    """−U(x) = −Σ_y q(y|x) L(x, y) − H(q(y|x)) of the others."""
    each = trace.log_q.exp() * (trace.bounds - trace.log_q)
    return torch.where(trace.y < 0, -each.sum(1), 0)


@term
def label_nll(trace: LabelledTrace) -> Tensor:
    """−ln q(y|x) of the rows whose label is known."""
    return -trace.of_label(trace.log_q)


class LabelledModel(Model):
    """Data with a label: q(z|x, y) and p(x|z, y), and q(y|x) by a classifier, or by Bayes' rule without one.

    L(x, y) = E_q[ln p(x|y, z)] − KL(q(z|x, y) ‖ p(z)) + ln p(y), p(y) uniform. Given y it is a `LatentModel`, which
    `given(y)` is. Source: Kingma, Rezende, Mohamed, Welling, "Semi-supervised learning with deep generative
    models", 2014, eq. 6-9.
    """

    def __init__(
        self,
        statistics: Statistics,
        latent_dim: int,
        classes: int,
        encoder: LabelledEncoder,
        decoder: LabelledDecoder,
        prior: nn.Module,
        *,
        objective: Objective,
        classifier: nn.Module | None = None,
        optimizer: adam = adam(),  # noqa: B008  a frozen value
    ):
        super().__init__(statistics)
        self.latent_dim, self.classes = latent_dim, classes
        self.encoder, self.decoder, self.prior, self.classifier = encoder, decoder, prior, classifier
        self.objective, self.optimizer = 1.0 * objective, optimizer

    def given(self, y: Any) -> LatentModel:
        """p(x|y), for one label or one a row: a latent-variable model that shares the weights."""
        y = torch.as_tensor(y, device=self.device).reshape(-1)
        code = F.one_hot(y, self.classes).to(self.dtype)
        model = LatentModel(
            self.statistics, self.latent_dim, Given(self.encoder, code), Given(self.decoder, code),  # pyright: ignore[reportArgumentType]
            prior=self.prior, objective=ELBO,
        )  # fmt: skip
        return model.train(self.training)

    def bound(self, x: Tensor, y: Any, noise: Noise | None) -> Tensor:
        """L(x, y) with one draw of z a row, or at the posterior mean without noise, (B,)."""
        return self._bound(self.given(y).trace(x, noise))

    def _bound(self, trace: LatentTrace) -> Tensor:
        return -nll.value(trace) - rate.value(trace) - log(self.classes)

    def bounds(self, x: Tensor, noise: Noise | None) -> Tensor:
        """L(x, y) for every y, (B, k), in one pass."""
        if not len(x):
            return x.new_zeros(0, self.classes)
        rows = torch.arange(len(x)).repeat(self.classes)  # label by label, with the same ε for each
        y = torch.arange(self.classes).repeat_interleave(len(x))
        noise = noise if noise is None else noise.take(rows)
        trace = self.given(y).trace(x.repeat(self.classes, *[1] * (x.ndim - 1)), noise, x_in=x)
        return self._bound(trace).view(self.classes, len(x)).T

    def log_q(self, x: Tensor) -> Tensor:
        """ln q(y|x), (B, k): the classifier's, or Bayes' rule on the bounds at the posterior means."""
        if self.classifier is None:
            return self.bounds(x, None).log_softmax(1)
        return self.classifier(self.statistics(x)).log_softmax(1)

    def trace(self, x: Tensor, y: Tensor, noise: Noise) -> LabelledTrace:
        """One pass: L(x, y) at the labels that are known, at all labels where they are not."""
        log_q = x.new_zeros(len(x), self.classes) if self.classifier is None else self.log_q(x)
        bounds = x.new_zeros(len(x), self.classes)
        known, unknown = (y >= 0).nonzero().squeeze(1), (y < 0).nonzero().squeeze(1)
        if len(known):
            own = self.bound(x[known], y[known], noise.take(known))
            bounds = bounds.index_put((known, y[known]), own)
        if len(unknown):
            bounds = bounds.index_put((unknown,), self.bounds(x[unknown], noise.take(unknown)))
        return LabelledTrace(y, bounds, log_q)

    def players(self) -> list[Player]:
        return [Player(self, _loss, self.optimizer)]

    def check_data(self, low: float, high: float) -> None:
        self.decoder.decoder.check_support(low, high)

    @property
    def measure(self) -> Measure:
        return self.given(0).measure

    def forward(self, x: Tensor) -> Tensor:
        """ψ(E[z|x, ŷ], ŷ) at the most likely label."""
        return self._by_label(x, self.log_q(x).argmax(1), lambda model, part: model(part))

    def _by_label(self, x: Tensor, y: Tensor, call: Callable[[LatentModel, Tensor], Tensor]) -> Tensor:
        """`call(given(y), rows)` for the rows of each label, back in place."""
        found: Tensor | None = None
        for label in y.unique().tolist() or [0]:
            rows = (y == label).nonzero().squeeze(1)
            answer = call(self.given(label), x[rows])
            found = x.new_zeros(len(x), *answer.shape[1:]) if found is None else found
            found = found.index_put((rows,), answer.to(found.dtype))
        assert found is not None
        return found

    def _labels(self, y: Any, rows: int) -> Tensor:
        return one_each(y, rows, self.classes).to(self.device)

    def _rows(self, x: Any) -> Tensor:
        x = as_batch(x, self.shape)
        check_finite(x.detach())
        return x.to(self.device, self.dtype)

    def _verb(self, x: Any, y: Any, free: Callable[[Tensor], Tensor], call: Callable[..., Tensor]) -> Tensor:
        if y is None:
            return self._map(free, x)
        rows = self._rows(x)
        return self._by_label(rows, self._labels(y, len(rows)), call).to(torch.as_tensor(x).device)

    @verb
    def encode(self, x: Any, y: Any = None) -> Tensor:
        """E[z|x, y], (B, d); without y Σ_y q(y|x) E[z|x, y]."""
        return self._verb(x, y, self._encode, lambda model, part: model.encoder(part).mean)

    def _encode(self, x: Tensor) -> Tensor:
        means = torch.stack([self.given(y).encoder(x).mean for y in range(self.classes)], 1)
        return (self.log_q(x).exp()[..., None] * means).sum(1)

    @verb
    def decode(self, z: Any, y: Any = None) -> Tensor:
        """E[x|z, y], (B, *shape); without y the mean over p(y)."""
        z = torch.as_tensor(z)
        if y is None:
            return self._map(self._decode, z, (self.latent_dim,), "z")
        rows = as_batch(z, (self.latent_dim,), "z").to(self.device, self.dtype)
        return self._by_label(rows, self._labels(y, len(z)), lambda model, part: model.decoder(part).mean).to(
            z.device
        )

    def _decode(self, z: Tensor) -> Tensor:
        means: list[Any] = [self.given(y).decoder(z).mean for y in range(self.classes)]
        return torch.stack(means).mean(0)

    @verb
    def reconstruct(self, x: Any, y: Any = None) -> Tensor:
        """ψ(E[z|x, y], y), (B, *shape); without y at the most likely label."""
        return self._verb(x, y, self.forward, lambda model, part: model(part))

    @verb
    def project(self, x: Any) -> Tensor:
        """The learnt manifold's point for x, at its most likely label: (B, *shape) -> (B, *shape)."""
        return self._map(self.forward, x)

    @verb
    def sample(self, n: int, *, seed: int = 0, y: Any = None, exact: bool = False) -> Tensor:
        """n draws of label y (one, or one each; drawn from p(y) if None): E[x|z, y], or x ~ p(x|z, y) when `exact`.

        Draw i of a seed is the same whatever n.
        """
        noise = Noise.of(seed, check_count(n), self.device, self.dtype)
        drawn = noise.split("y").integers(self.classes) if y is None else self._labels(y, n)
        where = torch.arange(n, device=self.device, dtype=self.dtype)
        return self._by_label(where, drawn, lambda model, rows: model._sample(noise.take(rows.long()), exact))

    @verb
    def log_prob(self, x: Any, samples: int = 500, seed: int = 0, y: Any = None) -> Tensor:
        """ln p(x|y), or without y ln p(x) = ln Σ_y p(y) p(x|y), by importance sampling, (B,), in nats."""
        if y is None:
            return self.importance(x, samples, seed).estimate
        rows = self._rows(x)
        labels, noise = self._labels(y, len(rows)), Noise.of(seed, len(rows), self.device, self.dtype)
        found = rows.new_zeros(len(rows))
        for label in labels.unique().tolist():
            mine = (labels == label).nonzero().squeeze(1)
            found[mine] = self.given(label).importance(rows[mine], samples, noise.take(mine)).estimate
        return found.to(torch.as_tensor(x).device)

    def importance(self, x: Any, samples: int, seed: int = 0) -> ImportanceSums:
        """The sums behind `log_prob`: `samples` draws of z for each label; strata make their error an upper bound."""
        samples, x = check_count(samples), self._rows(x)
        if len(x):
            self.given(0)._check_measure(x)
        noise = Noise.of(seed, len(x), self.device, self.dtype)
        blocks = [slice(i, i + BLOCK) for i in range(0, max(1, len(x)), BLOCK)]
        each = [
            torch.cat([self._weights(x[rows], noise.take(rows), y, samples) for rows in blocks], 1)
            for y in range(self.classes)
        ]
        return ImportanceSums.of(torch.cat(each))

    def _weights(self, x: Tensor, noise: Noise, y: int, samples: int) -> Tensor:
        return self.given(y)._log_weights(x, noise.split(f"{y}"), samples)

    @verb
    def anomaly_score(self, x: Any) -> Tensor:
        """−ln Σ_y exp L(x, y) at the posterior means, (B,), in nats, higher = stranger."""
        return self._map(lambda part: -self.bounds(part, None).logsumexp(1), x)

    @verb
    def predict(self, x: Any) -> Tensor:
        """The most likely label, argmax_y q(y|x), (B,)."""
        return self._map(lambda part: self.log_q(part).argmax(1), x)


def _loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    y = batch.y
    if y is None:
        raise DataError(f"{model.title} needs labels: pass y, with −1 for those that are unknown.")
    top = int(y.max())
    if top >= model.classes:
        raise DataError(
            f"labels reach {top}, the model has {model.classes} classes: build it with classes={top + 1}."
        )
    if model.classifier is None and int(y.min()) < 0:
        raise DataError(
            f"{model.title} needs the label of every row; {int((y < 0).sum())} of a batch are −1: leave those rows "
            f"out, or use semi_supervised_vae."
        )
    return model.objective(model.trace(batch.x, y, batch.noise), clock)
