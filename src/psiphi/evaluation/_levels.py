"""The attackers of a purifier, one after the other, by how much each knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import Access, bpda, expectation, white_box
from psiphi.access import _checks as checks
from psiphi.attacks import Result
from psiphi.basis.errors import AccessError
from psiphi.basis.noise import forked, mix
from psiphi.defenses import Purified
from psiphi.formulas import goals
from psiphi.formulas.intervals import Mean, Share, normal

LEVELS = ("gray-box", "bpda", "exact gradient", "fixed noise", "expectation")
TOGETHER = "worst of all levels"
Progress = Callable[[int, int], None]
_ROWS = 256


@dataclass(frozen=True)
class Level:
    """One attacker: what is left of the accuracy.

    right: of each row the share of draws that are right, 0 or 1 of a deterministic defence, (n,); None where the attack
    cannot run, and `note` says why. forwards, backwards: rows sent through what was attacked, and back. held: of a
    random defence, what is left while its noise is held still for the attacker.
    """

    name: str
    right: Tensor | None = field(repr=False)
    forwards: int = 0
    backwards: int = 0
    note: str = ""
    drawn: bool = False
    held: Share | None = None

    @property
    def share(self) -> Share | Mean | None:
        """The accuracy with its interval: Wilson's, of a random defence the normal law's; None where there is none."""
        if self.right is None:
            return None
        if self.drawn:
            return Mean(float(self.right.mean()), *normal(self.right), len(self.right))
        return Share(int(self.right.sum()), len(self.right))

    @property
    def value(self) -> float:
        """NaN where there is none."""
        return nan if self.share is None else self.share.value

    @property
    def interval(self) -> tuple[float, float]:
        return (nan, nan) if self.share is None else self.share.interval

    def as_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {"forwards": self.forwards, "backwards": self.backwards, "note": self.note}
        told |= {} if self.held is None else {"noise_held": self.held.as_dict()}
        return {**({"value": None} if self.share is None else self.share.as_dict()), **told}


class _Projection(nn.Module):
    """The projection alone, a module so that its parameters are frozen along with the rest."""

    def __init__(self, safe: Purified):
        super().__init__()
        self.safe = safe

    def forward(self, x: Tensor) -> Tensor:
        return self.safe.project(x)


class Levels:
    """The runs, one after the other, and the points that each of them found."""

    def __init__(
        self, safe: Purified, x: Any, y: Any, attack: Any, draws: int, verify: int, seed: int, bounds: Any,
        batch_size: int | None, on_progress: Progress | None,
    ):  # fmt: skip
        self.safe, self.attack, self.draws, self.verify, self.seed = safe, attack, draws, verify, seed
        self.bounds, self.batch_size, self.on_progress, self.done = bounds, batch_size, on_progress, 0
        self.x = self._white(safe).points(x)
        self.y = checks.as_labels(y, len(self.x)).to(self.x.device)
        self.random = safe.random or self._answers_differ()
        self.judge: Access = self._expected(safe) if self.random else self._white(safe)
        self.points: dict[str, Tensor] = {}
        self.plain: tuple[Level, Level, Level]

    def run(self) -> dict[str, Level]:
        bare = self._attacked(self._white(self.safe.classifier), stop_early=False)
        self.clean = self._judged(self.x, "clean")
        self.plain = (
            Level("classifier alone, clean", (~bare.already_wrong).double()),
            Level("classifier alone, attacked", bare.robust.double(), *_costs(bare)),
            Level("purified, clean", self.clean, drawn=self.random),
        )
        level = self._level("gray-box", bare, judged=True)
        levels = {each.name: each for each in (level, self._bpda(), *self._through())}
        return {name: levels[name] for name in LEVELS}

    def _bpda(self) -> Level:
        substitute = nn.Sequential(bpda(_Projection(self.safe)), self.safe.classifier)
        access = self._expected(substitute) if self.random else self._white(substitute)
        return self._level("bpda", self._attacked(access))

    def _through(self) -> tuple[Level, ...]:
        """The levels that need the projection's own gradient."""
        single: Access = expectation(self._white(self.safe), 1, self.verify) if self.random else self.judge
        try:
            exact = self._level("exact gradient", self._attacked(single))
        except AccessError as error:
            why = f"not run: {error}"
            return tuple(Level(name, None, note=why, drawn=self.random) for name in LEVELS[2:])
        return exact, self._fixed(exact), self._expectation(exact)

    def _fixed(self, exact: Level) -> Level:
        if not self.random:
            why = "its seed fixes it" if self.safe.takes_noise else "it has none"
            return self._same("fixed noise", exact, why)
        if not self.safe.takes_noise:
            why = "not run: `project` takes no seed, so that its noise cannot be held still"
            self._move(2 * len(self.x))
            return Level("fixed noise", None, note=why, drawn=True)
        try:
            result = self._attacked(self._white(self.safe.seeded(self.seed)), stop_early=False)
        except AccessError as error:
            self._move(len(self.x))
            return Level("fixed noise", None, note=f"not run: {error}", drawn=True)
        level = self._level("fixed noise", result, judged=True)
        held = Share(int(result.robust.sum()), len(result))
        return replace(level, held=held, note="judged on fresh noise")

    def _expectation(self, exact: Level) -> Level:
        if not (self.random or self.safe.takes_noise):
            return self._same("expectation", exact, "there is no noise to average over")
        if self.random:
            return self._level("expectation", self._attacked(self._expected(self.safe)))
        fresh = expectation(self._white(self.safe.seeded(None)), self.draws, max(2, self.draws))
        level = self._level("expectation", self._attacked(fresh), judged=True)
        return replace(level, note="found over fresh noise, judged under its own")

    def _same(self, name: str, exact: Level, why: str) -> Level:
        self._move(len(self.x))
        self.points[name] = self.points[exact.name]
        return replace(exact, name=name, forwards=0, backwards=0, note=f"the exact gradient's, as {why}")

    # --------------------------------------------------------------------------------------------- judgement
    def _level(self, name: str, result: Result, judged: bool = False) -> Level:
        """judged: by the defence, where the result's own verdict is of something else."""
        self.points[name] = result.x.to(self.x)
        if judged or result.targeted:
            right = self._judged(self.points[name], name)
            right = right if self.random else right.minimum(self.clean)
        else:
            right = result.robust.double() if result.share is None else 1 - result.share.double()
        return Level(name, right.cpu(), *_costs(result), drawn=self.random)

    def _judged(self, points: Tensor, key: str) -> Tensor:
        """Of each row the share of draws in which the defence is right, ties being wrong: (n,)."""
        size, every = self.batch_size or _ROWS, torch.arange(len(points), device=points.device)
        size = max(1, size // self.draws) if self.random else size
        with self.judge.session(points, mix(self.seed, "adaptive", key)):
            pairs = zip(points.split(size), every.split(size))
            said = torch.cat([self.judge.verdict(some, rows).said for some, rows in pairs], 1)
        flat = goals.standing(said.flatten(0, 1), self.y.repeat(len(said)))
        return (flat == 0).unflatten(0, said.shape[:2]).double().mean(0).cpu()

    def together(self, levels: dict[str, Level]) -> tuple[Level, Tensor]:
        """Of each row the point that does most harm, and what is left."""
        known = [each for each in levels.values() if each.right is not None]
        table = torch.stack([each.right for each in known if each.right is not None])
        least, place = table.min(0)
        stacked = torch.stack([self.points[each.name] for each in known])
        points = stacked[place.to(stacked.device), torch.arange(len(place), device=stacked.device)]
        right = self._judged(points, TOGETHER) if self.random else least
        return Level(TOGETHER, right, drawn=self.random), points.cpu()

    def final(self, levels: dict[str, Level], together: Level, points: Tensor) -> Level:
        """The lowest of all, its points judged by draws that did not pick it."""
        known = [*(each for each in levels.values() if each.right is not None), together]
        least = min(known, key=lambda each: each.value)
        x = points.to(self.x) if least is together else self.points[least.name]
        return Level(least.name, self._judged(x, "final"), drawn=True)

    def _attacked(self, access: Access, stop_early: bool = True) -> Result:
        """With all its steps where another judges the points: just across one boundary may not be across his."""
        before = self.done

        def move(done: int, of: int) -> None:
            self._move(int(len(self.x) * done / max(1, of)) - (self.done - before))

        result = self.attack(
            access,
            self.x,
            self.y,
            seed=self.seed,
            batch_size=self.batch_size,
            stop_early=stop_early,
            on_progress=move,
        )
        self._move(len(self.x) - (self.done - before))
        return result

    def _move(self, rows: int) -> None:
        self.done += max(0, rows)
        if self.on_progress is not None:
            total = (1 + len(LEVELS[1:])) * len(self.x)
            self.on_progress(min(self.done, total), total)

    def _white(self, model: nn.Module) -> Access:
        return white_box(model, self.bounds)

    def _expected(self, model: nn.Module) -> Access:
        return expectation(self._white(model), self.draws, self.verify)

    def _answers_differ(self) -> bool:
        """Whether a projection that promises the same answer gives another one: noise of its own."""
        few = self.x[:4]
        with forked(self.seed, "adaptive"), torch.no_grad():
            first, second = (self.safe.project(few) for _ in range(2))
        return bool(len(few)) and checks.gap_between(first, second) > 0


def _costs(result: Result) -> tuple[int, int]:
    return int(result.forwards.sum()), int(result.backwards.sum())
