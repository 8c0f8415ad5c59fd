"""Tables: a row of independent columns, numbers and categories side by side.

A row x has a coordinate a column. `sizes` says what each is: 0 a number, K > 0 one of K categories, coded 0..K−1.
What is missing is NaN, and leaves the product: it is as if its column had been summed or integrated out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.formulas.distributions import DiagonalNormal, Measure, split_samples

Sizes = tuple[int, ...]


class Layout(NamedTuple):
    """Where things stand. numeric, categorical: columns of either kind; back: from (numeric, categorical) to columns.

    logits: (C, K_max), the place of each category's logit; there: which of those places exist; first: (C,), the
    place of each column's first logit.
    """

    numeric: Tensor
    categorical: Tensor
    back: Tensor
    logits: Tensor
    there: Tensor
    first: Tensor


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for later calls, which may need gradients
def layout(sizes: Sizes, device: torch.device = torch.device("cpu")) -> Layout:
    """The layout of a table's columns, once a device."""
    numeric = [place for place, size in enumerate(sizes) if not size]
    categorical = [place for place, size in enumerate(sizes) if size]
    k = torch.tensor([sizes[place] for place in categorical], dtype=torch.int64)
    first = k.cumsum(0) - k
    steps = torch.arange(int(k.max()) if len(k) else 1)
    there = steps < k[:, None]
    back = torch.tensor(numeric + categorical).argsort()
    parts = (torch.tensor(numeric, dtype=torch.int64), torch.tensor(categorical, dtype=torch.int64), back)
    return Layout(*(part.to(device) for part in (*parts, (first[:, None] + steps) * there, there, first)))


@dataclass(frozen=True)
class Mixed:
    """ln p(x) = Σ_numeric ln N(x_j; μ_j, σ_j²) + Σ_categorical ln softmax(ℓ_j)[x_j], over the columns that are there.

    numbers: μ, (*batch, n); log_scale: ln σ, (n,); logits: ℓ of all columns side by side, (*batch, Σ K).
    Its measure is `mixed` (density × probability) as soon as one column is categorical.
    """

    numbers: Tensor
    log_scale: Tensor
    logits: Tensor
    sizes: Sizes
    event: int = 1

    @property
    def measure(self) -> Measure:
        return "mixed" if any(self.sizes) else "continuous"

    @property
    def mean(self) -> Tensor:
        """E[x_j] of numbers, and the most probable code of categories, which have no mean: (*batch, D)."""
        return self._row(self.numbers, self._log_probs().argmax(-1))

    def average(self, weights: Tensor) -> Tensor:
        """The same of the mixture Σ_k w_k p_k: E[x_j], and the code of largest Σ_k w_k P_k. (K, B) -> (B, D)."""
        weights = weights.unsqueeze(-1)
        probabilities = (weights.unsqueeze(-1) * self._log_probs().exp()).sum(0)
        return self._row((weights * self.numbers).sum(0), probabilities.argmax(-1))

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor:
        """(K, B, D); numbers are μ + σ ε, categories have no gradient."""
        normal = DiagonalNormal(self.numbers, self.log_scale)
        numbers = (
            normal.rsample(noise, samples) if self.numbers.shape[-1] else self.numbers.expand(samples, -1, -1)
        )
        steps = self._log_probs().exp().cumsum(-1)
        u = noise.split("category").uniform((samples, steps.shape[-2], 1)).to(steps).transpose(0, 1)
        codes = (u >= steps).sum(-1)
        last = torch.tensor([size - 1 for size in self.sizes if size], device=codes.device)
        return self._row(numbers, codes.minimum(last))

    def log_prob(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        """(*batch, D) -> (*batch), in nats; NaN and `where` = False are left out. A code that is none has ln 0."""
        at = layout(self.sizes, self.logits.device)
        there = ~x.isnan() if where is None else where & ~x.isnan()
        x = torch.where(there, x, 0)
        normal = DiagonalNormal(self.numbers, self.log_scale)
        total = normal.log_prob(x[..., at.numeric], there[..., at.numeric])
        if not len(at.categorical):
            return total
        log_probs, codes = torch.broadcast_tensors(self._log_probs(), x[..., at.categorical].unsqueeze(-1))
        codes = codes[..., 0]
        known = codes == codes.round().clamp(min=0, max=log_probs.shape[-1] - 1)
        place = torch.where(known, codes, 0).long().unsqueeze(-1)
        each = log_probs.gather(-1, place).squeeze(-1).masked_fill(~known, -torch.inf)
        return total + torch.where(there[..., at.categorical], each, 0).sum(-1)

    def unflatten(self, samples: int) -> Mixed:
        numbers, logits = split_samples(self.numbers, samples), split_samples(self.logits, samples)
        return Mixed(numbers, self.log_scale, logits, self.sizes)

    def _log_probs(self) -> Tensor:
        """ln P of each category, (*batch, C, K_max), −∞ beyond a column's own."""
        at = layout(self.sizes, self.logits.device)
        return self.logits[..., at.logits].masked_fill(~at.there, -torch.inf).log_softmax(-1)

    def _row(self, numbers: Tensor, codes: Tensor) -> Tensor:
        back = layout(self.sizes, numbers.device).back
        return torch.cat([numbers, codes.to(numbers.dtype)], -1)[..., back]


def unroll(u: Tensor, sizes: Sizes) -> Tensor:
    """A row as networks see it: numbers, categories one-hot, and a 1 for each column that is there.

    (B, D) -> (B, n + Σ K + D); where u is NaN, the number and the one-hot code are 0.
    """
    at = layout(sizes, u.device)
    there = ~u.isnan()
    u = torch.where(there, u, 0)
    codes = u[:, at.categorical].detach().long() + at.first
    hot = torch.zeros(len(u), sum(sizes), dtype=u.dtype, device=u.device)
    hot.scatter_(1, codes, there[:, at.categorical].to(u.dtype))
    return torch.cat([u[:, at.numeric], hot, there.to(u.dtype)], 1)
