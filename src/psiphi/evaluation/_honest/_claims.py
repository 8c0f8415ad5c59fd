"""Questions about what is claimed beside the attacks of a purifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from psiphi.access import WhiteBox
from psiphi.basis.errors import ArgumentError
from psiphi.defenses import Purified
from psiphi.evaluation._adaptive import adaptive
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, graded, skipped
from psiphi.evaluation._levels import LEVELS, TOGETHER

REPORTED = "the lowest level, judged anew"
OVERSTATED = 0.02  # share of rows by which a level of the adaptive table may be lower than the attacks


def purifier(s: Subject) -> Notes:
    """The adaptive table of a purifier, by the first attack that climbs."""
    if not isinstance(safe := s.module, Purified):
        raise ArgumentError("the classifier is no purifier")
    inner: Any = getattr(s.access, "inner", s.access)
    if not isinstance(inner, WhiteBox) or not (inner.pipe.mean is None and inner.pipe.std is None):
        raise ArgumentError(
            "the table of a purifier is of modules, bare or by expectation, without mean and std: let the module scale"
        )
    table = adaptive(
        safe, s.points, s.label.to(s.points.device), s.lead,
        draws=s.draws, seed=s.seed, bounds=inner.pipe.bounds, batch_size=s.batch_size,
    )  # fmt: skip
    columns, left_out = {}, []
    for each in (*table.levels.values(), table.together):
        if each.right is None:
            left_out.append(f"{each.name}: {each.note}")
        else:
            columns[f"level: {each.name}"] = each.right
        s.charge(each.forwards, each.backwards)
    if table.final is not None and table.final.right is not None:
        columns[REPORTED] = table.final.right
    facts = {"levels left out": left_out, "levels by": [repr(s.lead)]}
    return Notes(columns | {"beside levels": s.right}, facts=facts)


def levels(e: Evidence) -> dict[str, Tensor]:
    """Of each level of a purifier's table the share of draws that stand, one a probed row, (n,)."""
    columns = {name: e.columns.get(f"level: {name}") for name in (*LEVELS, TOGETHER)}
    return {name: column for name, column in columns.items() if column is not None}


def lowest(e: Evidence) -> Tensor | None:
    """Of the lowest level the share of draws that stand, of a random purifier by draws that did not pick it, (n,)."""
    found = e.columns.get(REPORTED)
    return (
        found
        if found is not None
        else min(levels(e).values(), key=lambda each: float(each.mean()), default=None)
    )


def adaptively(e: Evidence) -> Verdict:
    """A purifier is shown at every level, and the attacks are no weaker than the lowest.

    Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 4; Tramèr
    et al., "On adaptive attacks to adversarial example defenses", 2020; Croce et al., "Evaluating the adversarial
    robustness of adaptive test-time defenses", 2022.
    """
    name, found = "purifier at every level", levels(e)
    if not found:
        return skipped(name, e.refused("purifier"))
    left_out = e.facts.get("levels left out", [])
    missing = [
        each for each in LEVELS if each not in found and not any(told.startswith(each) for told in left_out)
    ]
    shares = {level: float(right.mean()) for level, right in found.items()}
    each = ", ".join(f"{level} {share:.1%}" for level, share in shares.items())
    told = f"robust accuracy {each}, by {e.said('levels by')}."
    told += f" Left out: {'; '.join(left_out)}." if left_out else ""
    n = len(e.columns["beside levels"])
    least = lowest(e)
    assert least is not None
    rows = float(e.columns["beside levels"].sum() - least.sum())
    ahead = rows / n
    if missing:
        told += f" Missing: {', '.join(missing)}."
        return Verdict(name, "FAIL", ahead, OVERSTATED, told, "Show every level.")
    advice = "Say the lowest level: the attacks that were handed in do not know the purifier well enough."
    return Verdict(
        name, graded(round(e.beyond_chance(rows, n), 6), n, OVERSTATED), ahead, OVERSTATED, told, advice
    )
