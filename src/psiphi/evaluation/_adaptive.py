"""What a purifier is worth, by how much the attacker knows of it: five levels, of which the lowest counts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks import Attack, Battery
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.provenance import provenance
from psiphi.defenses import Purified
from psiphi.evaluation._levels import LEVELS, TOGETHER, Level, Levels, Progress

__all__ = ["LEVELS", "TOGETHER", "Adaptive", "adaptive"]


@dataclass(frozen=True, repr=False)
class Adaptive:
    """The honest table of a purifier.

    bare_clean, bare: the classifier alone, on clean rows and under the attack; clean: purified clean rows; levels: by
    name, in the order of LEVELS; together: of each row the worst of all levels, of a random defence picked on one set
    of draws and judged on another; x: the points of that, (n, *x); final: of a random defence the lowest of these, its
    points judged by draws that did not pick it.
    """

    bare_clean: Level
    bare: Level
    clean: Level
    levels: dict[str, Level]
    together: Level
    x: Tensor
    provenance: dict[str, Any] = field(default_factory=dict)
    final: Level | None = None

    @property
    def worst(self) -> tuple[str, float]:
        """The lowest accuracy that was found, and by which level: the number to report; of a random defence that of
        `final`."""
        if self.final is not None:
            return self.final.name, self.final.value
        known = [each for each in (*self.levels.values(), self.together) if each.right is not None]
        least = min(known, key=lambda each: each.value)
        return least.name, least.value

    def as_dict(self) -> dict[str, Any]:
        name, value = self.worst
        parts = {"bare_clean": self.bare_clean, "bare": self.bare, "clean": self.clean}
        return {
            **{key: each.as_dict() for key, each in parts.items()},
            "levels": {key: each.as_dict() for key, each in self.levels.items()},
            "together": self.together.as_dict(),
            "worst": {"level": name, "value": value},
            **({} if self.final is None else {"final": self.final.as_dict()}),
            "provenance": self.provenance,
        }

    @property
    def lines(self) -> list[Level]:
        """All of the table, from the classifier alone to the worst case."""
        return [self.bare_clean, self.bare, self.clean, *self.levels.values(), self.together]

    def __str__(self) -> str:
        told = [("", "accuracy [95 %]", "forwards", "backwards", "")]
        told += [
            (e.name, str(e.share or "—"), str(e.forwards or ""), str(e.backwards or ""), _remark(e))
            for e in self.lines
        ]
        wide = [max(len(line[i]) for line in told) for i in range(4)]
        table = [
            f"{a:{wide[0]}}  {b:{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}  {e}".rstrip()
            for a, b, c, d, e in told
        ]
        name, value = self.worst
        anew = "" if self.final is None else ", judged by draws that did not pick it"
        return "\n".join([*table, f"the number to report: {value:.1%} ({name}{anew})"])

    def __repr__(self) -> str:
        return f"Adaptive of {self.provenance.get('safe', 'a purifier')}\n{self}"


def adaptive(
    safe: Purified,
    x: Any,
    y: Any,
    attack: Attack | Battery,
    *,
    draws: int = 16,
    verify: int = 100,
    seed: int = 0,
    bounds: tuple[Any, Any] = (0.0, 1.0),
    batch_size: int | None = None,
    on_progress: Progress | None = None,
) -> Adaptive:
    """One attack by five attackers, from one who does not know the purifier to one who knows all but its next draw.

    gray-box        points found on the classifier alone, with all steps of the attack, purified afterwards
    bpda            the projection's values forward, the identity's gradient backward
    exact gradient  through every step of the projection; of a random defence one draw a step
    fixed noise     with the defence's noise held still; of a random one the points are then judged on fresh noise
    expectation     the mean gradient over `draws` draws of the noise; of a deterministic defence its points are judged
                    under its own noise, of one without noise there is nothing to average

    x (n, *x), y (n,) in the data's units, inside `bounds`. A row counts as right where it is right before and after
    the attack. A random defence (`seed=None`) is judged by the share of `verify` fresh draws that are right, and the
    points of its lowest level once more by draws that did not pick it. attack: of a stated radius. Where the projection
    has no gradient, the levels that need it are without a number and say so.

    Raises `ArgumentError`, `AccessError`.

    Source: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 4; Tramèr,
    Carlini, Brendel, Madry, "On adaptive attacks to adversarial example defenses", 2020; Croce et al., "Evaluating the
    adversarial robustness of adaptive test-time defenses", 2022.
    """
    began = time.perf_counter()
    check_whole("draws", draws)
    check_whole("verify", verify, 2)
    if not isinstance(safe, Purified):
        raise ArgumentError(
            f"adaptive judges a purifier; got {type(safe).__name__}: make one, defenses.purify(classifier, model)."
        )
    if not isinstance(attack, (Attack, Battery)):
        raise ArgumentError(
            f"adaptive needs an attack of a stated radius; got {attack!r}: e.g. pgd(Linf(0.1))."
        )
    if not bool(torch.as_tensor(getattr(attack.threat, "eps", 0.0)).isfinite().all()):
        raise ArgumentError(f"{attack!r} has no radius, so that no row stands: give its threat one.")
    found = Levels(safe, x, y, attack, draws, verify, seed, bounds, batch_size, on_progress)
    if not len(found.x):
        raise ArgumentError("x has no rows: hand over one at least.")
    levels = found.run()
    together, points = found.together(levels)
    final = found.final(levels, together, points) if found.random else None
    told = provenance(
        safe=repr(safe), attack=repr(attack), rows=len(found.x), draws=draws, verify=verify, seed=seed,
        random=found.random, seconds=round(time.perf_counter() - began, 3),
    )  # fmt: skip
    bare_clean, bare, clean = found.plain
    return Adaptive(bare_clean, bare, clean, levels, together, points, told, final)


def _remark(level: Level) -> str:
    held = "" if level.held is None else f"noise held: {level.held}"
    return "; ".join(part for part in (held, level.note) if part)
