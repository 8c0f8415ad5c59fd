"""Laws 12 and 13: what a learnt critic measures, beside what is true."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log

import torch
from torch import Tensor, nn

from psiphi.basis.noise import Noise
from psiphi.data.toys import Gaussian
from psiphi.divergences import by_critic, learnt
from psiphi.divergences import js as exact_js
from psiphi.formulas import games
from psiphi.laws._law import Measured, at_most, law
from psiphi.parts.slope import Lipschitz, clipping, gradient_penalty, spectral_norm

SEED = 12
SHARP = learnt(hidden=(64,), steps=300, batch_size=512, lr=2e-2, fresh=20_000)


@dataclass(frozen=True)
class Pair:
    """Two Gaussians N(0, I) and N(shift, spread² I) in `dimension` dimensions, correlated where spread is not 1."""

    dimension: int
    shift: float
    spread: float = 1.0

    @property
    def both(self) -> tuple[Gaussian, Gaussian]:
        eye = torch.eye(self.dimension, dtype=torch.float64)
        other = self.spread**2 * (eye if self.spread == 1 else 0.7 * eye + 0.3)
        centre = torch.full((self.dimension,), self.shift / self.dimension**0.5, dtype=torch.float64)
        return Gaussian("p", torch.zeros_like(centre), eye), Gaussian("q", centre, other)

    @property
    def js(self) -> tuple[float, float]:
        """The true JS and its error: equal covariances reduce to the line, where quadrature is exact."""
        p, q = Pair(1, self.shift).both if self.spread == 1 else self.both
        found = exact_js(p, q, draws=400_000, seed=SEED)
        return found.value, found.standard_error

    def __str__(self) -> str:
        return f"{self.dimension}-D, shift {self.shift:g}, spread {self.spread:g}"


def _js(pair: Pair, how: learnt) -> list[Measured]:
    p, q = pair.both
    found, (true, error) = by_critic(p, q, how, seed=SEED), pair.js
    assert error <= 0.002
    measured = [Measured(f"JS by a critic, {pair}, nats", true, found.value, 0.02)]
    if pair.shift or pair.spread != 1:
        x = torch.cat([each(5000, Noise.of(SEED + i, 5000)) for i, each in enumerate((p, q))])
        ratio = p.log_prob(x.double()) - q.log_prob(x.double())
        measured.append(
            Measured(f"correlation of ln p/q, {pair}", 1.0, _correlation(ratio, found.log_ratio(x)), 0.01)
        )
    else:
        measured.append(
            Measured("the game's value V at equality, nats", -2 * log(2), 2 * (found.value - log(2)), 0.01)
        )
    return measured


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


@law("12", "an unregularised critic measures JS, and ln p/q sample by sample")
def critic_measures_js() -> list[Measured]:
    """½V + ln 2 on fresh draws, minimax game, in one and two dimensions."""
    return _js(Pair(1, 1.5), SHARP) + _js(Pair(2, 1.5), SHARP)


@law("12a", "a critic measures JS: more separations, dimensions and covariances, and equality", slow=True)
def critic_measures_js_everywhere() -> list[Measured]:
    long = learnt(hidden=(128, 128), steps=3000, batch_size=1024, lr=5e-3, fresh=100_000)
    curved = replace(
        long, activation=nn.SiLU
    )  # tanh levels off, where the log ratio of unequal spreads is a parabola
    found = []
    for d in (1, 2, 8):
        for shift in (0.5, 1.5, 0.0):
            found += _js(Pair(d, shift), long)
        found += _js(Pair(d, 1.0, 0.5), curved if d == 8 else replace(curved, hidden=(64, 64)))
    return found


@law("12b", "a packed critic measures JS of the packed samples")
def packed_critic() -> list[Measured]:
    """Two samples of N(0, 1) and N(1, 1) together are N(0, I₂) and N((1, 1), I₂): a shift of √2 on the line."""
    p, q = Pair(1, 1.0).both
    true, _ = Pair(1, 2**0.5).js
    found = by_critic(
        p, q, learnt(hidden=(64,), steps=300, batch_size=1024, lr=2e-2, pack=2, fresh=40_000), seed=SEED
    )
    return [Measured("JS(p², q²) by a critic of two, nats", true, found.value, 0.02)]


def _w1(what: str, means: Lipschitz, dimension: int, each: float = 1.5, steps: int = 400) -> list[Measured]:
    """A correlated Gaussian and its translate along every axis: W₁ = the shift, and 1-Lipschitz optima are affine."""
    covariance = 0.7 * torch.eye(dimension, dtype=torch.float64) + 0.3
    p = Gaussian("p", covariance.new_zeros(dimension), covariance)
    q = Gaussian("q", covariance.new_full((dimension,), each), covariance)
    shift = each * dimension**0.5
    how = learnt(games.wasserstein, means, hidden=(64,), steps=steps, batch_size=256, lr=1e-2, fresh=20_000)
    found = by_critic(p, q, how, seed=SEED)
    text = f"W₁ of a translate by {shift:.3g} in {dimension}-D, gap over slope, {what}"
    return [
        Measured(text, shift, found.value, 0.05 * shift),
        at_most(f"{text}, bounded", shift, found.value, 4 * found.standard_error),
    ]


@law("13d", "the Wasserstein gap over the measured slope is W₁")
def critic_measures_w1() -> list[Measured]:
    return [each for d in (1, 2) for each in _w1("spectral norm", spectral_norm(), d, steps=250)]


@law("13e", "the same for every means to bound the slope, another shift, and eight dimensions", slow=True)
def critic_measures_w1_by_every_means() -> list[Measured]:
    means = {
        "clipping": clipping(0.03),
        "gradient penalty": gradient_penalty(30.0),
        "spectral norm": spectral_norm(),
    }
    cases = [(name, d, each) for name in means for d in (1, 2) for each in (1.5, 3.0)]
    found = [one for name, d, each in cases for one in _w1(name, means[name], d, each)]
    return found + _w1("spectral norm", spectral_norm(), 8, steps=1000)
