"""How well a model tells odd rows from normal ones, by every score that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError, MeasureError, MissingVerb
from psiphi.basis.noise import generator
from psiphi.basis.shapes import as_batch
from psiphi.evaluation._elbo import passed
from psiphi.evaluation._reconstruction import errors
from psiphi.evaluation._rows import codes_of, rows_of
from psiphi.formulas.detection import auroc, auroc_interval, average_precision, count, levels, mahalanobis

RESAMPLES = 500
BOOTSTRAP_NUMBERS = 1 << 20
SEEN_ROWS = 50_000


@dataclass(frozen=True)
class Ranking:
    """One score: how it ranks odd rows above normal ones, with 95% intervals.

    auroc: P(odd > normal) + ½ P(equal), its interval Hanley and McNeil's variance inverted; aupr: average precision,
    whose value for a useless score is the share of odd rows, its interval a stratified bootstrap's, shifted so that
    its median is the value, and empty where the score makes no mistake.
    """

    auroc: float
    auroc_interval: tuple[float, float]
    aupr: float
    aupr_interval: tuple[float, float]

    def __str__(self) -> str:
        (low, high), (least, most) = self.auroc_interval, self.aupr_interval
        return (
            f"AUROC {self.auroc:.2%} [{low:.2%}, {high:.2%}], AUPR {self.aupr:.2%} [{least:.2%}, {most:.2%}]"
        )


@dataclass(frozen=True)
class Anomalies:
    """Every score that the model has, by name, and why it lacks the others."""

    scores: dict[str, Ranking]
    why: dict[str, str]
    normal: int
    odd: int

    @property
    def best(self) -> str:
        """The score with the highest AUROC on these rows; chosen by looking at them, so it flatters."""
        return max(self.scores, key=lambda name: self.scores[name].auroc)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{name:<15} {found}" for name, found in self.scores.items()]
        lines += [f"{name:<15} — {reason}" for name, reason in self.why.items()]
        return "\n".join([*lines, f"({self.odd} odd rows among {self.odd + self.normal})"])


@dataclass(frozen=True)
class _Asked:
    """What a score may use."""

    model: Any
    seen: Tensor | None
    samples: int
    seed: int


def _reconstruction(asked: _Asked, x: Tensor) -> Tensor:
    return errors(asked.model, x)


def _elbo(asked: _Asked, x: Tensor) -> Tensor:
    found = passed(asked.model, x, asked.seed)
    return found.rate - found.explained


def _nll(asked: _Asked, x: Tensor) -> Tensor:
    return -asked.model.log_prob(x, samples=asked.samples, seed=asked.seed)


def _latent(asked: _Asked, x: Tensor) -> Tensor:
    if asked.seen is None:
        raise DataError("the distance to the training codes needs the training rows (train=)")
    seen = codes_of(asked.model, asked.seen)
    covariance = seen.T.cov(correction=0).reshape(seen.shape[1], seen.shape[1])
    return mahalanobis(codes_of(asked.model, x), seen.mean(0), covariance)


def _own(asked: _Asked, x: Tensor) -> Tensor:
    return asked.model.anomaly_score(x)


SCORES: dict[str, Callable[[_Asked, Tensor], Tensor]] = {
    "anomaly_score": _own,
    "reconstruction": _reconstruction,
    "elbo": _elbo,
    "nll": _nll,
    "latent": _latent,
}


@torch.no_grad()
def anomalies(
    model: Any,
    normal: Any,
    odd: Any = None,
    *,
    labels: Any = None,
    train: Any = None,
    scores: Sequence[str] = tuple(SCORES),
    samples: int = 100,
    seed: int = 0,
) -> Anomalies:
    """Rank odd rows against normal ones by each score, higher = stranger.

    Give `normal` and `odd` apart, or all rows as `normal` with `labels`, 1 = odd. Scores: `anomaly_score` (the verb),
    `reconstruction` ‖x − ψ(φ(x))‖², `elbo` (its negative, one draw of z), `nll` (−ln p(x), with `samples` draws where
    it is sampled), `latent` (Mahalanobis distance of E[z|x] to the codes of the rows `train`). A score that the model
    lacks has its reason in `why`. Raises `DataError` where either kind of row is missing.
    """
    unknown = [name for name in scores if name not in SCORES]
    if unknown:
        raise ArgumentError(f"there is no score {unknown[0]!r}; there are {', '.join(SCORES)}.")
    usual, strange = _parted(model, normal, odd, labels)
    seen = None if train is None else rows_of(train, model.shape, SEEN_ROWS, "train").x
    asked = _Asked(model, seen, samples, seed)
    x, found, why = torch.cat([usual, strange]), {}, {}
    for name in scores:
        try:
            value = SCORES[name](asked, x).detach().cpu().double()
            if bool(value.isnan().any()):
                raise DataError("it is not a number on some rows")
            found[name] = _ranked(value[: len(usual)], value[len(usual) :], seed)
        except (MissingVerb, MeasureError, DataError) as error:
            why[name] = error.reason if isinstance(error, MissingVerb) and error.reason else str(error)
    return Anomalies(found, why, len(usual), len(strange))


def _parted(model: Any, normal: Any, odd: Any, labels: Any) -> tuple[Tensor, Tensor]:
    if (odd is None) == (labels is None):
        raise ArgumentError("give the odd rows, or labels with 1 for odd: one of odd= and labels=.")
    if labels is None:
        usual, strange = (
            as_batch(each, model.shape, what) for each, what in ((normal, "normal"), (odd, "odd"))
        )
    else:
        x, flags = as_batch(normal, model.shape), torch.as_tensor(labels)
        if flags.shape != (len(x),) or not bool(((flags == 0) | (flags == 1)).all()):
            raise DataError(f"labels must be 0 (normal) or 1 (odd), one for each of the {len(x)} rows.")
        usual, strange = x[flags == 0], x[flags == 1]
    if not len(usual) or not len(strange):
        raise DataError(
            f"ranking needs rows of both kinds; there are {len(usual)} normal and {len(strange)} odd ones."
        )
    return usual, strange


def _ranked(normal: Tensor, odd: Tensor, seed: int) -> Ranking:
    usual, strange = levels(normal, odd)
    ranks = int(max(usual.max(), strange.max())) + 1
    at = count(usual, strange, ranks)
    gen = generator(seed, "bootstrap")
    size = max(1, BOOTSTRAP_NUMBERS // len(normal))
    again = torch.cat(
        [
            average_precision(count(_redrawn(usual, n, gen), _redrawn(strange, n, gen), ranks))
            for n in (min(size, RESAMPLES - i) for i in range(0, RESAMPLES, size))
        ]
    )
    low, middle, high = again.quantile(torch.tensor([0.025, 0.5, 0.975]).to(again)).tolist()
    area, precision = float(auroc(at)), float(average_precision(at))
    spans = (max(0.0, precision + low - middle), min(1.0, precision + high - middle))
    return Ranking(area, auroc_interval(area, len(usual), len(strange)), precision, spans)


def _redrawn(rows: Tensor, times: int, gen: torch.Generator) -> Tensor:
    """As many rows drawn with replacement, `times` times over, (times, n)."""
    return rows[torch.randint(len(rows), (times, len(rows)), generator=gen)]
