"""Numbers that several verbs and the report show: each with its error, or with the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from psiphi.basis.errors import DataError, MeasureError, MissingVerb
from psiphi.evaluation import Share

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.access import Access
    from psiphi.attacks import Attack, Result
    from psiphi.evaluation import Anomalies, Elbo, Latents, Likelihood, Reconstruction

ROWS = 1024
FLOW_ROWS = 256  # of a likelihood by the probability flow, which asks the network some 200 to 800 times a row
ODD_DRAWS = 100


@dataclass(frozen=True)
class Judged:
    """One model on held-out rows; what it lacks is None, and `why` (of the likelihood) and `missing` say why."""

    name: str
    latent_dim: int | None
    reconstruction: Reconstruction | None
    likelihood: Likelihood | None
    why: str = ""
    bits: Likelihood | None = None
    binarised: Likelihood | None = None
    elbo: Elbo | None = None
    latents: Latents | None = None
    anomalies: Anomalies | None = None
    accuracy: Share | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def likelihoods(self) -> list[Likelihood]:
        """Each with a measure of its own."""
        return [each for each in (self.likelihood, self.binarised, self.bits) if each is not None]

    def as_dict(self) -> dict[str, Any]:
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value.as_dict() if hasattr(value, "as_dict") else value for name, value in values}


def judge(model: Any, x: Tensor, samples: int = 500, seed: int = 0, name: str | None = None) -> Judged:
    """Reconstruction and likelihood of rows that the model has not seen, where it has them."""
    from psiphi import evaluation

    found = Judged(name or model.title, getattr(model, "latent_dim", None), None, None)
    if hasattr(model, "reconstruct"):
        found = replace(found, reconstruction=evaluation.reconstruction(model, x))
    rows = x[:FLOW_ROWS] if getattr(model, "measure", None) == "smoothed" else x
    try:
        return replace(found, likelihood=evaluation.likelihood(model, rows, samples=samples, seed=seed))
    except (MissingVerb, MeasureError) as error:
        return replace(found, why=_short(error))


@dataclass(frozen=True)
class Questions:
    """What to ask beyond reconstruction and likelihood.

    y: labels of the rows; train: the split that probes learn from; odd: rows to tell from x; thorough: also bits
    per dimension and all that `evaluation.latents` measures.
    """

    y: Tensor | None = None
    train: Any = None
    odd: Tensor | None = None
    thorough: bool = False


def question(found: Judged, model: Any, x: Tensor, asked: Questions, samples: int, seed: int) -> Judged:
    """The bound in its parts, codes, odd rows: each where the model has it; the reason where it has not."""
    from psiphi import evaluation
    from psiphi.evaluation._latents import PARTS, QUICK

    parts = PARTS if asked.thorough else QUICK
    answers: dict[str, Any] = {
        "elbo": lambda: evaluation.elbo(model, x[:ROWS], seed),
        "latents": lambda: evaluation.latents(model, x, asked.y, asked.train, seed, parts=parts),
    }
    if asked.odd is not None:
        odd, draws = asked.odd, min(samples, ODD_DRAWS)
        answers["anomalies"] = lambda: evaluation.anomalies(
            model, x, odd, train=asked.train, samples=draws, seed=seed
        )
    if found.likelihood is None and getattr(getattr(model, "decoder", None), "measure", None) == "discrete":
        answers["binarised"] = lambda: evaluation.binarised(model, x, samples=samples, seed=seed)
    if asked.thorough and getattr(model, "measure", None) == "continuous":
        answers["bits"] = lambda: evaluation.dequantised(
            model, x, step=_step(x, asked.train), samples=samples, seed=seed
        )
    missing = {}
    for name, answer in answers.items():
        try:
            found = replace(found, **{name: answer()})
        except (MissingVerb, DataError) as error:
            missing[name] = error.reason if isinstance(error, MissingVerb) and error.reason else str(error)
    return replace(found, missing=missing)


def _step(x: Tensor, train: Any) -> float:
    """The distance of the levels of the data, seen in more rows than those judged."""
    from psiphi.evaluation._dequantise import spacing
    from psiphi.evaluation._rows import rows_of

    seen = x if train is None else torch.cat([x, rows_of(train, tuple(x.shape[1:]), ROWS).x])
    return spacing(seen)


def _short(error: MissingVerb | MeasureError) -> str:
    return f"{error.reason}." if isinstance(error, MissingVerb) else str(error)


def pca_beside(train: Any, latent_dim: int) -> Any:
    """PCA at the same code size on the same training rows, or None where they are too few or have gaps.

    None too where the code is larger than the data.
    """
    from psiphi.training import fit
    from psiphi.zoo import pca

    if latent_dim > min(len(train), prod(train.x.shape[1:])):
        return None
    model = pca(tuple(train.x.shape[1:]), latent_dim)
    try:
        fit(model, train, quiet=True)
    except DataError:
        return None
    return model


@torch.no_grad()
def labels_of(classifier: nn.Module | Access, x: Tensor) -> tuple[Tensor, Tensor]:
    """The class that the classifier, or what an access shows of it, finds in each row, and its probability.

    NaN where an access shows labels only.
    """
    if not isinstance(classifier, nn.Module):
        return _shown(classifier, x)
    training = classifier.training
    classifier.eval()
    try:
        probability = torch.cat([classifier(part).softmax(1) for part in x.split(ROWS)])
    finally:
        classifier.train(training)
    confidence, label = probability.max(1)
    return label, confidence


def _shown(access: Access, x: Tensor) -> tuple[Tensor, Tensor]:
    sent = x.to(access.points(x[:0]))  # the device and dtype that it works in
    with access.session(sent):
        said = torch.cat([access.look(part).said for part in sent.split(ROWS)], 1).cpu()
    if said.ndim == 2:
        label = said.mode(0).values
        return label, torch.full(label.shape, torch.nan)
    confidence, label = said.mean(0).softmax(1).max(1)
    return label, confidence


def accuracy(classifier: nn.Module, x: Tensor, y: Tensor) -> Share:
    return Share(int((labels_of(classifier, x)[0] == y).sum()), len(y))


def robust(result: Result) -> Share:
    """Rows that were right and stayed right; undecided ones count as broken."""
    return Share(int(result.robust.sum()), len(result))


@dataclass(frozen=True)
class Defended:
    """A purifier in front of a classifier: what each attacker achieves. All are shares of correct answers.

    gray: the images that fool the bare classifier, purified; white: attacked through the purifier.
    """

    clean: Share
    gray: Share
    white: Share
    result: Result

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).as_dict() for name in ("clean", "gray", "white")}


def defend(
    attack: Attack, classifier: Any, purifier: Any, x: Tensor, y: Tensor, bare: Result, **how: Any
) -> Defended:
    """Judge `purify(classifier, purifier)` against images made without it, and against an attacker who knows it."""
    from psiphi.defenses import purify

    safe = purify(classifier, purifier)
    through = attack(how.pop("access")(safe), x, y, **how)
    return Defended(accuracy(safe, x, y), accuracy(safe, bare.x, y), robust(through), through)


GRAY_ALONE = (
    "The gray-box number alone proves nothing: those images were made without the purifier in mind; "
    "only the attacker who knows it (white-box) tests the defence."
)
