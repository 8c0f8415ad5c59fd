"""The chapter on attacks, ready for its template: pictures and figures."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from psiphi.app import _console as console
from psiphi.app import gallery, pictures, plots
from psiphi.app.tour import _attack_plots
from psiphi.app.tour import _attack_words as words

if TYPE_CHECKING:
    from psiphi.app.gallery import Cell, Example
    from psiphi.app.tour._attacks import Attacks, Tried

SHOWN = 4
COUNTS = {9: "nine", 10: "ten", 11: "eleven"}
WITHIN = ("fgsm", "iterative_least_likely", "pgd", "square")  # the same ball


@dataclass(frozen=True)
class Shown:
    """One attack on the page: `tried`, its examples, and what was found in a sentence or two."""

    tried: Tried
    examples: list[Example]
    remark: str


@dataclass(frozen=True)
class Column:
    """One attack on the digit that all are shown on."""

    title: str
    change: Cell
    changed: Cell
    note: str


def drawn(found: Attacks, markup: Any) -> dict[str, Any]:
    """What `_attacks.html.j2` needs, under one name: `attacks`. `markup` wraps what is HTML already."""
    row = common(found)
    ball = [each for each in found.tried if each.plan.key in WITHIN]
    r = found.radii
    return {
        "found": found,
        "count": COUNTS.get(len(found.tried), str(len(found.tried))),
        "shown": [_shown(found, each) for each in found.tried],
        "row": row,
        "truth": int(found.y[row]),
        "digit": gallery.read(found.tried[0].judge, found.x[row : row + 1])[0],
        "columns": [_column(found, each, row) for each in found.tried],
        "weakest": max(ball, key=lambda each: each.left.value),
        "strongest": min(ball, key=lambda each: each.left.value),
        "falls": bool((r.many.accuracy.diff() <= 0).all()),
        "nothing": all(float(c.accuracy[-1]) < 0.01 for c in (r.many, r.nearest)),
        **words.again(found),
        **{f"{name}_svg": markup(text) for name, text in _figures(found).items()},
    }


def common(found: Attacks) -> int:
    """The first test digit that the most attacks break, not of the backdoor's class: chosen by rule, not by looks."""
    broken = torch.stack([each.broken.cpu() for each in found.tried]).sum(0)
    return int(broken.where(found.y.cpu() != found.settings.target, -1).argmax())


def _shown(found: Attacks, tried: Tried) -> Shown:
    told = SimpleNamespace(broken=tried.broken, x=tried.x, row=torch.arange(len(found.x)))
    examples = gallery.build(tried.judge, None, found.x, found.y, told, most=SHOWN, notes=tried.notes)
    return Shown(tried, examples, words.remark(found, tried))


def _column(found: Attacks, tried: Tried, row: int) -> Column:
    x, v = found.x[row : row + 1], tried.x[row : row + 1]
    change = (v - x).cpu()
    tint = pictures.as_change(change, float(change.abs().max()))[0]
    note = tried.notes.get(row, "")
    return Column(tried.plan.title, gallery.Cell(tint), gallery.read(tried.judge, v)[0], note)


def _figures(found: Attacks) -> dict[str, str]:
    r, s = found.radii, found.settings
    series = [
        (name, c.accuracy.tolist(), [(low, high) for low, high in c.intervals.tolist()], colour)
        for name, c, colour in (("one step", r.one, "gray"), ("PGD", r.many, "bare"))
    ]
    ends = ", ".join(f"{name} {values[-1]:.0%}" for name, values, _, _ in series)
    c, chance = r.nearest, 1 / (int(found.y.max()) + 1)
    bands = [(low, high) for low, high in c.intervals.tolist()]
    near = [
        (each.plan.title, each.far[each.broken].tolist(), colour)
        for each, colour in ((found["carlini_wagner"], "bare"), (found["hop_skip_jump"], "white"))
    ]
    middles = ", ".join(f"{name} {console.number(median(far), 3)}" for name, far, _ in near if far)
    return {
        "radii": plots.svg(
            plots.radii(list(s.radii), series, s.eps),
            "attack-radii",
            f"Accuracy against the radius of the L∞ ball; at the largest: {ends}",
        ),
        "exact": plots.svg(
            plots.accuracy_curve(c.eps.tolist(), c.accuracy.tolist(), bands, "L2", chance),
            "attack-exact",
            f"Accuracy against the L2 radius, from {c.clean_accuracy:.0%} at 0 to {c.accuracy[-1]:.0%}",
        ),
        "distances": plots.svg(
            _attack_plots.distances(near, "L2 distance of the nearest mistake found"),
            "attack-distances",
            f"Histogram of L2 distances; medians: {middles}",
        ),
    }
