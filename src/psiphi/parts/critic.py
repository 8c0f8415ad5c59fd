"""Critics: a network that scores samples, the game it plays, and the means that bound its slope."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, MissingVerb
from psiphi.basis.noise import Noise
from psiphi.formulas.games import Game
from psiphi.parts.clock import Clock
from psiphi.parts.conditional import refer
from psiphi.parts.labelled import joined
from psiphi.parts.slope import Lipschitz
from psiphi.parts.statistics import Statistics

Losses = dict[str, Tensor]


class Critic(nn.Module):
    """f: (B, *shape) -> (B // m,), a score for every m samples together, high on the reference.

    network: m samples side by side, (n, m·d) or (n, m·C, H, W), and their labels where it is told them ->
    (n, 1); statistics: of the data, whose units the network sees, so that slopes are in those units too;
    pack: m; classes: of the one-hot labels. Source of packing: Lin et al., "PacGAN", 2018, section 3.
    """

    def __init__(
        self,
        network: nn.Module,
        game: Game,
        lipschitz: Lipschitz | None = None,
        *,
        statistics: Statistics | None = None,
        pack: int = 1,
        classes: int = 0,
    ):
        super().__init__()
        self.lipschitz = lipschitz or Lipschitz()
        self.network = self.lipschitz.prepared(network)
        self.game, self.pack, self.classes, self.of_data = game, pack, classes, statistics is not None
        if statistics is not None:
            refer(self, statistics)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The scores of x, told the labels y (B,) or their one-hot code (B, classes) if it takes any."""
        return self.scorer(y)(self.units(x))

    def units(self, x: Tensor) -> Tensor:
        """x in the network's units, m samples side by side."""
        return self._packed(self.statistics(x) if self.of_data else x)  # pyright: ignore[reportCallIssue]

    def _packed(self, u: Tensor) -> Tensor:
        m, n = self.pack, len(u) // self.pack
        if n == 0:
            raise ArgumentError(f"this critic judges {m} samples at a time; got {len(u)}.")
        return u if m == 1 else u[: n * m].reshape(n, m * u.shape[1], *u.shape[2:])

    def scorer(self, y: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Units -> scores, (n, …) -> (n,), at these labels; of k n rows every n have them."""
        if not self.classes:
            return lambda u: self.network(u).squeeze(1)
        if y is None:
            raise ArgumentError("this critic is told labels: pass y, one a row.")
        code = self._packed(y if y.ndim == 2 else F.one_hot(y, self.classes))

        def score(u: Tensor) -> Tensor:
            told = code.to(u.dtype).repeat(len(u) // len(code), 1)
            return self.network(joined(u, told, u.ndim == 4)).squeeze(1)

        return score

    def loss(self, q: Tensor, p: Tensor, noise: Noise, clock: Clock, y: Tensor | None = None) -> Losses:
        """The critic's own loss on samples of the reference q and as many of p, at labels y.

        With its parts: the divergence on this batch, which training makes too large, and the penalty.
        """
        u, v, score = self.units(q.detach()), self.units(p.detach()), self.scorer(y)
        each = self.game.critic(*score(torch.cat([u, v])).chunk(2))
        parts = {"divergence": self.game.divergence(each.detach()).mean()}
        penalty = self.lipschitz.penalty(score, u, v, noise, clock)
        if penalty is None:
            return {"loss": each.mean(), **parts}
        return {"loss": each.mean() + penalty.mean(), **parts, "penalty": penalty.detach().mean()}

    def generator_loss(self, q: Tensor, p: Tensor, y: Tensor | None = None) -> Tensor:
        """What p's generator minimises against this critic, (n,); the gradient flows through p alone."""
        score = self.scorer(y)
        s = score(self.units(p))
        if not self.game.paired:
            return self.game.generator(s, s)  # does not read r
        with torch.no_grad():
            r = score(self.units(q))
        return self.game.generator(r, s)

    def divergence(self, q: Tensor, p: Tensor, y: Tensor | None = None) -> Tensor:
        """Each pair's contribution to the divergence, (n,): on draws not trained on its mean is a lower bound.

        Of m packed samples it is the divergence of q^m and p^m; a Wasserstein game's is that times the slope.
        """
        score = self.scorer(y)
        return self.game.divergence(self.game.critic(score(self.units(q)), score(self.units(p))))

    def log_ratio(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """ln q(x)/p(x) of each sample, (B,); `MissingVerb` where the game's optimum is not q/(q + p)."""
        if self.game.log_ratio is None:
            raise MissingVerb(
                f"a critic of the {self.game} game", "log_ratio", "its optimum is not q/(q + p)"
            )
        if self.pack > 1:
            raise MissingVerb(
                f"a critic of {self.pack} samples", "log_ratio", "it judges no sample by itself"
            )
        return self.game.log_ratio(self(x, y))
