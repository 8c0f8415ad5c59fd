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
from psiphi.formulas.distributions import DiagonalNormal, FullNormal
from psiphi.formulas.flows import Flowed
from psiphi.formulas.mixtures import Categorical

SHAPE, LATENT, CLASSES, ROWS, STEPS = (1, 8, 8), 4, 10, 64, 30


@dataclass(frozen=True)
class Case:
    """A model of the zoo with arguments of its own; `binary`: trained on pixels of 0 and 1."""

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    binary: bool = False

    def build(self, **more: Any) -> Any:
        entry = models[self.model]
        usual = {
            "shape": SHAPE,
            "latent_dim": LATENT,
            "components": LATENT,
            "hidden": (16,),
            "classes": CLASSES,
        }
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
    # Small variances and sharp posteriors go together: these are soft enough to have a gradient that is not 0.
    "gaussian_mixture": Case("gaussian_mixture", dict(covariance="spherical")),
    "gaussian_mixture-full": Case("gaussian_mixture", dict(reg_covar=1.0)),
    "gaussian_mixture-gradient": Case("gaussian_mixture", dict(method="gradient")),
    "ae-tied": Case("ae", dict(tied=True, activation="tanh")),
    "k_sparse_ae-alpha": Case("k_sparse_ae", dict(alpha=2.0, k=2, tied=True)),
    "sparse_ae-norm": Case("sparse_ae", dict(penalty="l1-norm", hidden=(16,), net="mlp")),
    "sparse_ae-sample": Case("sparse_ae", dict(penalty="kl", over="sample", net="conv", hidden=(4, 8))),
    "denoising_ae-masking": Case("denoising_ae", dict(corruption="masking:0.3+salt_and_pepper:0.1")),
    "contractive_ae-projections": Case("contractive_ae", dict(projections=2)),
    "vae-full": Case("vae", dict(posterior="full")),
    "vae-autoregressive": Case("vae", dict(posterior="autoregressive", prior="mixture:3")),
    "vae-coupling": Case("vae", dict(posterior="coupling", prior="flow")),
    "vae-vamp": Case("vae", dict(prior="vamp:3")),
    "conditional_vae-conv": Case("conditional_vae", dict(net="conv", hidden=(4, 8))),
    "semi_supervised_vae-bernoulli": Case("semi_supervised_vae", dict(likelihood="bernoulli"), binary=True),
    "aae-labelled": Case("aae", dict(classes=CLASSES)),
    "aae-wasserstein": Case("aae", dict(game="wasserstein", lipschitz="gp:10", loss="absolute")),
    "vae_gan-conv": Case("vae_gan", dict(net="conv", hidden=(4, 8), lipschitz="spectral")),
    "gan-conv": Case("gan", dict(net="conv", hidden=(4, 8), classes=CLASSES, pack=2, lipschitz="r1:1")),
    "gan-relativistic": Case("gan", dict(game="relativistic", steps=2, ema=None)),
    "gan-hinge": Case("gan", dict(game="hinge", lipschitz="spectral")),
    "gan-least_squares": Case("gan", dict(game="least squares", lipschitz="r2:1")),
    "wgan_gp-packed": Case("wgan_gp", dict(pack=4, classes=CLASSES)),
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
    if isinstance(q, Categorical):
        return torch.cat([q.mean, q.log_probs], 1)
    if isinstance(q, FullNormal):
        return torch.cat([q.mean, q.tril.diagonal(dim1=-2, dim2=-1).log()], 1)
    base = q.base if isinstance(q, Flowed) else q
    assert isinstance(base, DiagonalNormal)
    return torch.cat([q.mean, base.log_scale], 1)


def _sigma(model: Any) -> float:
    """The noise that a model can remove: its own where it learnt a single one."""
    return getattr(getattr(model, "corruption", None), "sigma", 0.1)


def codes(model: Any, rows: int) -> Tensor:
    gen = torch.Generator().manual_seed(5)
    return torch.randn(rows, getattr(model, "latent_dim", LATENT), generator=gen, dtype=model.dtype)


# How each verb is asked about rows of data; its answer is a tensor with a row for each.
ASK: dict[str, Callable[[Any, Any], Tensor]] = {
    "encode": lambda model, x: model.encode(x),
    "posterior": lambda model, x: _flat(model.posterior(x)),
    "decode": lambda model, x: model.decode(codes(model, len(x))),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "sample": lambda model, x: model.sample(len(x), seed=3),
    "log_prob": lambda model, x: model.log_prob(x, samples=20, seed=3),
    "anomaly_score": lambda model, x: model.anomaly_score(x),
    "denoise": lambda model, x: model.denoise(x, _sigma(model)),
    "score": lambda model, x: model.score(x, _sigma(model)),
    "project": lambda model, x: model.project(x),
    "impute": lambda model, x: model.impute(x, torch.ones(SHAPE, dtype=torch.bool)),
    "predict": lambda model, x: model.predict(x),
}
OF_DATA = [verb for verb in ASK if verb not in ("decode", "sample")]  # those that are given x
ALWAYS_EXACT = {  # models whose plain sample is a draw from p(x) already
    "gaussian_mixture", "aae", "waae", "semi_supervised_aae", "wae_mmd", "vae_gan", "gan", "wgan", "wgan_gp",
}  # fmt: skip
DISCRETE = {"predict"}  # without a gradient


def verbs_of(model: Any, among: Any = ASK) -> list[str]:
    return [verb for verb in among if verb in model.can]


def state(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
