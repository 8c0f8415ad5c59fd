"""A search that follows gradients, made one that asks for scores: each gradient is estimated from differences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, Search, join, take
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import estimates
from psiphi.formulas.calculus import per_row
from psiphi.formulas.geometry import Box


@dataclass(frozen=True)
class _Estimate:
    """turn: gradients estimated so far; told: 0, or 1 + the pairs told at this point; total: Σ (s(v⁺) − s(v⁻)) D.

    score, broken: of the point itself.
    """

    inner: Any
    box: Box
    noise: Noise
    turn: Tensor
    told: Tensor
    total: Tensor
    score: Tensor
    broken: Tensor


@dataclass(frozen=True)
class Estimated:
    """`search` with ∇s(v) ≈ Σ_{k≤m} (s(v_k⁺) − s(v_k⁻)) D_k/(m E[D²]), v_k^± = v ± σu_k in the box, D_k = v_k⁺ − v_k⁻.

    search   one that needs "gradient", asks for one point a row at a time, and has no need of a Jacobian at x
    samples  2m, the differences' points a gradient; v itself is asked for first, and a row may leave on it
    sigma    σ, in the units of the threat's chart
    kind     of u: "gaussian" (natural evolution strategies), "rademacher" (simultaneous perturbation)

    Away from walls this is the published (1/2mσ) Σ (s⁺ − s⁻) u_k; E[D²] makes it unbiased for a linear score at the
    walls too. The points asked for may lie outside the ball, though not outside the box: those do not count as found.

    Sources: Ilyas, Engstrom, Athalye, Lin, "Black-box adversarial attacks with limited queries and information", 2018,
    section 2.1; Uesato, O'Donoghue, van den Oord, Kohli, "Adversarial risk and the dangers of evaluating against weak
    attacks", 2018, section 4.
    """

    search: Search
    samples: int = 50
    sigma: float = 0.001
    kind: str = "gaussian"

    needs: ClassVar[Needs] = "scores"
    roams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        estimates.check_kind(self.kind)
        if self.search.needs != "gradient":
            raise ArgumentError(
                f"a gradient is estimated for a search that needs one; {self.search!r} does not."
            )
        if getattr(self.search, "surveys", False):
            raise ArgumentError(
                f"{self.search!r} begins with a Jacobian at x, which scores do not give: tell it where to begin, as in "
                "Sphere(init=1.0) or Lagrangian(warm=False)."
            )
        if check_whole("samples", self.samples, 2) % 2:
            raise ArgumentError(f"samples come in pairs, so their number is even; got {self.samples}.")
        if not 0 < self.sigma < float("inf"):
            raise ArgumentError(f"sigma is a finite length above 0; got {self.sigma!r}.")

    @property
    def uses(self) -> tuple[str, ...]:
        return getattr(self.search, "uses", ())

    @property
    def norms(self) -> tuple[str, ...] | None:
        return getattr(self.search, "norms", None)

    @property
    def pairs(self) -> int:
        return self.samples // 2

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Estimate:
        inner = self.search.start(x, y, threat, box, noise)
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        blank = x.new_zeros(len(x))
        return _Estimate(
            inner, box, noise.split("estimate"), none, none, torch.zeros_like(x), blank, blank.bool()
        )

    def ask(self, s: _Estimate, room: int) -> tuple[Tensor, Tensor]:
        """Points that were not judged first; then v⁺ of as many pairs as there is room for, and v⁻ of them."""
        v, owner = self.search.ask(s.inner, room)
        new = s.told[owner] == 0
        late, middle, of = (~new).nonzero().squeeze(1), v[new], owner[new]
        slots = max((room - len(middle)) // 2, int(not len(middle)))
        if len(late) > slots:  # those furthest behind
            late = late[s.told[owner[late]].argsort(stable=True)[:slots]]
        if not len(late):
            return middle, of
        k = s.told[owner[late], None] - 1 + torch.arange(slots // len(late), device=v.device)
        at, k = late.repeat_interleave((k < self.pairs).sum(1)), k[k < self.pairs]
        mine = owner[at]
        draws = s.noise.take(mine).each(s.turn[mine] * self.pairs + k)
        plus, minus = estimates.pair(
            v[at], estimates.directions(draws, tuple(v.shape[1:]), self.kind), self.sigma, s.box
        )
        return torch.cat((middle, plus, minus)), torch.cat((of, mine, mine))

    def tell(self, s: _Estimate, points: Tensor, owner: Tensor, answer: Answer) -> _Estimate:
        if not len(owner):
            return s
        count = int((s.told[owner] == 0).sum())
        middle, (mine, _) = owner[:count], owner[count:].chunk(2) if len(owner) > count else (owner[:0],) * 2
        told, total, score, broken = (each.clone() for each in (s.told, s.total, s.score, s.broken))
        told[middle], score[middle], broken[middle] = 1, answer.score[:count], answer.broken[:count]
        if len(mine):
            (above, below), (plus, minus) = answer.score[count:].chunk(2), points[count:].chunk(2)
            total.index_add_(0, mine, per_row(above - below, plus) * (plus - minus))
            told.index_add_(0, mine, torch.ones_like(mine))
        s = replace(s, told=told, total=total, score=score, broken=broken)
        ready = (told > self.pairs).nonzero().squeeze(1)
        return self._stepped(s, ready) if len(ready) else s

    def done(self, s: _Estimate) -> Tensor:
        return self.search.done(s.inner)

    def _stepped(self, s: _Estimate, ready: Tensor) -> _Estimate:
        """The search told of the rows whose gradients are there."""
        mine = take(s, ready)
        v, owner = self.search.ask(mine.inner, len(ready))
        if len(owner) != len(ready):
            raise ArgumentError(
                f"{self.search!r} asks for several points of a row at once: not to be estimated."
            )
        square = estimates.square(v, self.sigma, s.box, self.kind)
        gradient = mine.total / (self.pairs * square.where(square > 0, 1))
        inner = self.search.tell(mine.inner, v, owner, Answer(mine.score, mine.broken, gradient=gradient))
        turn, told, total = s.turn.clone(), s.told.clone(), s.total.clone()
        turn[ready], told[ready], total[ready] = turn[ready] + 1, 0, 0
        if len(ready) < len(turn):
            stay = torch.ones_like(turn, dtype=torch.bool).index_fill(0, ready, False).nonzero().squeeze(1)
            inner = take(join(take(s.inner, stay), inner), torch.cat((stay, ready)).argsort())
        return replace(s, inner=inner, turn=turn, told=told, total=total)
