"""Randomised smoothing: the answer that most noisy copies of an input get, and the radius within which it stays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from math import inf, log
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import _checks as checks
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, mix
from psiphi.basis.provenance import provenance
from psiphi.defenses._adversarial_training import _check_classifier, _with_loss
from psiphi.defenses._certificate import Certificate
from psiphi.defenses._outcome import Outcome
from psiphi.formulas import intervals, smoothing
from psiphi.models import Classifier, Model
from psiphi.models._base import evaluating
from psiphi.parts import Batch, Clock

Progress = Callable[[int, int], None]
Denoise = Callable[[Tensor], Tensor]

_PASS = 512  # noisy copies in a pass


class Smoothed(nn.Module):
    """See `smooth`."""

    def __init__(
        self,
        classifier: nn.Module,
        sigma: float,
        draws: int,
        denoiser: nn.Module | Denoise | None,
        seed: int | None,
    ):
        super().__init__()
        self.classifier, self.sigma, self.draws = classifier, sigma, draws
        self.denoiser, self.seed = denoiser, seed

    def base(self, noisy: Tensor) -> Tensor:
        """f(D(x + σξ)): logits of noisy points, (b, *x) -> (b, K)."""
        return self.classifier(
            noisy if self.denoiser is None else _denoised(self.denoiser, noisy, self.sigma)
        )

    def forward(self, x: Tensor) -> Tensor:
        """ln (1/m) Σ_j softmax f(D(x + σξ_j)), m = `draws`: (b, *x) -> (b, K)."""
        noisy = x + self.sigma * self._noise(x)
        each = self.base(noisy.flatten(0, 1)).log_softmax(1).unflatten(0, (self.draws, -1))
        return each.logsumexp(0) - log(self.draws)

    def _noise(self, x: Tensor) -> Tensor:
        """ξ, (m, b, *x), fresh for each row; or by the seed, (m, 1, *x), the same for all."""
        if self.seed is None:
            return torch.randn(self.draws, *x.shape, dtype=x.dtype, device=x.device)
        noise = Noise.of(self.seed, self.draws, x.device, x.dtype).split("smooth")
        return noise.normal(tuple(x.shape[1:]))[:, None]

    # ---------------------------------------------------------------------------------------------- votes
    def votes(
        self,
        x: Any,
        n: int = 1000,
        *,
        seed: int = 0,
        rows: range | Tensor | None = None,
        batch_size: int = _PASS,
        on_progress: Progress | None = None,
    ) -> Tensor:
        """How many of `n` noisy copies of each row get each class, (b, K).

        Draw j of row i depends on (`seed`, i, j) alone; `rows` gives the i of each row where x is a part of a larger
        batch. `batch_size` copies go through the classifier in one pass.
        """
        x, rows = self._rows(x, rows)
        check_whole("n", n)
        with torch.no_grad(), evaluating(self):
            parts = list(self._voted(x, rows, n, mix(seed, "votes"), batch_size, on_progress))
        return torch.stack(parts) if parts else torch.zeros(0, 1, dtype=torch.long)

    def predict(self, x: Any, n: int = 1000, alpha: float = 0.001, **how: Any) -> Tensor:
        """The class that most noisy copies get, (b,), −1 where `n` votes leave that open at level `alpha`.

        An answer is another than the smoothed classifier's with probability at most `alpha`: the two most frequent
        classes have equal chances with a p-value above it, or it is withheld. `how` goes to `votes`.

        Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019,
        section 3.2.1.
        """
        _check_alpha(alpha)
        top = self.votes(x, n, **how)
        top = nn.functional.pad(top, (0, max(0, 2 - top.shape[1]))).topk(2, 1)
        sure = smoothing.two_sided(top.values[:, 0], top.values[:, 1]) <= alpha
        return torch.where(sure, top.indices[:, 0], -1)

    def outcome(self, x: Any, y: Any, n: int = 1000, alpha: float = 0.001, **how: Any) -> Outcome:
        """How many rows are answered rightly, wrongly, and not at all: `predict` against labels (b,).

        Of an attack's points, what is wrong is broken for certain, up to `alpha` a row.
        """
        return Outcome.of(self.predict(x, n, alpha, **how), y)

    def certify(
        self,
        x: Any,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 0.001,
        *,
        seed: int = 0,
        rows: range | Tensor | None = None,
        batch_size: int = _PASS,
        on_progress: Progress | None = None,
    ) -> Certificate:
        """Each row's answer and the L2 radius within which it holds, with probability 1 − `alpha` a row at least.

        `n0` draws choose the class c, `n` others count it; p = the lower bound of P(f(D(x + σξ)) = c) at 1 − `alpha`;
        R = σ Φ⁻¹(p), or abstention where p ≤ ½. R is at most σ Φ⁻¹(α^(1/n)): 3.2 σ with the defaults. Costs n0 + n
        forwards a row. `seed`, `rows`, `batch_size` as for `votes`; parts join by `Certificate.cat`.

        Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019,
        section 3.2.2, where n is 100 000.
        """
        began = time.perf_counter()
        check_whole("n0", n0)
        check_whole("n", n)
        _check_alpha(alpha)
        x, rows = self._rows(x, rows)
        with torch.no_grad(), evaluating(self):
            parts = zip(
                self._voted(x, rows, n0, mix(seed, "choice"), batch_size),
                self._voted(x, rows, n, mix(seed, "count"), batch_size, on_progress),
            )
            chosen, counts = (torch.stack(each) for each in zip(*parts)) if len(x) else (_none(), _none())
        top = chosen.argmax(1)
        p = intervals.at_least(counts.gather(1, top[:, None]).squeeze(1), n, alpha)
        sure = p > 0.5
        return Certificate(
            torch.where(sure, top, -1), smoothing.radius(p, self.sigma), p, counts, rows, self.sigma, alpha, n0, n,
            provenance(
                classifier=repr(self), seed=seed, rows=len(x), dtype=str(x.dtype), device=str(x.device),
                data_sha256=hashlib.sha256(x.cpu().contiguous().view(-1).view(torch.uint8).numpy()).hexdigest(),
                seconds=round(time.perf_counter() - began, 3),
            ),
        )  # fmt: skip

    def _voted(
        self, x: Tensor, rows: Tensor, n: int, key: int, size: int, tell: Progress | None = None
    ) -> Iterator[Tensor]:
        """Row by row, how many of n draws each class has, (K,), on the CPU."""
        check_whole("batch_size", size)
        for done, (point, row) in enumerate(zip(x, rows.tolist()), 1):
            noise = Noise.of(mix(key, row), n, x.device, x.dtype)
            counts = 0
            for start in range(0, n, size):
                draws = noise.take(slice(start, min(n, start + size))).normal(tuple(point.shape))
                logits = checks.check_logits(self.base(point + self.sigma * draws), len(draws))
                counts = counts + logits.argmax(1).bincount(minlength=logits.shape[1])
            if tell is not None:
                tell(done, len(x))
            yield torch.as_tensor(counts).cpu()

    def _rows(self, x: Any, rows: range | Tensor | None) -> tuple[Tensor, Tensor]:
        """x where the classifier is, and the number of each row."""
        x = checks.as_points(x)
        like = next((p for p in self.parameters() if p.is_floating_point()), x)
        rows = torch.arange(len(x)) if rows is None else torch.as_tensor(rows).long().cpu()
        if len(rows) != len(x):
            raise ArgumentError(f"rows has {len(rows)} numbers, but x has {len(x)} rows.")
        return x.to(like.device, like.dtype), rows

    def __repr__(self) -> str:
        told = {"sigma": f"{self.sigma:g}", "draws": self.draws}
        if self.denoiser is not None:
            told["denoiser"] = getattr(self.denoiser, "__name__", type(self.denoiser).__name__)
        told |= {} if self.seed is None else {"seed": self.seed}
        rest = ", ".join(f"{name}={value}" for name, value in told.items())
        return f"smooth({type(self.classifier).__name__}, {rest})"


def smooth(
    classifier: nn.Module,
    sigma: float,
    *,
    draws: int = 16,
    denoiser: nn.Module | Denoise | None = None,
    seed: int | None = None,
) -> Smoothed:
    """A classifier that answers what most noisy copies of its input get: g(x) = argmax_c P(f(D(x + σξ)) = c).

    `certify` gives answers with the radius that they hold in, `predict` answers alone, `votes` the counts. As a module
    it returns ln of the mean softmax over `draws` copies, which is what an attacker climbs: the votes themselves have
    no gradient, and what counts of an attack's points is `outcome`.

    sigma      of the noise, in the data's units; `classifier` should know inputs with such noise (`noisy_training`)
    denoiser   D, for one that does not: a model with the verb `denoise`, asked at `sigma`, or a function x -> x
    seed       the same `draws` noises for every row, so that the module is a function of x; without it fresh ones from
               torch's random state, so that an attack goes by `access.expectation`

    Returned in eval mode. Raises `ArgumentError`; `MissingVerb` for a model that cannot denoise.

    Sources: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019; Salman et al.,
    "Provably robust deep learning via adversarially trained smoothed classifiers", 2019, section 2.2 (the mean
    softmax); Salman et al., "Denoised smoothing: a provable defense for pretrained classifiers", 2020 (the denoiser).
    """
    if not callable(classifier):
        raise ArgumentError(
            f"smooth takes the module itself, (B, *x) -> logits; got {classifier!r}: smooth that module, and attack "
            "the result through an access."
        )
    _check_sigma(sigma)
    check_whole("draws", draws)
    if isinstance(denoiser, Model):
        _ = denoiser.denoise  # raises `MissingVerb` where it has none
    elif denoiser is not None and not callable(denoiser):
        raise ArgumentError(f"denoiser is a model or a function of x; got {type(denoiser).__name__}.")
    return Smoothed(classifier, float(sigma), draws, denoiser, seed).eval()


def noisy_training(classifier: Classifier, sigma: float) -> Classifier:
    """The same classifier with its loss at x + σξ, ξ ~ N(0, I) drawn anew for each batch.

    `pp.fit(noisy_training(classifier, sigma), x, y)` trains the weights of `classifier` itself.

    Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019, section 3.3.
    """
    _check_classifier(classifier)
    _check_sigma(sigma)
    base = classifier.loss

    def loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        noise = batch.noise.split("smooth").normal(tuple(batch.x.shape[1:]))
        return base(model, Batch(batch.x + sigma * noise, batch.y, batch.noise), clock)

    return _with_loss(classifier, loss, {"noise": sigma})


def _denoised(denoiser: nn.Module | Denoise, x: Tensor, sigma: float) -> Tensor:
    return denoiser.denoise(x, sigma) if isinstance(denoiser, Model) else denoiser(x)


def _check_sigma(sigma: Any) -> None:
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma < inf:
        raise ArgumentError(f"sigma is a finite noise level above 0, in the data's units; got {sigma!r}.")


def _check_alpha(alpha: float) -> None:
    if not isinstance(alpha, Real) or not 0 < alpha < 1:
        raise ArgumentError(
            f"alpha, the failure rate a row, lies strictly between 0 and 1; got {alpha!r}: e.g. 0.001."
        )


def _none() -> Tensor:
    return torch.zeros(0, 1, dtype=torch.long)
