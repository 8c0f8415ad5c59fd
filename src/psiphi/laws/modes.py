"""Law 15: what a sampler reaches of a mixture whose modes are known."""

from __future__ import annotations

from math import erf, exp, inf, log, pi, sqrt

import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.data.toys import Mixture, grid, ring
from psiphi.evaluation import Modes, modes
from psiphi.formulas.modes import ceiling, target_mass
from psiphi.laws._law import Measured, law

SEED = 15
DRAWS = 20_000
CEILING = 1 - exp(-4.5)


@law("15a", "a sampler that copies the data scores the ceiling")
def copies_score_the_ceiling() -> list[Measured]:
    """Share within 3σ = 1 − e^{−4.5} and 2n KL ~ χ² of K degrees of freedom, within 4 standard errors, all modes found.

    On the ring, the grid, and modes in one and in three dimensions: erf(3/√2), less √(2/π) 3 e^{−4.5} in three.
    """
    one, three = erf(3 / sqrt(2)), erf(3 / sqrt(2)) - sqrt(2 / pi) * 3 * exp(-4.5)
    line = Mixture("line", torch.arange(4.0)[:, None], 0.05)
    cube = Mixture("cube", torch.cartesian_prod(*3 * [torch.arange(2.0)]), 0.05)
    found = [
        Measured("mass off every mode, plane", exp(-4.5), float(target_mass(25, 2)[-1]), 1e-12),
        Measured("ceiling, line", one, ceiling(1), 1e-12),
        Measured("ceiling, space", three, ceiling(3), 1e-12),
    ]
    for toy, wanted in ((ring(), CEILING), (grid(), CEILING), (line, one), (cube, three)):
        score, k = modes(toy, toy, DRAWS, SEED), len(toy.means)
        found += [
            Measured(
                f"{toy.name}: share within 3σ",
                wanted,
                score.quality.value,
                4 * sqrt(wanted * (1 - wanted) / DRAWS),
            ),
            Measured(f"{toy.name}: modes found", k, score.found, 0.0),
            Measured(f"{toy.name}: 2n × reverse KL", k, 2 * DRAWS * score.reverse_kl, 4 * sqrt(2 * k)),
        ]
    return found


def _at(points: Tensor, n: int = 2400) -> Modes:
    """The ring's judgement of a sampler that gives these points in turn."""

    def sampler(rows: int, noise: Noise) -> Tensor:
        return points[torch.arange(rows) % len(points)]

    return modes(sampler, ring(), n)


def _names(score: Modes, wanted: list[str]) -> float:
    """How many of the empty bins are named wrongly, plus one if the sentence lacks the infinity."""
    said = f"+inf (nothing at {', '.join(wanted)})" in str(score)
    return len(set(score.empty) ^ set(wanted)) + (score.forward_kl != inf) + (not said)


@law("15b", "collapsed samplers have the reverse KL that they must, and name what they miss")
def known_collapses() -> list[Measured]:
    """On the ring of 8, c = 1 − e^{−4.5}: one mode ln 8/c, half of them ln 2/c; a share a off every mode, the rest
    even: a ln a/(1 − c) + (1 − a) ln (1 − a)/c, and forward with the roles exchanged; to 10⁻¹².
    """
    means, c = ring().means, CEILING
    off = torch.full_like(means, 0.5) * torch.tensor([1.0, 0.0])
    one, half, stray = _at(means[:1]), _at(means[::2]), _at(torch.cat([means, means, means, off]))
    a = 1 / 4
    return [
        Measured("one mode: reverse KL, nats", log(8 / c), one.reverse_kl, 1e-12),
        Measured("one mode: found", 1, one.found, 0.0),
        Measured("one mode: names wrong", 0, _names(one, [*"1234567", "off"]), 0.0),
        Measured("half: reverse KL, nats", log(2 / c), half.reverse_kl, 1e-12),
        Measured("half: found", 4, half.found, 0.0),
        Measured("half: names wrong", 0, _names(half, [*"1357", "off"]), 0.0),
        Measured(
            "a quarter off: reverse KL, nats",
            a * log(a / (1 - c)) + (1 - a) * log((1 - a) / c),
            stray.reverse_kl,
            1e-12,
        ),
        Measured(
            "a quarter off: forward KL, nats",
            (1 - c) * log((1 - c) / a) + c * log(c / (1 - a)),
            stray.forward_kl,
            1e-12,
        ),
        Measured("a quarter off: share within 3σ", 1 - a, stray.quality.value, 0.0),
    ]
