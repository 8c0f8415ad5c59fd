"""Numbers that several verbs and the report show: each with its error, or with the reason why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from psiphi.basis.errors import MeasureError, MissingVerb
from psiphi.formulas.intervals import wilson

if TYPE_CHECKING:
    from torch import Tensor, nn

    from psiphi.attacks import Attack, Result
    from psiphi.evaluation import Likelihood, Reconstruction

ROWS = 1024


@dataclass(frozen=True)
class Share:
    """hits of n, with Wilson's 95% interval."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.n) if self.n else (0.0, 1.0)

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval), "hits": self.hits, "n": self.n}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}]" if self.n else "—"


@dataclass(frozen=True)
class Judged:
    """One model on held-out rows; `why` says what stands in the way of a likelihood."""

    name: str
    latent_dim: int | None
    reconstruction: Reconstruction | None
    likelihood: Likelihood | None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(model: Any, x: Tensor, samples: int = 500, seed: int = 0, name: str | None = None) -> Judged:
    """Reconstruction and likelihood of rows that the model has not seen, where it has them."""
    from psiphi import evaluation

    found = Judged(name or model.title, getattr(model, "latent_dim", None), None, None)
    if hasattr(model, "reconstruct"):
        found = replace(found, reconstruction=evaluation.reconstruction(model, x))
    try:
        return replace(found, likelihood=evaluation.likelihood(model, x, samples=samples, seed=seed))
    except (MissingVerb, MeasureError) as error:
        return replace(found, why=_short(error))


def _short(error: MissingVerb | MeasureError) -> str:
    return (
        f"{error.model} has no likelihood: {error.reason}." if isinstance(error, MissingVerb) else str(error)
    )


def pca_beside(train: Any, latent_dim: int) -> Any:
    """PCA at the same code size on the same training rows, or None where they are too few."""
    from psiphi.training import fit
    from psiphi.zoo import pca

    if len(train) < latent_dim:
        return None
    model = pca(tuple(train.x.shape[1:]), latent_dim)
    fit(model, train, quiet=True)
    return model


@torch.no_grad()
def labels_of(classifier: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The class that the classifier finds in each row, and its probability."""
    training = classifier.training
    classifier.eval()
    try:
        probability = torch.cat([classifier(part).softmax(1) for part in x.split(ROWS)])
    finally:
        classifier.train(training)
    confidence, label = probability.max(1)
    return label, confidence


def accuracy(classifier: nn.Module, x: Tensor, y: Tensor) -> Share:
    return Share(int((labels_of(classifier, x)[0] == y).sum()), len(y))


def neighbours(model: Any, train: Any, x: Tensor, y: Tensor) -> Share:
    """Rows whose nearest training row, by distance between codes, has their label."""
    from sklearn.neighbors import KNeighborsClassifier

    with torch.no_grad():
        known, asked = model.encode(torch.as_tensor(train.x[:])), model.encode(x)
    found = KNeighborsClassifier(1).fit(known.numpy(), train.y.numpy()).predict(asked.numpy())
    return Share(int((torch.as_tensor(found) == y).sum()), len(y))


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
