"""Tables in a model: what networks see of a row with gaps, and the likelihood of its columns.

Encoders and decoders of any kind serve: `TableStatistics` gives each number its own mean and σ and leaves codes as
they are, `TableInput` stands in front of the encoder's network, and `MixedDecoder` behind the decoder's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import DataError
from psiphi.formulas.distributions import Measure
from psiphi.formulas.mixed import Mixed, Sizes, layout, unroll
from psiphi.parts.conditional import floored, refer
from psiphi.parts.statistics import Statistics


def seen_width(sizes: Sizes) -> int:
    """Numbers that an encoder's network sees of a row: n + Σ K + D."""
    return told_width(sizes) + len(sizes)


def told_width(sizes: Sizes) -> int:
    """Numbers that a decoder's network tells of a row: n + Σ K."""
    return sum(max(size, 1) for size in sizes)


class TableStatistics(Statistics):
    """Statistics with a σ for each column; the codes of categories are left as they are.

    Missing values are left out of the moments; a column without any value has mean 0 and σ 1.
    """

    def __init__(self, sizes: Sizes):
        super().__init__((len(sizes),))
        self.sizes = sizes
        self.register_buffer("sigma", torch.ones(len(sizes)))

    def load(self, record: Any) -> None:
        """Take mean, σ and range from a measurement; a σ of zero becomes one."""
        sigma = torch.as_tensor(record.std).nan_to_num(0.0)
        super().load(record)
        self.sigma.copy_(torch.where(sigma > 0, sigma, 1.0))
        for place, size in enumerate(self.sizes):
            if size:
                self.mean[place], self.sigma[place] = 0.0, 1.0


class TableInput(nn.Module):
    """Numbers, one-hot codes and what is there, (B, D) -> (B, n + Σ K + D); what is missing (NaN) is 0."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes

    def forward(self, u: Tensor) -> Tensor:
        return unroll(u, self.sizes)


class MixedDecoder(nn.Module):
    """p(x|z) = Π N(x_j; mean_j + σ_data,j ψ_j(z), σ_j²) Π softmax(ψ_j(z))[x_j], a σ_j learned for each number.

    ln σ_j = ln σ_data,j + floor + softplus(a_j − floor): never below 10⁻³ σ_data,j. The network gives n numbers,
    then the logits of each categorical column. Missing values (NaN in x) leave the likelihood.
    """

    measure: Measure
    statistics: Statistics
    takes_missing = True

    def __init__(self, network: nn.Module, sizes: Sizes, statistics: Statistics):
        super().__init__()
        self.network, self.sizes = network, sizes
        self.measure = "mixed" if any(sizes) else "continuous"
        self.raw = nn.Parameter(torch.zeros(sizes.count(0)))
        refer(self, statistics)

    def forward(self, z: Tensor) -> Mixed:
        numeric = layout(self.sizes, z.device).numeric
        mean, sigma = self.statistics.mean[numeric], self.statistics.sigma[numeric]
        numbers, logits = self.network(z).tensor_split((len(numeric),), 1)
        return Mixed(torch.addcmul(mean, sigma, numbers), floored(sigma, self.raw), logits, self.sizes)

    def fitted(self, p: Any, x: Tensor) -> Any:
        return p

    def check_support(self, low: float, high: float) -> None:
        """Any real number will do; codes are looked at column by column."""

    def check_columns(self, lows: Tensor, highs: Tensor) -> None:
        """Raise where a categorical column holds what is none of its codes 0..K−1."""
        for place, size in enumerate(self.sizes):
            low, high = float(lows[place]), float(highs[place])
            if size and not (low != low or (low >= 0 and high <= size - 1)):
                raise DataError(
                    f"column {place} is categorical with the codes 0 to {size - 1}; yours span {low:g} to {high:g}: "
                    "build the model with the columns of these data (columns=data.columns)."
                )
