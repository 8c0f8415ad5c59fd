"""What denoisers are trained with: a network read by a parametrisation, the trace of one pass, terms that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from psiphi.basis.noise import Noise
from psiphi.formulas.calculus import per_row
from psiphi.formulas.denoising import Parametrisation, Weighting, denoising_loss
from psiphi.parts.conditional import refer
from psiphi.parts.objective import Term
from psiphi.parts.statistics import Statistics

INVERSE_GOLDEN = (5**0.5 - 1) / 2


class Denoiser(nn.Module):
    """D(x, σ, y) = m + σ_d [c_skip(s) u + c_out(s) F(c_in(s) u, ¼ ln s, y)], u = (x − m)/σ_d, s = σ/σ_d.

    network: (B, *shape), (B,), (B,) int64 or None -> (B, *shape), F; m and σ_d are the data's mean and the root
    mean square of the centred data. x and σ in the data's units, σ (B,); y: labels, −1 for none.
    """

    statistics: Statistics

    def __init__(self, network: nn.Module, statistics: Statistics, parametrisation: Parametrisation):
        super().__init__()
        refer(self, statistics)
        self.network, self.parametrisation = network, parametrisation

    def forward(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        u, s = self.statistics(x), sigma / self.statistics.sigma
        output = self.network(per_row(self.parametrisation.scale_in(s), u) * u, s.log() / 4, y)
        return self.statistics.inverse(self.parametrisation.denoised(u, output, s))


@dataclass(frozen=True)
class DenoisingTrace:
    """One pass x -> x + σ ε -> D.

    x: (B, *shape), clean; noisy, denoised: alike; sigma: (B,), in the data's units; unit: the data's σ, in which
    weightings count; rate: dσ/du of the schedule in that unit, (B,), where the weighting asks for it.
    """

    x: Tensor
    noisy: Tensor
    sigma: Tensor
    denoised: Tensor
    unit: Tensor
    rate: Tensor | None = None


def matching(weighting: Weighting) -> Term:
    """λ(σ/σ_d) ‖x − D‖²/σ_d² of each row: denoising score matching."""

    def value(trace: DenoisingTrace) -> Tensor:
        weight = weighting.at(trace.sigma / trace.unit, trace.rate)
        return denoising_loss(trace.x, trace.denoised, weight / trace.unit**2)

    return Term(f"matching({weighting})", value)


def levels(noise: Noise) -> Tensor:
    """u_i = frac(u + i/φ), one u ~ U(0, 1) for all rows i, φ the golden ratio: (B,), each uniform on [0, 1).

    Any rows that follow one another cover [0, 1) evenly, and row i is the same in whichever batch or process. Source
    of the idea: Kingma et al., "Variational diffusion models", 2021, appendix I.1, with steps of 1/B.
    """
    shared = replace(noise, rows=range(1), dtype=torch.float64).uniform()
    rows = noise.rows
    places = torch.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows
    turned = (places.to(noise.device, torch.float64) * INVERSE_GOLDEN + shared) % 1
    return turned.to(noise.dtype).clamp_(max=1 - 2**-24)
