"""Terms of the regularised autoencoders and of the importance-weighted bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.bounds import log_mean_exp
from psiphi.formulas.calculus import squared_jacobian_norm
from psiphi.formulas.sparsity import GAPS, NORMS, penalty
from psiphi.parts.objective import Term, term
from psiphi.parts.trace import LatentTrace

EXACT_UP_TO = 16
PROJECTIONS = 8


@term
def bound(trace: LatentTrace) -> Tensor:
    """−ln (1/K) Σ_k w_k, w = p(x|z) p(z) / q(z|x): the importance-weighted bound; K = 1 is the ELBO's draw.

    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """
    return -log_mean_exp(trace.log_weights)


def contraction(latent_dim: int, projections: int | None = None) -> Term:
    """‖∂φ/∂x‖²_F: exact for codes up to 16 numbers, by 8 random projections for larger ones, unless given."""
    if projections is None:
        projections = 0 if latent_dim <= EXACT_UP_TO else PROJECTIONS

    def contraction(trace: LatentTrace) -> Tensor:
        code, directions = trace.q.mean, None
        if projections:
            assert trace.noise is not None
            shape = (projections, *code.shape[1:])
            directions = trace.noise.split("projections").normal(shape).to(code.dtype).transpose(0, 1)
        return squared_jacobian_norm(code, trace.x_in, directions)

    name = f"contraction({f'{projections} projections' if projections else 'exact'})"
    return Term(name, contraction, gradient=True)


def sparsity(kind: str, targets: Sequence[float], weights: Sequence[float], over: str = "batch") -> Term:
    """Σ_k w_k s(ρ̂_k, ρ_k) over the layers that the encoder recorded, the code last.

    kind: s is `kl`, `l2` or `l1` between sparsities, or `l1-norm`, `l2-norm` of the activations, which have no
    target; over: `batch` (each neuron's mean over rows) or `sample` (each row's mean over neurons).
    """
    if kind not in {**GAPS, **NORMS}:
        raise ArgumentError(f"no sparsity penalty is called {kind!r}; use {', '.join([*GAPS, *NORMS])}.")
    if over not in ("batch", "sample"):
        raise ArgumentError(f"sparsity is measured over 'batch' or 'sample'; got {over!r}.")

    def sparsity(trace: LatentTrace) -> Tensor:
        layers = trace.q.layers
        each = [
            weight * penalty(h.flatten(1), kind, target, over)
            for h, target, weight in zip(layers, targets, weights, strict=True)
        ]
        return torch.stack(each).sum(0)

    return Term(f"sparsity({kind})", sparsity, batch=kind in GAPS and over == "batch")


def label_nll(head: nn.Module) -> Term:
    """−ln q(y|z) of the rows whose label is known, 0 for the others, mean over the K samples."""

    def label_nll(trace: LatentTrace) -> Tensor:
        if trace.y is None:
            raise ArgumentError("this model needs labels: pass y, with −1 for the unknown ones.")
        logits: Any = head(trace.z.flatten(0, 1))
        y = trace.y.repeat(len(trace.z))
        return F.cross_entropy(logits, y, ignore_index=-1, reduction="none").view(len(trace.z), -1).mean(0)

    return Term("label_nll", label_nll)
