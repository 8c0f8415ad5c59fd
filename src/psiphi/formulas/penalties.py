"""What keeps a critic's slope in check, of each sample: norms are per sample, never over the batch."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from psiphi.formulas.calculus import input_gradient, per_row

Critic = Callable[[Tensor], Tensor]


def squared_slope(critic: Critic, x: Float[Tensor, "n *x"], create_graph: bool = True) -> Float[Tensor, " n"]:
    """‖∇f(x)‖² of each sample: R1 on samples of q, R2 on samples of p (times ½γ).

    Source: Mescheder, Geiger, Nowozin, "Which training methods for GANs do actually converge?", 2018, eq. 9.
    """
    return input_gradient(critic, x, create_graph=create_graph).flatten(1).square().sum(1)


def between(
    q: Float[Tensor, "n *x"], p: Float[Tensor, "n *x"], u: Float[Tensor, " n"]
) -> Float[Tensor, "n *x"]:
    """x̂ = p + u (q − p): a point on the segment of each pair, one u in [0, 1] a sample."""
    return p.lerp(q, per_row(u, p))


def slope_gap(critic: Critic, x: Float[Tensor, "n *x"], target: float = 1.0) -> Float[Tensor, " n"]:
    """(‖∇f(x)‖ − target)² of each sample: at x̂ `between` the two sides it is the gradient penalty.

    Source: Gulrajani et al., "Improved training of Wasserstein GANs", 2017, eq. 3.
    """
    norm = (squared_slope(critic, x) + 1e-12).sqrt()  # the root has no gradient at 0
    return (norm - target).square()
