"""Denoisers: a network, a schedule, a parametrisation, a weighting and a plan."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.formulas import schedules
from psiphi.formulas.denoising import PARAMETRISATIONS, WEIGHTINGS, Weighting, min_snr
from psiphi.formulas.schedules import Schedule
from psiphi.models import DenoiserModel
from psiphi.models._walks import plan_of
from psiphi.parts import Statistics, adam
from psiphi.zoo._build import check_ema, check_whole, denoiser_network, positive


@models.register
def score_model(
    shape: int | Sequence[int],
    *,
    sigma_min: float = 0.01,
    sigma_max: float = 50.0,
    levels: int = 200,
    plan: str = "annealed_langevin:repeats=5",
    classes: int = 0,
    drop: float = 0.1,
    ema: float | None = 0.999,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    network: nn.Module | None = None,
    lr: float = 1e-3,
    seed: int = 0,
) -> DenoiserModel:
    """Score model on a ladder of noise: min E_i σ_i² ‖s(x + σ_i ε, σ_i) − ∇ ln p(x + σ_i ε | x)‖².

    sigma_min, sigma_max, levels: the ladder, geometric, in units of the data's σ. The rest as in `ddpm`.
    Source: Song & Ermon, "Generative modeling by estimating gradients of the data distribution", 2019, eq. 6, with the
    ladder of "Improved techniques for training score-based generative models", 2020.
    """
    ladder = schedules.exponential(sigma_min, sigma_max, check_whole("levels", levels))
    return ddpm(
        shape, schedule=ladder, parametrisation="score", plan=plan, classes=classes, drop=drop, ema=ema, net=net,
        hidden=hidden, network=network, lr=lr, seed=seed,
    )  # fmt: skip


@models.register
def ddpm(
    shape: int | Sequence[int],
    *,
    schedule: str | Schedule = "linear:1000",
    parametrisation: str = "noise",
    weighting: str | Weighting = "simple",
    plan: str = "ancestral",
    classes: int = 0,
    drop: float = 0.1,
    ema: float | None = 0.999,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    network: nn.Module | None = None,
    lr: float = 1e-3,
    seed: int = 0,
) -> DenoiserModel:
    """Denoising diffusion: min E ‖ε − ε̂(√ᾱ x₀ + √(1−ᾱ) ε)‖², ᾱ of a schedule, x₀ centred and in units of its σ.

    schedule: `linear:1000` (as published), `linear:T`, `cosine:T`; `linear` without T is continuous; `karras`, `flow`,
    `exponential:σ_min,σ_max`, or a `psiphi.samplers.schedules.Schedule`. parametrisation: what the network gives,
    `noise`, `velocity`, `edm`, `flow`, `score` or `denoised`; a perceptron on images learns the velocity far better
    than the noise. weighting: `simple`, `min_snr:5`, `likelihood`, `edm`, `flow`, `denoised`, or a value. plan: what
    `sample` walks, e.g. `ancestral`, `ddim:50`, `dpm_solver:20`, `heun:18`. classes: labels that the network is told,
    0 for none; drop: share of rows whose label it is not told, without which there is neither guidance nor a draw
    without label. ema: decay of the average of the weights, None for none. lr: of Adam. net: `mlp` or `unet`; hidden:
    widths of the layers, or channels of the levels; network: a module of your own, (x (B, *shape), ¼ ln σ (B,), y (B,)
    or None) -> (B, *shape).
    Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, algorithm 1.
    """
    shape, line = as_shape(shape), schedules.schedule(schedule)
    if parametrisation not in PARAMETRISATIONS:
        raise ArgumentError(
            f"a network gives {', '.join(PARAMETRISATIONS)}; got parametrisation={parametrisation!r}."
        )
    line.check(parametrisation)
    plan_of(plan, line)
    classes, statistics = check_whole("classes", classes, 0), Statistics(shape)
    return DenoiserModel(
        statistics, denoiser_network(net, network, shape, hidden, classes, seed), line,
        parametrisation=PARAMETRISATIONS[parametrisation], weighting=_weighting(weighting), plan=plan, classes=classes,
        drop=_drop(drop), optimizer=adam(positive("lr", lr)), ema=check_ema(ema),
    )  # fmt: skip


@models.register
def edm(
    shape: int | Sequence[int],
    *,
    schedule: str | Schedule = "karras",
    plan: str = "heun:18",
    classes: int = 0,
    drop: float = 0.1,
    ema: float | None = 0.999,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    network: nn.Module | None = None,
    lr: float = 1e-3,
    seed: int = 0,
) -> DenoiserModel:
    """Diffusion with a network of unit input, output and loss at every σ: D = c_skip x + c_out F(c_in x, ¼ ln σ).

    ln σ ~ N(−0.5, 1.2²) in units of the data's σ, which is measured. The rest as in `ddpm`.
    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, table 1.
    """
    return ddpm(
        shape, schedule=schedule, parametrisation="edm", weighting="edm", plan=plan, classes=classes, drop=drop,
        ema=ema, net=net, hidden=hidden, network=network, lr=lr, seed=seed,
    )  # fmt: skip


def _drop(share: float) -> float:
    if not 0 <= share < 1:
        raise ArgumentError(f"drop is the share of labels to hide, at least 0 and below 1; got {share!r}.")
    return share


def _weighting(given: str | Weighting) -> Weighting:
    if isinstance(given, Weighting):
        return given
    kind, _, number = str(given).partition(":")
    try:
        return min_snr(float(number)) if kind == "min_snr" and number else WEIGHTINGS[str(given)]
    except ArgumentError:
        raise
    except (KeyError, ValueError):
        raise ArgumentError(f"no weighting is called {given!r}; use {', '.join(WEIGHTINGS)}.") from None
