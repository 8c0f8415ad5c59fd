"""How far apart two distributions are, in closed form or from samples.

p and q are densities (torch distributions, `psiphi.formulas.distributions`, toys with a `log_prob`), samples (n, d)
as arrays or tensors, (n,) for numbers, images flattened, or one of each. Every function returns an `Estimate`: value,
standard error, and how it was found. The page "which distance when" compares them.
"""

from psiphi.divergences._estimate import Estimate
from psiphi.divergences._learnt import Judgement, by_critic, learnt
from psiphi.divergences._named import energy, jeffreys, js, kl, mmd, sliced_wasserstein, wasserstein

__all__ = [
    "Estimate",
    "Judgement",
    "by_critic",
    "energy",
    "jeffreys",
    "js",
    "kl",
    "learnt",
    "mmd",
    "sliced_wasserstein",
    "wasserstein",
]
