"""Games between a critic and a generator, each a value: what either side minimises, and what the critic measures.

q is the reference, p what is judged; r = f(x) for x ~ q and s = f(x) for x ~ p are the critic's scores. Where the
critic's optimum is D* = q/(q + p), its score tells ln q/p sample by sample; otherwise it tells one number at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, " n"]


@dataclass(frozen=True, repr=False)
class Game:
    """A critic's loss and a generator's, of each pair of scores, and the divergence that the critic's optimum has.

    critic, generator: (r, s) -> (n,), minimised; measures: the divergence's name; divergence: critic's loss of each
    pair -> its contribution to the divergence, (n,), whose mean over *fresh* draws is a lower bound in
    expectation; log_ratio: score -> ln q/p, where the optimum is q/(q + p); paired: whether a loss mixes r and s.
    """

    name: str
    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    measures: str
    divergence: Callable[[Tensor], Tensor]
    log_ratio: Callable[[Tensor], Tensor] | None = None
    paired: bool = False

    def __repr__(self) -> str:
        return self.name


def _cross_entropy(r: Scores, s: Scores) -> Scores:
    """−ln D(x_q) − ln(1 − D(x_p)), D = 1/(1 + e^−f)."""
    return F.softplus(-r) + F.softplus(s)


def _jensen_shannon(loss: Scores) -> Scores:
    """½V + ln 2, V = E_q ln D + E_p ln(1 − D) = −loss: JS(q, p) at D* = q/(q + p).

    Source: Goodfellow et al., "Generative adversarial nets", 2014, theorem 1.
    """
    return log(2) - loss / 2


minimax = Game(
    name="minimax",
    critic=_cross_entropy,
    generator=lambda r, s: -F.softplus(s),
    measures="Jensen-Shannon divergence, nats",
    divergence=_jensen_shannon,
    log_ratio=lambda f: f,
)
"""min_p max_D E_q ln D + E_p ln(1 − D) (Goodfellow et al., 2014, eq. 1)."""

non_saturating = Game(
    name="non-saturating",
    critic=_cross_entropy,
    generator=lambda r, s: F.softplus(-s),
    measures="Jensen-Shannon divergence, nats",
    divergence=_jensen_shannon,
    log_ratio=lambda f: f,
)
"""The same critic; the generator minimises −E_p ln D, whose gradient does not vanish where D is right (section 3)."""

relativistic = Game(
    name="relativistic",
    critic=lambda r, s: F.softplus(s - r),
    generator=lambda r, s: F.softplus(r - s),
    measures="relativistic paired divergence, nats",
    divergence=lambda loss: log(2) - loss,
    paired=True,
)
"""max_f E ln σ(f(x_q) − f(x_p)) over pairs (Jolicoeur-Martineau, "On relativistic f-divergences", 2020, section 2)."""

wasserstein = Game(
    name="wasserstein",
    critic=lambda r, s: s - r,
    generator=lambda r, s: -s,
    measures="first Wasserstein distance times the critic's slope",
    divergence=lambda loss: -loss,
)
"""max_f E_q f − E_p f over 1-Lipschitz f (Arjovsky, Chintala, Bottou, "Wasserstein GAN", 2017, eq. 2)."""

hinge = Game(
    name="hinge",
    critic=lambda r, s: F.relu(1 - r) + F.relu(1 + s),
    generator=lambda r, s: -s,
    measures="total variation distance",
    divergence=lambda loss: 1 - loss / 2,
)
"""max_f E_q min(0, f − 1) + E_p min(0, −1 − f) (Lim & Ye, "Geometric GAN", 2017, section 2.3)."""

least_squares = Game(
    name="least squares",
    critic=lambda r, s: (r - 1).square() + s.square(),
    generator=lambda r, s: (s - 1).square(),
    measures="Le Cam divergence ½ ∫ (q − p)²/(q + p)",
    divergence=lambda loss: 1 - 2 * loss,
    log_ratio=lambda f: torch.logit(f, eps=torch.finfo(f.dtype).eps),
)
"""min_D E_q (D − 1)² + E_p D² (Mao et al., "Least squares generative adversarial networks", 2017, eq. 2)."""

GAMES = {
    game.name: game for game in (minimax, non_saturating, relativistic, wasserstein, hinge, least_squares)
}
