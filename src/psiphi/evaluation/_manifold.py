"""Whether codes and data answer to each other: φ(ψ(z)) against z, draws against the data, φ(T(x)) against φ(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.evaluation._rows import codes_of
from psiphi.evaluation._share import Share

QUANTILE = 0.99


@dataclass(frozen=True)
class Cycle:
    """Mean ‖φ(ψ(z)) − z‖, which is 0 where φ inverts ψ.

    at_codes: z the codes of data; at_draws: z drawn from the Gaussian fitted to them; spread: √E‖z − z̄‖², the
    length to compare with.
    """

    at_codes: float
    at_draws: float
    spread: float


@dataclass(frozen=True)
class Steadiness:
    """Mean ‖φ(T(x)) − φ(x)‖ under the model's own corruption T, beside √E‖z − z̄‖²; the probe on corrupted rows."""

    shift: float
    spread: float
    probe: Share | None


def gaussian_codes(z: Tensor, n: int, seed: int) -> Tensor:
    """n draws from N(z̄, Cov z), (n, d)."""
    covariance = z.T.cov(correction=0).reshape(z.shape[1], z.shape[1])
    values, vectors = torch.linalg.eigh(covariance)
    eps = Noise.of(seed, n, dtype=z.dtype).split("codes").normal((z.shape[1],))
    return z.mean(0) + (eps * values.clamp(min=0).sqrt()) @ vectors.T


@torch.no_grad()
def cycle(model: Any, z: Tensor, seed: int = 0) -> Cycle:
    """How far encoding undoes decoding, at codes z of data and at as many draws."""

    def off(at: Tensor) -> float:
        return float((codes_of(model, model.decode(at.to(model.dtype))) - at).norm(dim=1).mean())

    return Cycle(off(z), off(gaussian_codes(z, len(z), seed)), spread(z))


def spread(z: Tensor) -> float:
    """√E‖z − z̄‖²."""
    return float((z - z.mean(0)).square().sum(1).mean().sqrt())


@torch.no_grad()
def off_data(model: Any, x: Tensor, seen: Tensor, z: Tensor, seed: int = 0) -> Share:
    """The share of draws that decode further from the data than the data's own reconstructions lie.

    As many draws as rows of x: of the model's prior where it samples, else ψ(z) with z ~ N(z̄, Cov z) fitted to
    the codes z. A draw is off if its distance to the nearest row of `seen` exceeds the 99% quantile of that same
    distance for ψ(φ(x)), x held out. Draws that are like the data's reconstructions give about 1%.
    """
    drawn = (
        model.sample(len(x), seed=seed)
        if hasattr(model, "sample")
        else model.decode(gaussian_codes(z, len(x), seed).to(model.dtype))
    )
    own, found = (gap_to(seen, each) for each in (model.reconstruct(x), drawn))
    return Share(int((found > own.quantile(QUANTILE)).sum()), len(found))


def gap_to(seen: Tensor, x: Tensor) -> Tensor:
    """Distance of each row of x to the nearest row of `seen`, (n,)."""
    known = seen.flatten(1).double()
    return torch.cat([torch.cdist(part.flatten(1).cpu().double(), known).amin(1) for part in x.split(256)])


@torch.no_grad()
def steadiness(model: Any, x: Tensor, z: Tensor, seed: int = 0) -> tuple[float, Tensor]:
    """Mean ‖φ(T(x)) − φ(x)‖, and the codes of the corrupted rows."""
    noise = Noise.of(seed, len(x), model.device, model.dtype).split("corruption")
    corrupted = codes_of(model, model.corruption(x.to(model.device, model.dtype), noise))
    return float((corrupted - z).norm(dim=1).mean()), corrupted
