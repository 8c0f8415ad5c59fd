"""Gradients with respect to inputs, and the one step that attacks and Langevin chains share."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor


def input_gradient(
    score_fn: Callable[[Tensor], Tensor], x: Float[Tensor, "b *x"], *, create_graph: bool = False
) -> Float[Tensor, "b *x"]:
    """Gradient of a per-sample score with respect to the input alone.

    g_i = ∂ score_i(x) / ∂x_i, where score_i depends on row i of `x` only.

    `score_fn` maps (b, *x) to (b,). Parameters' gradients are neither computed nor touched; with
    `create_graph` the result can be differentiated again (gradient penalties). Works under
    `torch.no_grad`. Raises `RuntimeError` if the score does not depend differentiably on `x`.

    Source: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", 2015, section 4.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score_fn(x).sum(), x, create_graph=create_graph)
    return gradient


def input_gradients(
    values_fn: Callable[[Tensor], Tensor], x: Float[Tensor, "b *x"]
) -> Float[Tensor, "b r *x"]:
    """Gradients of R values a sample with respect to the input alone: g_ij = ∂ value_ij(x) / ∂x_i.

    `values_fn` maps (b, *x) to (b, r), row i of it from row i of `x` only: one pass forward, r back. As
    `input_gradient` otherwise.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        values = values_fn(x)
        last = values.shape[1] - 1
        columns = [
            torch.autograd.grad(column.sum(), x, retain_graph=j < last)[0]
            for j, column in enumerate(values.unbind(1))
        ]
    return torch.stack(columns, 1)


def pulled_back(v: Float[Tensor, "b *x"], u: Float[Tensor, "b *u"], gradient: Tensor) -> Tensor:
    """Gradients at v(u) as gradients at u, row by row: (∂v/∂u)ᵀ g, for g (b, *x) or several a row, (b, r, *x).

    `v` must have been computed from `u` with gradients enabled.
    """
    if gradient.ndim == v.ndim:
        return torch.autograd.grad(v, u, gradient)[0]
    last = gradient.shape[1] - 1
    columns = [
        torch.autograd.grad(v, u, g, retain_graph=j < last)[0] for j, g in enumerate(gradient.unbind(1))
    ]
    return torch.stack(columns, 1)


@overload
def per_row(value: Tensor, x: Tensor) -> Tensor: ...
@overload
def per_row(value: float | Tensor, x: Tensor) -> float | Tensor: ...
def per_row(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A scalar as it is; a value (b,) as (b, 1, ..., 1), so that it multiplies the rows of `x`."""
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.view(-1, *[1] * (x.ndim - 1))
    return value


def ascent_step(
    x: Float[Tensor, "b *x"],
    direction: Float[Tensor, "b *x"],
    step: float | Float[Tensor, " b"],
    project: Callable[[Tensor], Tensor] | None = None,
    noise: Float[Tensor, "b *x"] | None = None,
    temperature: float = 0.0,
) -> Float[Tensor, "b *x"]:
    """One step uphill, with heat and a projection.

    x ← Π(x + ε d + √(2 ε T) ξ)

    `step` is ε, a scalar or (b,); `noise` is ξ ~ N(0, I), needed when the temperature T > 0. T = 0 and
    Π the projection onto a ball is a step of projected gradient descent; T = 1, d = ∇ ln p and no Π
    is a step of the unadjusted Langevin algorithm.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018,
    section 2.1; Welling, Teh, "Bayesian learning via stochastic gradient Langevin dynamics", 2011, eq. 2-3.
    """
    step = per_row(step, x)
    x = x + step * direction
    if temperature > 0:
        if noise is None:
            raise ValueError(f"a step at temperature {temperature:g} needs noise, N(0, I) of the shape of x")
        x = x + (2 * step * temperature) ** 0.5 * noise
    return x if project is None else project(x)


def squared_jacobian_norm(
    output: Float[Tensor, "b d"],
    x: Float[Tensor, "b *x"],
    directions: Float[Tensor, "r b d"] | None = None,
) -> Float[Tensor, " b"]:
    """‖∂φ/∂x‖²_F of each row, differentiable: exact, or the mean of ‖vᵀ ∂φ/∂x‖² over directions v ~ N(0, I).

    Exact takes d backward passes, the estimate r; both are unbiased, as E v vᵀ = I. `output` is φ(x), whose row
    i depends on row i of `x` alone. Source: Rifai et al., "Contractive auto-encoders", 2011, eq. 1; Hutchinson,
    "A stochastic estimator of the trace of the influence matrix", 1989.
    """
    if directions is None:
        directions = torch.eye(output.shape[1], dtype=output.dtype, device=output.device)
        directions = directions[:, None].expand(-1, len(output), -1)
        scale = 1.0
    else:
        scale = 1 / len(directions)
    (rows,) = torch.autograd.grad(output, x, directions, create_graph=True, is_grads_batched=True)
    return scale * rows.square().flatten(2).sum((0, 2))
