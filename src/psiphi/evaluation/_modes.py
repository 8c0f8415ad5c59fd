"""Which modes of a known mixture a sampler reaches, and how it shares its mass among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise, forked
from psiphi.basis.shapes import as_batch, check_finite, show
from psiphi.evaluation._share import Share
from psiphi.formulas.modes import WIDTHS, bin_kl, ceiling, occupancy, reached, separation, target_mass
from psiphi.models._base import Model, check_count

SHOWN = 12


@dataclass(frozen=True)
class Modes:
    """What n points make of K modes.

    found: modes with at least one point within 3σ; quality: the share of points within 3σ of their nearest mode, whose
    ceiling is that of the mixture itself; counts: points of each mode, then those off all of them; reverse_kl:
    KL(points ‖ target) and forward_kl: KL(target ‖ points) over these K + 1 bins, in nats, +inf where a bin is empty.
    The mixture's own n points have a reverse KL of about K/2n. apart: the least distance of two modes, in σ.
    """

    found: int
    modes: int
    quality: Share
    ceiling: float
    counts: list[int]
    missed: list[int]
    reverse_kl: float
    forward_kl: float
    apart: float
    n: int

    @property
    def empty(self) -> list[str]:
        """Bins without a point, by name: they make the forward KL infinite."""
        return ["off" if k == self.modes else str(k) for k, count in enumerate(self.counts) if not count]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "quality": self.quality.as_dict(), "empty": self.empty}

    def __str__(self) -> str:
        near = "" if self.apart > 2 * WIDTHS else f"; modes only {self.apart:.1f}σ apart share their points"
        return (
            f"{self.found} of {self.modes} modes, {self.quality} within 3σ (ceiling {self.ceiling:.1%}), reverse KL "
            f"{self.reverse_kl:.4f} nats, forward KL {self._forward()}; {self.n} samples{near}"
        )

    def _forward(self) -> str:
        if not self.empty:
            return f"{self.forward_kl:.4f} nats"
        shown = self.empty[:SHOWN] + ["…"] * (len(self.empty) > SHOWN)
        return f"+inf (nothing at {', '.join(shown)})"


def modes(source: Any, target: Any, n: int = 2500, seed: int = 0) -> Modes:
    """How many modes of `target` the source reaches, and with how much of its mass.

    source: a model that samples (draws, not means of p(x|z)), a distribution of torch, a sampler
    `(n, noise) -> (n, d)`, or points (n, d), all of which count; target: a mixture of `data.toys`, or a pair (means
    (K, d), sigma). Errors: `ArgumentError`, `DataError`.
    Source of the protocol: Lin, Khetan, Fanti, Oh, "PacGAN", 2018, section 4.1; the bin of points off every mode is
    ours, as without it a sampler that puts half of its mass nowhere has a divergence of 0.
    """
    means, sigma = mixture_of(target)
    x = points_of(source, means.shape[1], n, seed)
    counts = occupancy(x, means, sigma)
    wanted, found = target_mass(*means.shape), counts.double() / len(x)
    lost = (~reached(x, means, sigma)).nonzero().squeeze(1).tolist()
    return Modes(
        found=len(means) - len(lost),
        modes=len(means),
        quality=Share(len(x) - int(counts[-1]), len(x)),
        ceiling=ceiling(means.shape[1]),
        counts=counts.tolist(),
        missed=lost,
        reverse_kl=bin_kl(found, wanted),
        forward_kl=bin_kl(wanted, found),
        apart=separation(means) / sigma,
        n=len(x),
    )


def is_mixture(target: Any) -> bool:
    """Whether it has modes: `means` and `sigma`, or is a pair of them."""
    if not isinstance(target, tuple):
        return hasattr(target, "means") and hasattr(target, "sigma")
    return len(target) == 2 and (isinstance(target[1], Real) or getattr(target[1], "ndim", None) == 0)


def mixture_of(target: Any) -> tuple[Tensor, float]:
    """Means (K, d) in double precision, and σ."""
    if not is_mixture(target):
        raise ArgumentError(
            f"modes are counted against a mixture of equal normals, and a {type(target).__name__} is none: give a toy "
            f"such as data.toys.grid(), or a pair (means, sigma)."
        )
    means, sigma = target if isinstance(target, tuple) else (target.means, target.sigma)
    means, sigma = torch.as_tensor(means).detach().cpu().double(), float(sigma)
    if means.ndim != 2 or not len(means) or not sigma > 0:
        raise ArgumentError(
            f"a mixture needs means (modes, dimension) and a positive sigma; got means {show(means.shape)} and sigma "
            f"{sigma:g}."
        )
    return means, sigma


@torch.no_grad()
def points_of(source: Any, dimension: int, n: int, seed: int) -> Tensor:
    """Points (n, d) in double precision: drawn from a model, a distribution or a sampler, or as they are given."""
    if isinstance(source, torch.distributions.Distribution):
        with forked(seed, "modes"):
            x = source.sample((check_count(n),)).reshape(n, -1)
    elif isinstance(source, nn.Module) and not isinstance(source, Model) and not hasattr(source, "sample"):
        raise ArgumentError(
            f"the source is a {type(source).__name__}, a module without `sample`: give a model that samples, a "
            "function (n, noise) -> (n, d), or points (n, d)."
        )
    elif isinstance(source, nn.Module) or hasattr(source, "sample"):
        draw: Any = source.sample
        x = draw(check_count(n), seed=seed, exact=True).flatten(1)
    elif callable(source):
        x = torch.as_tensor(source(check_count(n), Noise.of(seed, n)))
    else:
        x = source
    x = as_batch(x, (dimension,), "the samples").detach().cpu().double()
    check_finite(x, "the samples")
    if not len(x):
        raise DataError("there are no samples to look at: hand over at least one.")
    return x
