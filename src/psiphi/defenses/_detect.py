"""Detection: a score of strangeness, and a threshold whose rate of false alarms is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import _checks as checks
from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.data._convert import as_labels
from psiphi.defenses._guard import Guarded
from psiphi.formulas import conformal
from psiphi.formulas.detection import auroc, auroc_interval, count, levels, roc, whitening
from psiphi.formulas.intervals import Share
from psiphi.models._base import evaluating

Score = Callable[[Any, Tensor], Tensor]
ROWS = 1024


# --------------------------------------------------------------------------------------------------- scores
def reconstruction(model: Any, x: Tensor) -> Tensor:
    """‖x − r(x)‖², (b,): r is the model's `reconstruct`, or `project` where it has no codes.

    Source: Meng, Chen, "MagNet: a two-pronged defense against adversarial examples", 2017, section 4.
    """
    again = model.reconstruct(x) if hasattr(model, "reconstruct") else model.project(x)
    return (x - again).flatten(1).square().sum(1)


def density(model: Any, x: Tensor) -> Tensor:
    """−ln p(x), (b,), in nats; where it is sampled, with the same draws for every row.

    Source: Song et al., "PixelDefend: leveraging generative models to understand and defend against adversarial
    examples", 2018.
    """
    if hasattr(model, "importance"):
        return -model.log_prob(x, seed=Noise.of(0, torch.zeros(len(x)).long(), model.device, model.dtype))
    return -model.log_prob(x)


def anomaly_score(model: Any, x: Tensor) -> Tensor:
    """The model's own verb, (b,)."""
    return model.anomaly_score(x)


class Latent(nn.Module):
    """min_c √((z − m_c)ᵀ Σ⁻¹ (z − m_c)), z = E[z|x]: m_c the mean code of class c, Σ the covariance within classes.

    Rows without a label (−1) are left out; without any label there is one class. Source: Lee et al., "A simple unified
    framework for detecting out-of-distribution samples and adversarial attacks", 2018, eq. 1 and 2.
    """

    def __init__(self, model: Any, x: Tensor, y: Tensor | None = None):
        super().__init__()
        if not len(x):
            raise DataError("the distance to the training codes needs training rows; train has none.")
        y = torch.zeros(len(x)).long() if y is None else as_labels(y, len(x), "y of train").cpu()
        if (told := y >= 0).any():
            x, y = x[told.to(x.device)], y[told]
        codes = _asked(lambda model, x: model.encode(x).flatten(1), model, x)
        kinds, kind = y.unique(return_inverse=True)
        means = torch.stack([codes[kind == c].mean(0) for c in range(len(kinds))])
        within = codes.double() - means.double()[kind]
        self.register_buffer("means", means)
        self.register_buffer("white", whitening(within.T @ within / len(within)).to(codes))

    def forward(self, model: Any, x: Tensor) -> Tensor:
        off = model.encode(x).flatten(1)[:, None] - self.means
        return torch.linalg.vector_norm(off @ self.white, dim=2).amin(1)

    def __repr__(self) -> str:
        return "latent"


SCORES: dict[str, Score] = {each.__name__: each for each in (reconstruction, density, anomaly_score)}


# ------------------------------------------------------------------------------------------------ detector
@dataclass(frozen=True, repr=False)
class Detection:
    """How a detector does on normal rows and on odd ones.

    auroc     P(odd > normal) + ½ P(equal), with Hanley and McNeil's 95 % interval
    caught    odd rows that it flags
    alarms    normal rows that it flags
    allowed   what the rate of its false alarms lies in with 95 %, before any row is seen
    roc       shares of normal and of odd rows above each threshold, (2, m)
    """

    auroc: float
    auroc_interval: tuple[float, float]
    caught: Share
    alarms: Share
    allowed: tuple[float, float]
    roc: Tensor

    def as_dict(self) -> dict[str, Any]:
        told = {
            "auroc": self.auroc,
            "auroc_interval": list(self.auroc_interval),
            "allowed": list(self.allowed),
        }
        return {
            **told,
            "caught": self.caught.as_dict(),
            "alarms": self.alarms.as_dict(),
            "roc": self.roc.tolist(),
        }

    def __str__(self) -> str:
        low, high = self.auroc_interval
        return f"AUROC {self.auroc:.1%} [{low:.1%}, {high:.1%}], caught {self.caught}, false alarms {self.alarms}"

    __repr__ = __str__


class Detector(nn.Module):
    """See `detect`. Calling it gives scores (b,), differentiable, higher = stranger."""

    threshold: Tensor
    width: Tensor
    seen: Tensor
    example: Tensor

    def __init__(self, model: Any, measure: Score, alarm: float, x: Tensor):
        super().__init__()
        self.model, self.measure, self.alarm = model, measure, alarm
        seen = self.score(x).sort().values
        if not seen.isfinite().all():
            raise DataError(
                f"the score is not finite on {int((~seen.isfinite()).sum())} of {len(seen)} validation rows."
            )
        limit = conformal.threshold(seen, alarm)
        if limit == torch.inf:
            raise DataError(conformal.too_few(len(seen), alarm))
        width = abs(limit - float(seen.median()))
        like = next((p for p in self.parameters() if p.is_floating_point()), seen)
        for name, value in {"threshold": limit, "width": width or 1.0}.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=seen.dtype, device=like.device))
        self.register_buffer("seen", seen.to(like.device))
        self.register_buffer("example", x[:1].to(like))

    def forward(self, x: Tensor) -> Tensor:
        return _column(self.measure(self.model, x), len(x))

    def score(self, x: Any) -> Tensor:
        """How strange each row is, (b,), without a gradient."""
        return _asked(lambda model, x: _column(self.measure(model, x), len(x)), self.model, _points(x))

    def flags(self, x: Any) -> Tensor:
        """Rows whose score exceeds the threshold, (b,)."""
        return self.score(x).to(self.threshold) > self.threshold

    def p_values(self, x: Any) -> Tensor:
        """(1 + #{validation scores at least as high})/(n + 1) of each row, (b,); flagged rows have at most `alarm`."""
        return conformal.p_values(self.score(x), self.seen)

    @property
    def rate(self) -> conformal.Beta:
        """The law of its false-alarm rate, given independent validation rows without ties."""
        return conformal.rate(len(self.seen), self.alarm)

    def evaluate(self, normal: Any, odd: Any) -> Detection:
        """AUROC, detections and false alarms, on rows that the threshold was not set on."""
        usual, strange = self.score(normal).cpu(), self.score(odd).cpu()
        if not len(usual) or not len(strange):
            raise DataError(
                f"a detector is judged on rows of both kinds; got {len(usual)} normal, {len(strange)} odd."
            )
        limit = self.threshold.cpu()
        ranks = levels(usual, strange)
        at = count(*ranks, int(torch.cat(ranks).max()) + 1)
        area = float(auroc(at))
        caught, alarms = (Share(int((each > limit).sum()), len(each)) for each in (strange, usual))
        span = auroc_interval(area, len(usual), len(strange))
        return Detection(area, span, caught, alarms, self.rate.interval(), torch.stack(roc(at)))

    def guard(self, classifier: nn.Module) -> Guarded:
        """The classifier with this detector in front, K + 1 logits: attacks on it have to pass both."""
        return Guarded(classifier, self).eval()

    def __repr__(self) -> str:
        name = getattr(self.measure, "__name__", repr(self.measure))
        return (
            f"detect({type(self.model).__name__}, score={name}, alarm={self.alarm:g}, {len(self.seen)} rows)"
        )


def detect(
    model: Any,
    validation: Any,
    score: str | Score = "reconstruction",
    *,
    alarm: float = 0.05,
    train: Any = None,
) -> Detector:
    """A detector of rows unlike `validation` (rows, a Split, or a pair (x, y)): it flags s(x) > τ, τ the
    ⌈(1 − α)(n + 1)⌉-th smallest of n validation scores.

    A normal row is flagged with probability at most α = `alarm`, if it is exchangeable with the validation rows, which
    the model must not have been trained on. That is over the draw of both; the rate of one detector spreads around α as
    `Detector.rate` says.

    score   "reconstruction" ‖x − r(x)‖², "density" −ln p(x), "anomaly_score", "latent" (the distance of the code to
            those of `train`, a Split, a pair (x, y) or rows; of the nearest class where it has labels), or a function
            (model, x (b, *x)) -> (b,), higher = stranger

    Differentiable; `guard` puts it in front of a classifier, for attacks that know of it. Returned in eval mode. Raises
    `DataError` for too few rows, `MissingVerb` for a score that the model lacks, `ArgumentError`.

    Sources: Meng, Chen, "MagNet: a two-pronged defense against adversarial examples", 2017; Vovk, Gammerman, Shafer,
    "Algorithmic learning in a random world", 2005 (the threshold).
    """
    if isinstance(score, str) and score not in (*SCORES, "latent"):
        raise ArgumentError(
            f"there is no score {score!r}; give {', '.join(SCORES)}, latent, or a function (model, x)."
        )
    if not isinstance(score, str) and not callable(score):
        raise ArgumentError(f"a score is a name or a function (model, x) -> (b,); got {score!r}.")
    conformal.spared(0, alarm)
    if score == "latent":
        if train is None:
            raise ArgumentError("the distance to the training codes needs the training rows: give train=.")
        labels = train[1] if _is_pair(train) else getattr(train, "y", None)
        score = Latent(model, _points(train), labels)
    measure: Any = SCORES[score] if isinstance(score, str) else score
    return Detector(model, measure, alarm, _points(validation)).eval()


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2


def _points(x: Any) -> Tensor:
    """The rows of a batch, a split or a pair (x, y) as finite floats; uint8 means k/255."""
    return checks.as_points(x[0] if _is_pair(x) else getattr(x, "x", x))


def _asked(measure: Score, model: Any, x: Tensor) -> Tensor:
    """The score of each row, in parts, in eval mode."""
    module = model if isinstance(model, nn.Module) else nn.Identity()
    like = next((p for p in module.parameters() if p.is_floating_point()), x)
    with torch.no_grad(), evaluating(module):
        return torch.cat([measure(model, part.to(like)) for part in x.split(ROWS)])


def _column(scores: Any, n: int) -> Tensor:
    if not isinstance(scores, Tensor) or tuple(scores.shape) != (n,):
        shape = show(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ShapeError(f"the score gave {shape} for {n} rows; one number a row, shape ({n},), is needed.")
    return scores
