"""The tour's models: one of each family on the same digits, trained, drawn from and judged by the same measures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from psiphi import evaluation, zoo
from psiphi.app.tour._families import FAMILIES, Family
from psiphi.basis.errors import ArgumentError, DataError, MeasureError, MissingVerb
from psiphi.training import fit

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.data import Data
    from psiphi.evaluation import Fidelity, Frechet, Likelihood, Ranking, Reconstruction, Samples, Share
    from psiphi.training import History

Step = Callable[..., Any]
MIRRORED = (0, 1, 8)  # digits whose mirror image is a digit again
FLOW_ROWS = 256  # of a likelihood by the probability flow


@dataclass(frozen=True)
class Found:
    """One trained model, judged: what it lacks is None, and `why` has the reason by the measure's name.

    frechet, fidelity, classes: of `drawn`, what `model.sample` returns; ranking: of mirrored digits above digits, by
    `model.anomaly_score`; probe: the class by logistic regression on the code.
    """

    family: Family
    model: Any
    history: History
    seconds: float
    drawn: Tensor | None = None
    reconstruction: Reconstruction | None = None
    likelihood: Likelihood | None = None
    probe: Share | None = None
    frechet: Frechet | None = None
    fidelity: Fidelity | None = None
    classes: Samples | None = None
    ranking: Ranking | None = None
    why: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.family.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values; `training` are seconds on the clock."""
        judged = ("reconstruction", "likelihood", "probe", "frechet", "fidelity", "classes")
        values = {key: getattr(self, key) for key in judged}
        ranking = None if self.ranking is None else vars(self.ranking)
        return {
            "model": self.name,
            "arguments": self.model.recipe["arguments"],
            "training": round(self.seconds, 2),
            **{key: None if value is None else value.as_dict() for key, value in values.items()},
            "mirrored": ranking,
            "why": self.why,
        }


@dataclass(frozen=True)
class Models:
    """Every family's model, and the floor of the Fréchet distance: training digits in the place of samples."""

    found: list[Found]
    floor: Frechet
    real: Fidelity
    usual: int
    rows: int

    def __getitem__(self, name: str) -> Found:
        return next(each for each in self.found if each.name == name)

    @property
    def measures(self) -> list[str]:
        """Of the likelihoods, in order of appearance: a column each."""
        return list(dict.fromkeys(each.likelihood.measure for each in self.found if each.likelihood))

    def best(self, what: str, low: bool = True, among: Callable[[Found], bool] = lambda each: True) -> Found:
        """The model with the least (or the largest) of a number that several have."""
        having = [each for each in self.found if getattr(each, what) is not None and among(each)]
        return (min if low else max)(having, key=lambda each: VALUES[what](getattr(each, what)))


VALUES: dict[str, Callable[[Any], float]] = {
    "reconstruction": lambda one: one.squared_error,
    "probe": lambda one: one.value,
    "frechet": lambda one: one.value,
    "ranking": lambda one: one.auroc,
}


def train(data: Data, shortened: Mapping[str, Any], seed: int, step: Step) -> list[Found]:
    """Fit each family's model; `shortened` replaces arguments of `fit` or of the builder where a look is enough."""
    found = []
    for family in FAMILIES:
        family = family.shortened(shortened)
        with step(f"Training {family.title}", family.idea):
            model = family.build(zoo, data.shape, seed)
            began = time.perf_counter()
            history = fit(model, data, seed=seed, quiet=True, **family.training)
            found.append(Found(family, model, history, time.perf_counter() - began))
    return found


def judge(
    found: list[Found], data: Data, x: Tensor, y: Tensor, classifier: Any, *, draws: int, n: int, seed: int
) -> Models:
    """The same questions to every model, on digits that none has seen."""
    whole = ~torch.isin(y, torch.tensor(MIRRORED))
    odd = Odd(x[whole], x[whole].flip(-1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", evaluation.SmallSampleWarning)  # the floor shows the bias
        real = torch.as_tensor(data.train.x[:n])
        asked = Asked(data, x, y, classifier, odd, draws, len(real), seed)
        floor = evaluation.frechet(real, x, classifier, "test")
        return Models(
            [_judged(each, asked) for each in found],
            floor,
            evaluation.fidelity(real, x, features=classifier, split="test"),
            int(whole.sum()),
            len(x),
        )


@dataclass(frozen=True)
class Odd:
    """Digits, and their mirror images."""

    usual: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class Asked:
    """What every model is judged on."""

    data: Data
    x: Tensor
    y: Tensor
    classifier: Any
    odd: Odd
    draws: int
    n: int
    seed: int


def _judged(found: Found, asked: Asked) -> Found:
    model, x, classifier = found.model, asked.x, asked.classifier
    ev, seed = evaluation, asked.seed
    rows = x[:FLOW_ROWS] if getattr(model, "measure", None) == "smoothed" else x
    questions: dict[str, Callable[[], Any]] = {
        "reconstruction": lambda: ev.reconstruction(model, x),
        "likelihood": lambda: ev.likelihood(model, rows, samples=asked.draws, seed=seed),
        "probe": lambda: ev.latents(model, x, asked.y, asked.data.train, seed, parts=("labels",)).probe,
        "ranking": lambda: _ranking(model, asked),
        "drawn": lambda: model.sample(asked.n, seed=seed).detach(),
    }
    answers, why = _answered(questions)
    if answers.get("drawn") is not None:
        y = answers["drawn"]
        answers["frechet"] = ev.frechet(y, x, classifier, "test")
        answers["fidelity"] = ev.fidelity(y, x, features=classifier, split="test")
        answers["classes"] = ev.samples(model, classifier, asked.y, n=asked.n, seed=seed)
    return replace(found, **answers, why=why)


def _ranking(model: Any, asked: Asked) -> Any:
    model.anomaly_score  # noqa: B018  a model that has none says so
    found = evaluation.anomalies(
        model, asked.odd.usual, asked.odd.mirrored, scores=("anomaly_score",), seed=asked.seed
    )
    return found.scores["anomaly_score"]


def _answered(questions: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """What could be answered, and of the rest why not."""
    answers, why = {}, {}
    for name, ask in questions.items():
        try:
            answers[name] = ask()
        except (MissingVerb, MeasureError, DataError, ArgumentError) as error:
            why[name] = error.reason if isinstance(error, MissingVerb) and error.reason else str(error)
    return answers, why


def numbers(models: Models) -> dict[str, Any]:
    """What the page says of them, for machines."""
    return {
        "models": [each.as_dict() for each in models.found],
        "frechet_floor": models.floor.as_dict(),
        "fidelity_of_training_digits": models.real.as_dict(),
    }
