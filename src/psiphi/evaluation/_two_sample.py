"""Whether two sets of samples come from one distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, generator
from psiphi.divergences._named import KERNELS
from psiphi.divergences._sides import count, pair
from psiphi.formulas import kernels

MOST_ROWS = 20_000  # of both together, whose kernel matrix is held whole
_DRAWS, _BATCH = 2000, 1 << 21
TESTS = ("mmd", "energy", "classifier")


@dataclass(frozen=True)
class TwoSample:
    """A two-sample test: small `p_value` speaks against one distribution.

    statistic: unbiased MMD² or energy distance, or the held-out accuracy; rows: of x and of y that it used; null:
    its values under permutation, in rising order (none for the classifier, whose null is binomial).
    """

    test: str
    statistic: float
    p_value: float
    permutations: int
    rows: tuple[int, int]
    how: str
    null: Tensor | None = field(default=None, repr=False, compare=False)

    def quantile(self, level: float) -> float:
        """The value that the statistic exceeds in at most 1 − `level` of all permutations."""
        if not 0 < level < 1:
            raise ArgumentError(f"a quantile's level lies strictly between 0 and 1; got {level}: e.g. 0.999.")
        if self.null is None:
            from scipy.stats import binom

            held_out = sum(self.rows)
            return float(binom.ppf(level, held_out, 0.5)) / held_out
        return float(self.null[ceil(level * len(self.null)) - 1])

    @property
    def quantile_999(self) -> float:
        return self.quantile(0.999)

    def as_dict(self) -> dict[str, Any]:
        return {
            "test": self.test,
            "statistic": self.statistic,
            "p_value": self.p_value,
            "quantile_999": self.quantile_999,
            "permutations": self.permutations,
            "rows": list(self.rows),
            "how": self.how,
        }

    def __str__(self) -> str:
        what = {"mmd": "MMD²", "energy": "energy distance", "classifier": "held-out accuracy"}[self.test]
        return (
            f"{what} {self.statistic:.4g}, 99.9 % of the null below {self.quantile_999:.4g}, "
            f"p = {self.p_value:.2g} ({self.how})"
        )


@torch.no_grad()
def two_sample(
    x: Any,
    y: Any,
    *,
    test: str = "mmd",
    permutations: int = 2000,
    kernel: str | kernels.Kernel = "imq",
    scales: Sequence[float] | None = None,
    classifier: Any = None,
    seed: int = 0,
) -> TwoSample:
    """Test whether samples x and y (arrays, tensors, or a distribution to draw as many from) are of one distribution.

    mmd, energy: the statistic against its values when rows change sides at random, p = (1 + #{permuted ≥ observed})
    / (1 + permutations); exact for any sizes. `kernel` and `scales` as in `divergences.mmd`; by default the median
    distance of 1 000 rows of both together, picked by the seed. classifier: accuracy on a held-out half of a
    scikit-learn classifier (k nearest neighbours, k = √n, unless given) against the binomial of a fair coin.
    Sources: Gretton et al., "A kernel two-sample test", 2012; Lopez-Paz, Oquab, "Revisiting classifier two-sample
    tests", 2017.
    """
    if test not in TESTS:
        raise ArgumentError(f"no two-sample test is called {test!r}; use {', '.join(TESTS)}.")
    x, y, note = pair(x, y, _DRAWS, seed, least=8 if test == "classifier" else 2, names=("x", "y"))
    if test == "classifier":
        return _classified(x.cpu(), y.cpu(), classifier, seed, note)
    if permutations < 1:
        raise ArgumentError(f"{permutations} permutations give no null; take e.g. 2000.")
    if len(x) + len(y) > MOST_ROWS:
        raise ArgumentError(
            f"{len(x)} and {len(y)} rows need a kernel matrix of {len(x) + len(y)}² numbers; take at most "
            f"{MOST_ROWS} rows of both together."
        )
    z = torch.cat([x, y]).double()
    z = (z - z.mean(0)).float()
    of_distance, how = _kernel(z, test, kernel, scales, seed)
    observed, null = _permuted(kernels.centred_gram(z, of_distance), len(x), permutations, seed)
    slack = 1e-5 * float(null.std(correction=0))  # float32 sums of equal values need not be equal
    above = int((null >= observed - slack).sum())
    return TwoSample(
        test, observed, (1 + above) / (1 + permutations), permutations, (len(x), len(y)),
        f"{how}, {count(permutations)} permutations{note}", null.sort().values,
    )  # fmt: skip


def _kernel(
    z: Tensor, test: str, kernel: str | kernels.Kernel, scales: Sequence[float] | None, seed: int
) -> tuple[kernels.Kernel, str]:
    if test == "energy":
        return kernels.negative_distance, "pairs of rows"
    if callable(kernel):
        return kernel, "given kernel"
    if kernel not in KERNELS:
        raise ArgumentError(f"no kernel is called {kernel!r}; use {', '.join(KERNELS)}, or a function of d².")
    if scales is None:
        # A bandwidth that knew which rows are x would not be the same for every permutation.
        some = z[torch.randperm(len(z), generator=generator(seed, "bandwidth"))[:1000].to(z.device)]
        scales = (kernels.median_scale(*some.tensor_split(2)),)
    return KERNELS[kernel](scales), f"{kernel} kernel, scales {', '.join(f'{s:.3g}' for s in scales)}"


def _permuted(gram: Tensor, n: int, permutations: int, seed: int) -> tuple[float, Tensor]:
    """The statistic of the first n rows against the others, and of random n of them; one matrix product a batch."""
    first = (torch.arange(len(gram), device=gram.device) < n).to(gram.dtype)[:, None]
    noise = Noise.of(seed, permutations, dtype=torch.float64).split("permutations")
    step = max(64, _BATCH // len(gram) // 64 * 64)
    found = []
    for start in range(0, permutations, step):
        u = noise.take(slice(start, start + step)).uniform((len(gram),))
        chosen = (u <= u.kthvalue(n, dim=1, keepdim=True).values).to(gram)
        found.append(kernels.split_discrepancies(gram, chosen.T))
    return float(kernels.split_discrepancies(gram, first)), torch.cat(found).cpu()


def _classified(x: Tensor, y: Tensor, classifier: Any, seed: int, note: str) -> TwoSample:
    """As many rows of each, half of them to learn from: labels are balanced, so that chance is one half."""
    from scipy.stats import binom
    from sklearn.base import clone
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n = min(len(x), len(y))
    half = n // 2
    mixed = [
        each[torch.randperm(len(each), generator=generator(seed, name))[:n]].numpy()
        for name, each in (("x", x), ("y", y))
    ]
    seen, held = (torch.tensor([0, 1]).repeat_interleave(k).numpy() for k in (half, n - half))
    chosen: Any
    if classifier is None:
        chosen = make_pipeline(StandardScaler(), KNeighborsClassifier(max(1, int((2 * half) ** 0.5))))
    else:
        chosen = clone(classifier)
    chosen.fit(_stack(mixed, slice(half)), seen)
    hits = int((chosen.predict(_stack(mixed, slice(half, n))) == held).sum())
    name = "k nearest neighbours" if classifier is None else type(classifier).__name__
    return TwoSample(
        "classifier", hits / len(held), float(binom.sf(hits - 1, len(held), 0.5)), 0, (n - half, n - half),
        f"{name}, {count(len(held))} rows held out{note}",
    )  # fmt: skip


def _stack(parts: list[Any], rows: slice) -> Any:
    import numpy as np

    return np.concatenate([part[rows] for part in parts])
