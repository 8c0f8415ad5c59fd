"""A classifier that draws: its mean over draws is climbed, fresh draws decide."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.access._ledger import Ledger
from psiphi.access._pipe import Bound, Scale
from psiphi.access._protocol import Access, Reply, Sees, Values
from psiphi.access._white_box import white_box
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import AccessError, ArgumentError
from psiphi.basis.noise import forked
from psiphi.formulas.geometry import Box


def expectation(
    model: Any,
    draws: int = 16,
    verify: int = 100,
    bounds: tuple[Bound, Bound] = (0.0, 1.0),
    mean: Scale = None,
    std: Scale = None,
) -> Expectation:
    """A classifier whose output is random, by its mean over draws: v = (1/m) Σ_j s(z_j(x)), m = `draws`, and ∇v.

    `model` is a module or function (white box: `bounds`, `mean`, `std` are its), or an access. All draws of a point go
    through the model in one pass, m copies of the row, so it must draw anew for each row. Where a search linearises
    several margins, they are those of the mean logits. Every copy counts as a row.

    No answer of the search ends a row. Of each point that is returned, and of each clean row, `verify` fresh draws
    measure the share in which the goal holds; it is broken where that is above ½, and the accuracy is the mean of
    1 − share. Fewer than 100 draws leave that share a standard error above 0.05.

    Noise that comes from torch's global random state is seeded by the attack's seed, and the state left as it was.
    Raises `ArgumentError`; `AccessError` for probabilities. Warns where the output is not random.

    Source: Athalye et al., "Synthesizing robust adversarial examples", 2018, section 2.2 (the attack).
    """
    check_whole("draws", draws)
    check_whole("verify", verify, 2)
    if isinstance(model, Expectation):
        raise ArgumentError(f"{model!r} is a mean over draws already: give its classifier.")
    return Expectation(white_box(model, bounds, mean, std), draws, verify)


class Expectation:
    """See `expectation`. `inner` is the access of single draws."""

    decides, recorded = False, False

    def __init__(self, inner: Access, draws: int, verify: int):
        self.inner, self.draws, self.fresh = inner, draws, verify

    def __repr__(self) -> str:
        return f"expectation({self.inner!r}, draws={self.draws}, verify={self.fresh})"

    @property
    def sees(self) -> frozenset[Sees]:
        return self.inner.sees

    @property
    def budget(self) -> int | None:
        return self.inner.budget

    @property
    def judging(self) -> int:
        return self.fresh * self.inner.judging

    @property
    def box(self) -> Box:
        return self.inner.box

    @property
    def refusal(self) -> int | None:
        return self.inner.refusal

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the model's device and in its dtype."""
        return self.inner.points(x)

    @contextmanager
    def session(self, x: Tensor, seed: int = 0) -> Iterator[Ledger]:
        """As that of the classifier; torch's random state is a function of `seed`, and comes back."""
        with forked(seed, "expectation"), self.inner.session(x, seed) as ledger:
            ledger.price, ledger.kept = ledger.price * self.draws, self.fresh
            yield ledger

    def look(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What `draws` draws say: (m, n, K) or (m, n)."""
        return self._drawn(self.inner.look, points, rows, self.draws)

    def verdict(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What `verify` fresh draws say, `draws` of them a pass."""
        passes = [min(self.draws, self.fresh - start) for start in range(0, self.fresh, self.draws)]
        return Reply(torch.cat([self._drawn(self.inner.verdict, points, rows, m).said for m in passes]))

    def climb(self, points: Tensor, value: Values, rows: Tensor | None = None) -> Reply:
        """Logits (m, n, K), the mean over draws of `value` (n,), and the gradient of that mean."""
        n = len(points)

        def mean(logits: Tensor) -> Tensor:
            return torch.stack([value(draw) for draw in logits.unflatten(0, (-1, n))]).mean(0)

        return self._folded(self.inner.climb, points, mean, rows)

    def slopes(self, points: Tensor, values: Values, rows: Tensor | None = None) -> Reply:
        """Logits (m, n, K), `values` of the mean logits (n, R), and the gradient of each."""
        n = len(points)

        def of_mean(logits: Tensor) -> Tensor:
            return values(logits.unflatten(0, (-1, n)).mean(0))

        return self._folded(self.inner.slopes, points, of_mean, rows)

    def inspect(self, x: Tensor, said: Tensor) -> None:
        """Refuse probabilities, and draws that all copies in a pass share; say so where no draws differ."""
        if not said.shape[1]:
            return
        if said.ndim == 3:
            checks.check_no_probabilities(said.flatten(0, 1))
        said = said if said.is_floating_point() else said.double()
        if not checks.gap_between(said, said[:1]):
            if said.ndim == 3:
                warnings.warn(
                    f"{len(said)} draws of the classifier gave the same output: it is not random, and "
                    "white_box(model) finds the same at a fraction of the cost.",
                    stacklevel=6,
                )
        elif self.draws > 1 and not any(
            checks.gap_between(part, part[:1]) for part in said.split(self.draws)
        ):
            raise AccessError(
                f"the classifier draws once for a whole batch: {self.draws} copies of a row in one pass gave the same "
                "output, other passes another. Say draws=1, so that each pass is a draw, or let it draw for each row."
            )

    def _drawn(self, ask: Callable[..., Reply], points: Tensor, rows: Tensor | None, m: int) -> Reply:
        reply = ask(_copies(points, m), None if rows is None else rows.repeat(m))
        return Reply(reply.said.flatten(0, 1).unflatten(0, (-1, len(points))))

    def _folded(self, ask: Callable[..., Reply], points: Tensor, value: Values, rows: Tensor | None) -> Reply:
        """One pass of all copies; each copy's gradient is its part of the gradient of the mean."""
        m, n = self.draws, len(points)
        reply = ask(_copies(points, m), value, None if rows is None else rows.repeat(m))
        if reply.gradient is None:
            raise AccessError(f"{self.inner!r} shows no gradient: use an attack that does not ask for one.")
        slope = reply.gradient.unflatten(0, (m, n)).sum(0)
        return Reply(reply.said.flatten(0, 1).unflatten(0, (-1, n)), reply.value, slope)


def _copies(points: Tensor, m: int) -> Tensor:
    """(m·n, *x), draw by draw."""
    return points.repeat(m, *[1] * (points.ndim - 1))
