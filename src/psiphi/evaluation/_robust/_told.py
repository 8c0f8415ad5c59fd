"""An evaluation of robustness in numbers and in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from psiphi.attacks import Curve, Result
from psiphi.formulas.intervals import normal, wilson

if TYPE_CHECKING:
    from psiphi.evaluation._robust._record import Robustness

_HEADS = (
    "attack",
    "threat",
    "robust accuracy",
    "95 %",
    "broken",
    "undecided",
    "median",
    "forwards",
    "backwards",
)


def numbers(record: Robustness) -> dict[str, Any]:
    """Every number, for JSON."""
    return {
        "rows": len(record),
        "clean": {"accuracy": record.clean_accuracy, "interval": list(record.clean_interval)},
        "headline": record.headline.as_dict(),
        "attacks": {
            name: {"threat": record.threats[name], **line(each)} for name, each in record.attacks.items()
        },
        "worst": {
            threat: {**each.as_dict(), "broken_by": _breakers(record, threat)}
            for threat, each in record.worst_case.items()
        },
        "curves": {threat: _points(each) for threat, each in record.curves.items()},
        "honesty": {threat: each.as_dict() for threat, each in record.judged.items()},
        "forwards": record.forwards,
        "backwards": record.backwards,
        "provenance": record.provenance,
    }


def table(record: Robustness) -> str:
    """A line an attack, the worst case of each threat, the lowest number, the verdicts."""
    cells: list[list[str]] = [list(_HEADS)]
    for name, found in record.attacks.items():
        told = line(found)
        far = "—" if told["median_distance"] is None else f"{told['median_distance']:.4g}"
        share = [f"{told['accuracy']:.1%}", _span(told["interval"])]
        counts = [str(told[key]) for key in ("broken", "undecided")] + [far]
        cells.append(
            [name, record.threats[name], *share, *counts, str(told["forwards"]), str(told["backwards"])]
        )
    for threat, each in record.worst_case.items():
        cells.append(["worst case", threat, f"{each.value:.1%}", _span(each.interval), *[""] * 5])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        f"clean accuracy {record.clean_accuracy:.1%} {_span(record.clean_interval)} of {len(record)} rows"
    ]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    for threat in record.worst:
        counts = ", ".join(f"{name} {count}" for name, count in _breakers(record, threat).items())
        lines.append(f"{threat}: broken by {counts or 'none'}")
    lines += [f"{threat}: {curve!r}" for threat, curve in record.curves.items()]
    lines += [
        f"lowest number: {record.headline}",
        f"forwards {record.forwards}, backwards {record.backwards}",
    ]
    for threat, each in record.judged.items():
        lines += [f"can it be trusted? ({threat}, {each.rows} rows probed)", str(each)]
    return "\n".join(lines)


def line(found: Result) -> dict[str, Any]:
    """The numbers of one attack."""
    moved = found.distance[found.broken].double()
    drawn = found.share is not None and not found.targeted
    return {
        "accuracy": found.accuracy,
        "interval": list(
            of_draws(1 - found.share) if drawn and found.share is not None else of_rows(found.robust)
        ),
        "success_rate": found.success_rate if bool((~found.already_met).any()) else None,
        "broken": int(found.broken.sum()),
        "undecided": int((found.undecided & ~found.already_wrong).sum()),
        "median_distance": float(moved.median()) if len(moved) else None,
        "forwards": int(found.forwards.sum()),
        "backwards": int(found.backwards.sum()),
    }


def of_rows(stands: Tensor) -> tuple[float, float]:
    """95 % interval of a share of rows, by Wilson."""
    return wilson(int(stands.sum()), len(stands))


def of_draws(right: Tensor) -> tuple[float, float]:
    """95 % interval of a mean share of draws, by the normal, within what a share may be."""
    low, high = normal(right)
    return max(low, 0.0), min(high, 1.0)


def _points(curve: Curve) -> dict[str, Any]:
    told = {"eps": curve.eps, "accuracy": curve.accuracy, "intervals": curve.intervals}
    return {name: values.tolist() for name, values in told.items()}


def _breakers(record: Robustness, threat: str) -> dict[str, int]:
    by = record.broken_by(threat)
    return {name: by.count(name) for name in dict.fromkeys(by) if name}


def _span(interval: Any) -> str:
    return f"[{interval[0]:.1%}, {interval[1]:.1%}]"
