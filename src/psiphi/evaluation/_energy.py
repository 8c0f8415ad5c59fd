"""Energies: what a score integrates to, and whether it does."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from psiphi.basis.shapes import as_batch
from psiphi.formulas import denoising


@torch.no_grad()
def energy(
    model: Any, x: Any, sigma: float | None = None, origin: Any = None, nodes: int = 32
) -> Float[Tensor, " b"]:
    """E(x) − E(o) = −∫₀¹ (x − o)·s(o + t(x − o)) dt, (B,), in nats: ln p_σ(o) − ln p_σ(x) by the model's score s.

    sigma: noise level of `model.score`, its own unless given; origin: o (*shape), the data's mean unless given. The
    path is straight: where `curl` is not 0 another one would say otherwise. nodes: of the integral; where σ is far
    below ‖x − o‖ the score is steep and needs more, about 10 ‖x − o‖/σ. Raises `MissingVerb` for a model without a
    score. Source: Alain & Bengio, "What regularized auto-encoders learn from the data-generating distribution", 2014;
    in closed form for tied weights: Kamyshanska & Memisevic, "The potential energy of an autoencoder", 2015.
    """
    score, x = model.score, as_batch(x, model.shape)
    if origin is None:
        begin = model.statistics.mean.to(x)
    else:
        begin = as_batch(torch.as_tensor(origin)[None], model.shape, "origin")[0].to(x)
    return denoising.path_energy(lambda at: score(at, sigma), x, begin.expand_as(x), nodes)


def curl(model: Any, x: Any, sigma: float | None = None) -> Float[Tensor, " b"]:
    """‖J − Jᵀ‖_F / ‖J + Jᵀ‖_F of J = ∂s/∂x at each row, (B,): 0 where the score s is the gradient of an energy.

    One backward pass a coordinate. sigma: as in `energy`. Raises `MissingVerb` for a model without a score.
    """
    score = model.score
    with torch.enable_grad():
        x = as_batch(x, model.shape).detach().requires_grad_()
        found = score(x, sigma).flatten(1)
        rows = [
            torch.autograd.grad(found[:, j].sum(), x, retain_graph=True)[0].flatten(1)
            for j in range(found.shape[1])
        ]
    return denoising.curl(torch.stack(rows, 1))
