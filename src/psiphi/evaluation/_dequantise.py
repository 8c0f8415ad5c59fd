"""Likelihoods of pixels: densities as probabilities of levels, in bits per dimension; grey values drawn as bits."""

from __future__ import annotations

from dataclasses import replace
from math import log, prod
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import DataError, MeasureError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import as_batch
from psiphi.data import binarize
from psiphi.evaluation._likelihood import Likelihood, likelihood

MOST_LEVELS = 1024


@torch.no_grad()
def dequantised(
    model: Any, x: Any, step: float | None = None, samples: int = 500, seed: int = 0
) -> Likelihood:
    """Bits per dimension of integer levels, by uniform dequantisation: an upper bound, lower is better.

    A level k Δ stands for its cell of width Δ, so P(x) = ∫ p over the cell = Δ^D E_u p(x + Δu), u ~ U(−½, ½)^D, and
    −log₂ P(x)/D ≤ −(E ln p(x + Δu) + D ln Δ)/(D ln 2), with one draw of u a row. step: Δ in the units of the model's
    data; by default 1/255 for uint8, else the distance of the levels found in x.
    Raises `MeasureError` where the model's likelihood is no density, `DataError` where x does not lie on levels.
    Source: Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016, section 3.1.
    """
    model.log_prob  # noqa: B018  a model that has none says so
    if model.measure != "continuous":
        raise MeasureError(
            f"dequantisation makes probabilities of densities; the likelihood of {model.title} is {model.measure}: "
            f"use evaluation.likelihood."
        )
    is_bytes = getattr(torch.as_tensor(x), "dtype", None) == torch.uint8
    x = as_batch(x, model.shape)
    step = float(step) if step is not None else 1 / 255 if is_bytes else spacing(x)
    noise = Noise.of(seed, len(x), x.device, x.dtype).split("dequantise")
    found = likelihood(model, x + step * (noise.uniform(model.shape) - 0.5), samples=samples, seed=seed)
    size, bit = prod(model.shape), prod(model.shape) * log(2)
    return replace(
        found,
        mean=-(found.mean + size * log(step)) / bit,
        standard_error=found.standard_error / bit,
        spread=found.spread / bit,
        bias=-found.bias / bit,
        measure="dequantised",
        unit="bits per dimension",
    )


@torch.no_grad()
def binarised(model: Any, x: Any, samples: int = 500, seed: int = 0) -> Likelihood:
    """Mean ln p(b) in nats of pixels b ~ Bernoulli(x), drawn once from the seed: what a Bernoulli likelihood measures.

    The measure of the published numbers on binarised digits, where x are grey values in [0, 1].
    Raises `MeasureError` where the model's likelihood is not Bernoulli, `DataError` for x outside [0, 1].
    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, section 5.
    """
    model.log_prob  # noqa: B018  a model that has none says so
    if getattr(getattr(model, "decoder", model), "measure", None) != "discrete":
        raise MeasureError(
            f"the likelihood of {model.title} is {model.measure}, of no bits: use evaluation.likelihood."
        )
    x = as_batch(x, model.shape)
    noise = Noise.of(seed, len(x), x.device, x.dtype).split("binarise")
    found = likelihood(model, binarize(x, noise), samples=samples, seed=seed)
    return replace(found, measure="binarised")


def spacing(x: Tensor) -> float:
    """The distance Δ of levels k Δ + c that all values of x lie on; `DataError` where there is none."""
    values = x.double().unique()
    values = values[values.isfinite()]
    gaps = values.diff()
    step = float(gaps.min()) if len(gaps) else 0.0
    places = gaps / step if step else gaps
    if not step or len(values) > MOST_LEVELS or float((places - places.round()).abs().max()) > 1e-2:
        raise DataError(
            f"x takes {len(values)} values that are not multiples of one step: bits per dimension are for integer "
            f"levels, at most {MOST_LEVELS} of them; hand over uint8, or give step=."
        )
    return float(values[-1] - values[0]) / round(float((values[-1] - values[0]) / step))
