"""What is missing given what is seen, by a model with a code.

E[x_m|x_o] = ∫ E[x_m|z] p(z|x_o) dz ≈ Σ_k w̃_k E[x_m|z_k], w̃_k ∝ p(x_o|z_k) p(z_k) / ½[q(z_k|x̂) + p(z_k)], half of the
draws from q(z|x̂), half from the prior. x̂ is x with its gaps, where the encoder was trained on gaps; else they are
filled by x_m ← E[x_m | z = E[z|x̂]], again and again. A model without a density has that filling alone.

Source: Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019, eq. 11;
the filling: Rezende, Mohamed, Wierstra, "Stochastic backpropagation …", 2014, appendix F, with means for draws.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import BLOCK, Noise
from psiphi.basis.shapes import as_batch, check_finite, show
from psiphi.formulas.distributions import draw
from psiphi.formulas.gaps import defensive_log_weights

ROUNDS = 50
DRAW_NUMBERS = 1 << 18


def gaps(model: Any, x: Any, where: Any) -> tuple[Tensor, Tensor]:
    """x as a batch of the model's dtype with zeros in its gaps, and what is seen, bool like x.

    where: True where x is seen, (*shape) or (B, *shape); None: NaN is what is missing. Errors: `DataError` for
    infinity, and for NaN where `where` says seen; `ShapeError`, `ArgumentError` for another mask.
    """
    x = as_batch(x, model.shape).to(model.dtype)
    seen = ~x.isnan() if where is None else _mask(where, x)
    x = torch.where(seen, x, 0)
    check_finite(x.detach())
    return x, seen


def _mask(where: Any, x: Tensor) -> Tensor:
    where = torch.as_tensor(where, device=x.device)
    if where.dtype != torch.bool:
        raise ArgumentError(f"where is True where x is seen, of type bool; got {where.dtype}.")
    try:
        return where.expand(x.shape)
    except RuntimeError:
        raise ShapeError(
            f"where has shape {show(where.shape)}; {show(x.shape[1:])} or {show(x.shape)} is needed."
        ) from None


@torch.no_grad()
def impute(
    model: Any, x: Tensor, seen: Tensor, samples: int, seed: int, exact: bool, density: bool
) -> Tensor:
    """What to fill gaps with, (B, *shape) where x is: the mean, or one draw each when `exact`; x, seen: of `gaps`."""
    if exact and not density:
        raise ArgumentError(f"{model.title} has no density to draw from: leave out exact=True.")
    noise = Noise.of(seed, len(x), model.device, model.dtype)
    filled = []
    for start in range(0, max(1, len(x)), BLOCK):  # noise comes in blocks
        rows = slice(start, start + BLOCK)
        part, there = x[rows].to(model.device, model.dtype), seen[rows].to(model.device)
        if bool(there.all()):
            filled.append(part)
            continue
        guess = _guess(model, part, there)
        if density:
            filled.append(_weighted(model, guess, there, noise.take(rows), samples, exact))
        else:
            filled.append(model(guess))
    return torch.cat(filled).to(x)


def _guess(model: Any, x: Tensor, seen: Tensor) -> Tensor:
    """x̂: x with NaN in its gaps for an encoder that reads them, else with the model's own means, found by turns."""
    if model.takes_missing:
        return torch.where(seen, x, torch.nan)
    guess = torch.where(seen, x, model.statistics.mean)
    for _ in range(ROUNDS):
        guess = torch.where(seen, x, model(guess))
    return guess


def _weighted(model: Any, guess: Tensor, seen: Tensor, noise: Noise, samples: int, exact: bool) -> Tensor:
    """Σ_k w̃_k E[x|z_k], or x ~ p(x|z_k) with k ~ w̃, (B, *shape); decoded a few rows at a time."""
    q, prior = model.encoder(guess), model.prior()
    z = draw(q, noise, max(1, samples // 2))[0]
    z = torch.cat([z, prior.rsample(noise.split("prior"), max(1, samples // 2))])
    log_q, log_prior = q.log_prob(z), prior.log_prob(z)
    choice = noise.split("choice").uniform()
    chosen, means = [], []
    step = max(1, DRAW_NUMBERS // (prod(model.shape) * len(z)))
    for start in range(0, max(1, len(guess)), step):
        rows = slice(start, start + step)
        codes = z[:, rows]
        p: Any = model.decoder(codes.flatten(0, 1)).unflatten(len(codes))
        explained = p.log_prob(guess[rows], seen[rows])
        weights = defensive_log_weights(explained, log_prior[:, rows], log_q[:, rows]).softmax(0)
        if exact:
            k = (choice[rows] >= weights.cumsum(0)).sum(0).clamp(max=len(codes) - 1)
            chosen.append(codes[k, torch.arange(codes.shape[1], device=codes.device)])
        else:
            means.append(p.average(weights) if hasattr(p, "average") else _mean(weights, p.mean))
    if exact:
        return model.decoder(torch.cat(chosen)).rsample(noise.split("x"))[0]
    return torch.cat(means)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """Σ_k w_k v_k: (K, B), (K, B, *shape) -> (B, *shape)."""
    return (weights.view(*weights.shape, *[1] * (values.ndim - 2)) * values).sum(0)
