"""The chapter on defences, ready for its template: figures, verdicts, and sentences decided by what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psiphi.app import _defence_plots as figures
from psiphi.app import plots
from psiphi.app.tour._defence_lines import lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psiphi.app.tour._defences import Defences, Line
    from psiphi.evaluation import Robustness, Verdict

FINE = 120
GRAVITY = ("SKIP", "OK", "WARN", "FAIL")
COLOURS = {"OK": "yes", "SKIP": "skip-status", "WARN": "doubt", "FAIL": "no"}


@dataclass(frozen=True)
class Check:
    """One question of the honesty table, and its answer for each of the defences asked."""

    name: str
    verdicts: tuple[Verdict, ...]


def drawn(found: Defences, markup: Any) -> dict[str, Any]:
    """What `_defences.html.j2` needs, under one name: `defences`."""
    judged = {found[run].title: each for run, each in found.judged.items()}
    return {
        "found": found,
        "best": found.best,
        "verdict": _verdict(found),
        "judged": judged,
        "fallen": _fallen(found),
        "checks": _checks(list(judged.values())),
        "counts": {title: _counts(each) for title, each in judged.items()},
        "colours": COLOURS,
        "said": _said,
        "against": [(line, _against(found, line)) for line in found.lines if line.gray is not None],
        "detected": _detected(found),
        "again": lines(found),
        **{f"{name}_svg": markup(text) for name, text in _figures(found).items()},
    }


def _verdict(found: Defences) -> str:
    """The chapter's claim: what the best defence keeps beyond the classifier alone."""
    best, bare = found.best.lowest, found.bare.lowest
    if best.interval[0] > bare.interval[1]:
        return (
            f"{found.best.title}: {best.value:.0%} is left, where the classifier alone keeps {bare.value:.0%}"
        )
    return f"No defence keeps more than the classifier alone, at {bare.value:.0%}, by more than chance"


def _against(found: Defences, line: Line) -> str:
    """What a defence is worth, beside none; and what its gray-box number had promised."""
    low, bare = line.lowest, found.bare.lowest
    gap = line.gray.value - low.value
    promised = f" Its gray-box number promised {100 * gap:.0f} points more." if gap > 0.02 else ""
    if low.interval[0] > bare.interval[1]:
        return f"keeps more than the classifier alone.{promised}"
    if low.interval[1] < bare.interval[0]:
        return f"keeps less than the classifier alone.{promised}"
    return f"cannot be told from no defence at all.{promised}"


def _fallen(found: Defences) -> Line | None:
    """The defence that lost most between the gray-box number and the lowest one."""
    having = [each for each in found.lines if each.gray is not None]
    return max(having, key=lambda each: each.gray.value - each.lowest.value, default=None)


def _checks(judged: Sequence[Robustness]) -> list[Check]:
    records = [next(iter(each.judged.values())) for each in judged]
    asked = [Check(verdicts[0].name, verdicts) for verdicts in zip(*(each.verdicts for each in records))]
    return sorted(asked, key=lambda check: -max(GRAVITY.index(each.status) for each in check.verdicts))


def _counts(judged: Robustness) -> dict[str, int]:
    told = [each.status for each in next(iter(judged.judged.values())).verdicts]
    return {status: told.count(status) for status in ("OK", "WARN", "FAIL", "SKIP")}


def _said(verdict: Verdict) -> str:
    """A verdict's sentence without the spelling of the attacks."""
    return verdict.sentence.partition(", by ")[0].rstrip(".") + "."


def _detected(found: Defences) -> str:
    d = found.detecting
    if d is None:
        return ""
    low, high = d.allowed
    kept = "what it promised" if low <= d.alarms.value <= high else "not what it promised"
    worse = d.aware.wrong.interval[0] > d.unaware.wrong.interval[1]
    tail = "The attacker who knows of it passes more often." if worse else (
        "The attacker who knows of it does not pass more often, by more than chance."
    )  # fmt: skip
    return (
        f"It flags {d.alarms.value:.1%} of untouched digits, {kept} ({low:.1%} to {high:.1%} for a threshold set on so "
        f"few digits). {tail}"
    )


# ------------------------------------------------------------------------------------------ figures
def _figures(found: Defences) -> dict[str, str]:
    rows = [
        (
            line.title,
            line.clean.value,
            None if line.gray is None else line.gray.value,
            line.lowest.value,
            line.lowest.interval,
        )
        for line in found.lines
    ]
    told = ". ".join(f"{name}: untouched {clean:.0%}, lowest {low:.0%}" for name, clean, _, low, _ in rows)
    made = {
        "drops": plots.svg(
            figures.drops(rows), "defence-drops", f"Accuracy of each defence. {told}", (5.4, 0.9 + 0.5 * len(rows))
        ),
        "certified": plots.svg(figures.certified(_certified(found)), "defence-certified", _certified_words(found)),
    }  # fmt: skip
    curves = _roc(found)
    words = "; ".join(name for name, *_ in curves)
    made["roc"] = (
        plots.svg(figures.roc(curves), "defence-roc", f"Flagged attacked digits against false alarms. {words}")
        if curves
        else ""
    )  # fmt: skip
    return made


def _certified(found: Defences) -> dict[str, Any]:
    c = found.smoothing.certificate
    top = float(c.radius.max()) or c.sigma
    radii, shares, spans = c.curve(found.y, [top * k / FINE for k in range(FINE + 1)])
    levels = [{"radius": r, "attacked": each.as_dict()} for r, each in found.smoothing.attacked]
    curve = {"radius": radii.tolist(), "accuracy": shares.tolist(), "intervals": spans.tolist()}
    return {"curve": curve, "levels": levels, "sigma": c.sigma}


def _certified_words(found: Defences) -> str:
    c = found.smoothing.certificate
    told = [f"{c.accuracy(found.y, r).value:.0%} within {r:g}" for r, _ in found.smoothing.attacked]
    return f"Certified accuracy: {', '.join(told)}"


def _roc(found: Defences) -> list[tuple[str, Any, tuple[float, float], str]]:
    d = found.detecting
    named = {"unaware": ("does not know", "gray"), "aware": ("knows of it", "white")}
    return [
        (
            f"{named[key][0]}: AUROC {each.auroc:.0%}",
            each.roc.tolist(),
            (each.alarms.value, each.caught.value),
            named[key][1],
        )
        for key, each in ({} if d is None else d.seen).items()
        if each is not None
    ]
