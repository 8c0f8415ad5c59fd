"""Every model of the zoo, small and trained once: the contract tests ask them all the same questions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import psiphi as pp
from psiphi.basis.registry import models
from psiphi.formulas.distributions import DiagonalNormal

SHAPE, LATENT, CLASSES, ROWS, STEPS = (1, 8, 8), 4, 10, 64, 30


@dataclass(frozen=True)
class Case:
    """A model of the zoo with arguments of its own; `binary`: trained on pixels of 0 and 1."""

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    binary: bool = False

    def build(self, **more: Any) -> Any:
        entry = models[self.model]
        usual = {"shape": SHAPE, "latent_dim": LATENT, "hidden": (16,), "classes": CLASSES}
        usual = {key: value for key, value in usual.items() if key in entry.parameters}
        return entry.build(**{**usual, **self.arguments, **more})

    @property
    def x(self) -> Tensor:
        grey = digits()[0]
        return (grey > 0.5).float() if self.binary else grey


# Each registered model as it comes, and forms of them that take another path through the code.
CASES = {entry.name: Case(entry.name) for entry in models} | {
    "ae-conv": Case("ae", dict(net="conv", hidden=(4, 8))),
    "vae-conv": Case("vae", dict(net="conv", hidden=(4, 8))),
    "vae-bernoulli": Case("vae", dict(likelihood="bernoulli"), binary=True),
    "vae-optimal": Case("vae", dict(likelihood="gaussian:optimal", samples=3)),
    "classifier-conv": Case("classifier", dict(net="conv", hidden=(4, 8))),
}


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """64 rows of the embedded digits and their labels."""
    train = pp.data.load("digits").train
    return torch.as_tensor(train.x[:ROWS]).clone(), torch.as_tensor(train.y[:ROWS]).clone()


def fitted(case: Case, **more: Any) -> Any:
    model = case.build()
    pp.fit(model, case.x, digits()[1], **{"steps": STEPS, "batch_size": 32, "seed": 0, "quiet": True, **more})
    return model


@functools.cache
def _trained(name: str) -> Any:
    return fitted(CASES[name])


def trained(name: str) -> Any:
    """A copy of the case's trained model, to do with as one likes."""
    return deepcopy(_trained(name))


def _flat(q: Any) -> Tensor:
    assert isinstance(q, DiagonalNormal)
    return torch.cat([q.mean, q.log_scale], 1)


def codes(model: Any, rows: int) -> Tensor:
    gen = torch.Generator().manual_seed(5)
    return torch.randn(rows, model.latent_dim, generator=gen, dtype=model.dtype)


# How each verb is asked about rows of data; its answer is a tensor with a row for each.
ASK: dict[str, Callable[[Any, Any], Tensor]] = {
    "encode": lambda model, x: model.encode(x),
    "posterior": lambda model, x: _flat(model.posterior(x)),
    "decode": lambda model, x: model.decode(codes(model, len(x))),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "sample": lambda model, x: model.sample(len(x), seed=3),
    "log_prob": lambda model, x: model.log_prob(x, samples=20, seed=3),
    "anomaly_score": lambda model, x: model.anomaly_score(x),
    "denoise": lambda model, x: model.denoise(x, 0.1),
    "score": lambda model, x: model.score(x, 0.1),
    "project": lambda model, x: model.project(x),
    "impute": lambda model, x: model.impute(x, torch.ones(SHAPE, dtype=torch.bool)),
    "predict": lambda model, x: model.predict(x),
}
OF_DATA = [verb for verb in ASK if verb not in ("decode", "sample")]  # those that are given x
DISCRETE = {"predict"}  # without a gradient


def verbs_of(model: Any, among: Any = ASK) -> list[str]:
    return [verb for verb in among if verb in model.can]


def state(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
