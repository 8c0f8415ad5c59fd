"""Every model of the zoo, small and trained once: the contract tests ask them all the same questions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.registry import models
from psiphi.formulas.distributions import DiagonalNormal, FullNormal
from psiphi.formulas.flows import Flowed
from psiphi.formulas.mixtures import Categorical
from psiphi.models import DenoiserModel, Generator
from psiphi.parts import Critic, Lipschitz
from psiphi.parts import contest as sides

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
    "ddpm": Case("ddpm", dict(plan="ancestral:20")),
    "ddpm-unet": Case("ddpm", dict(net="unet", hidden=(8, 8), plan="ddim:4", classes=CLASSES)),
    "ddpm-velocity": Case(
        "ddpm", dict(parametrisation="velocity", weighting="min_snr:5", plan="dpm_solver:6")
    ),
    "ddpm-flow": Case("ddpm", dict(schedule="flow", parametrisation="flow", weighting="flow", plan="ddim:6")),
    "edm": Case("edm", dict(plan="heun:6", classes=CLASSES)),
    "score_model": Case("score_model", dict(plan="annealed_langevin:10,repeats=2", ema=None)),
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


SHORT = {"steps": 20, "restarts": 2}  # a search that stops before its end
FLOW = {"steps": 12, "samples": 1}  # a flow of a few steps

# How each verb is asked about rows of data; its answer is a tensor with a row for each.
ASK: dict[str, Callable[[Any, Any], Tensor]] = {
    "encode": lambda model, x: model.encode(x),
    "posterior": lambda model, x: _flat(model.posterior(x)),
    "decode": lambda model, x: model.decode(codes(model, len(x))),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "sample": lambda model, x: model.sample(len(x), seed=3),
    "log_prob": lambda model, x: model.log_prob(
        x, seed=3, **(FLOW if isinstance(model, DenoiserModel) else {"samples": 20})
    ),
    "anomaly_score": lambda model, x: model.anomaly_score(x),
    "denoise": lambda model, x: model.denoise(x, _sigma(model)),
    "score": lambda model, x: model.score(x, _sigma(model)),
    "project": lambda model, x: model.project(x, **(SHORT if isinstance(model, Generator) else {})),
    "impute": lambda model, x: model.impute(x, torch.ones(SHAPE, dtype=torch.bool)),
    "predict": lambda model, x: model.predict(x),
}
OF_DATA = [verb for verb in ASK if verb not in ("decode", "sample")]  # those that are given x
ALWAYS_EXACT = {  # models whose plain sample is a draw from p(x) already
    "gaussian_mixture", "aae", "waae", "semi_supervised_aae", "wae_mmd", "vae_gan", "gan", "wgan", "wgan_gp",
    "score_model", "ddpm", "edm",
}  # fmt: skip
DISCRETE = {"predict"}  # without a gradient


def verbs_of(model: Any, among: Any = ASK) -> list[str]:
    return [verb for verb in among if verb in model.can]


def state(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same_state(before: dict, after: dict) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert_close(after[key], value, rtol=0, atol=0, msg=key)


# ------------------------------------------------------------------------------------ your own networks
# Where each parameter of the zoo that takes a module puts it.
SLOTS: dict[str, Callable[[Any], nn.Module]] = {
    "encoder": lambda model: _first(model.encoder.network),
    "decoder": lambda model: model.decoder.network,
    "network": lambda model: getattr(model, "denoiser", model).network,
    "generator": lambda model: model.network,
    "critic": lambda model: _critic(model).network,
}
OWN = [
    (entry.name, slot)
    for entry in models
    for slot, parameter in entry.parameters.items()
    if "Module" in str(parameter.annotation) or "Sequential" in str(parameter.annotation)
]


def _first(network: nn.Module) -> nn.Module:
    """The network itself, of one that is followed by what makes its code sparse."""
    return network[0] if isinstance(network, nn.Sequential) else network


def _critic(model: Any) -> Critic:
    """The critic that moves first."""
    return model.players()[0].module


class Own(nn.Module):
    """Somebody's network, with everything that could leave a trace: buffers, dropout, random draws."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.norm, self.drop = inner, nn.BatchNorm1d(1), nn.Dropout(0.3)

    def forward(self, x: Tensor, *told: Any) -> Tensor:
        return self.drop(self.inner(x, *told) + 0 * self.norm(x.flatten(1)[:, :1]).mean())


def in_slot(name: str, slot: str, module: nn.Module) -> nn.Module:
    """The module as the slot takes it: as the last but one of a list of layers, where the zoo asks for such a list."""
    layers = "Sequential" in str(models[name].parameters[slot].annotation)
    return nn.Sequential(module, nn.Identity()) if layers else module


def own(name: str, slot: str) -> tuple[nn.Module, Own]:
    """A network of your own for the slot, and the `Own` in it."""
    torch.manual_seed(0)
    mine = Own(SLOTS[slot](CASES[name].build(seed=3)))
    return in_slot(name, slot, mine), mine


def passes(model: Any, slot: str) -> int:
    """How often a round of training runs the network in the slot, from who plays and what each turn looks at.

    A critic's turn encodes; it decodes where decoded codes are compared; it scores both sides at once, and once more
    for a penalty on its slope. The model's turn runs each network once, and looks at every side that it reads.
    """
    if isinstance(model, Generator):
        scored = model.steps * _scored(model.critic) + _judged(model.critic)
        return model.steps + 1 if slot == "generator" else scored
    contests = getattr(model, "contests", ())
    if slot == "encoder":
        return 1 + sum(contest.steps for contest in contests)
    if slot == "decoder":
        return 1 + sum(contest.steps + 1 for contest in contests if contest.sides is sides.decoded)
    if slot == "critic":
        (contest,) = contests
        read = {term.name for _, term in model.objective.parts}
        asked = _judged(contest.critic) * (contest.term.name in read)
        asked += len(read & {sides.total_correlation.name, sides.feature_nll.name})
        return contest.steps * _scored(contest.critic) + asked
    return 1


def _scored(critic: Critic) -> int:
    """Passes of a critic in a step of its own."""
    return 1 + (type(critic.lipschitz).penalty is not Lipschitz.penalty)


def _judged(critic: Critic) -> int:
    """Passes of a critic for the loss of its opponent, which a paired game needs both sides for."""
    return 1 + critic.game.paired
