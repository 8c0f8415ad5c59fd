"""`psiphi attack --report`: how robust a classifier is, and whether that number can be trusted, on one page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _attacked as attacked
from psiphi.app import _console as out
from psiphi.app import _pages as pages
from psiphi.app import plots
from psiphi.basis import files
from psiphi.evaluation._honest import GRAVITY

if TYPE_CHECKING:
    from psiphi.app._attacked import Curves
    from psiphi.evaluation import Robustness

COLOURS = {"OK": "yes", "SKIP": "skip", "WARN": "doubt", "FAIL": "no"}
SHOWN_NAMES = 6


def write(
    folder: Path,
    judged: Robustness,
    curves: Curves | None,
    found: dict[str, Any],
    shown: list[Any],
    classes: Sequence[str],
    argv: Sequence[str],
) -> list[str]:
    """report.html, and the record of the evaluation; their paths."""
    judged.save(folder / "robustness")
    files.write(folder / "report.html", render(judged, curves, found, shown, classes, argv))
    return [str(folder / name) for name in ("robustness.npz", "robustness.json", "report.html")]


def render(
    judged: Robustness,
    curves: Curves | None,
    found: dict[str, Any],
    shown: list[Any],
    classes: Sequence[str] = (),
    argv: Sequence[str] = (),
) -> str:
    """The page."""
    from markupsafe import Markup

    told = judged.as_dict()
    threat = judged.headline.threat
    verdicts = sorted(judged.judged[threat].verdicts, key=lambda each: -GRAVITY.index(each.status))
    counts = {status: sum(each.status == status for each in verdicts) for status in reversed(GRAVITY)}
    by = [name for name in judged.broken_by(threat) if name]
    curve = (
        ""
        if curves is None
        else plots.svg(attacked.draw(curves), "curve", attacked.words(curves), (4.6, 3.1))
    )
    return pages.rendered(
        "robustness.html.j2",
        filters={"number": out.number, "share": out.percent, "thousands": _thousands},
        found=found,
        judged=judged,
        headline=judged.headline,
        honesty=judged.judged[threat],
        verdicts=verdicts,
        counts=counts,
        colours=COLOURS,
        lines=told["attacks"],
        probed=judged.judged[threat].rows,
        broken_by={name: by.count(name) for name in dict.fromkeys(by)},
        curve_svg=Markup(curve),
        norm="" if curves is None else attacked.NORMS.get(curves.norm, curves.norm),
        examples=shown,
        name=lambda k: classes[k] if k < len(classes) else str(k),
        advice=[each for each in verdicts if each.advice and each.status in ("FAIL", "WARN")],
        command="psiphi " + " ".join(map(shlex.quote, argv)),
    )


def show(judged: Robustness) -> None:
    """The verdicts that are not OK, and the lowest number, for people."""
    for threat, each in judged.judged.items():
        grave = [verdict for verdict in each.verdicts if verdict.status in ("FAIL", "WARN")]
        rows = [[verdict.status, verdict.name, verdict.sentence] for verdict in grave]
        if rows:
            out.table([f"{threat}", "check", "what was found"], rows)
        out.say(each.summary())
    out.say(f"Lowest number: {judged.headline}.")


def _thousands(n: int) -> str:
    return f"{n:,}".replace(",", " ")
