"""Laws after they were run, and the page of the manual that shows them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from psiphi.app._console import number

if TYPE_CHECKING:
    from psiphi.laws import Law, Measured

WHY = "takes longer than two seconds: it trains models to the end"


@dataclass(frozen=True)
class Outcome:
    """A law after it was run, `seconds` by the clock and `cpu` of CPU; `failure` says why it could not be."""

    number: str
    title: str
    measured: tuple[Measured, ...]
    seconds: float
    failure: str = ""
    cpu: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.failure and all(each.holds for each in self.measured)

    @property
    def closest(self) -> Measured | None:
        """The measurement that uses most of its tolerance."""
        return max(self.measured, key=used, default=None)

    def as_dict(self) -> dict[str, Any]:
        found = [{**asdict(each), "holds": each.holds} for each in self.measured]
        return {
            "law": self.number,
            "title": self.title,
            "holds": self.holds,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu,
            "measured": found,
            "failure": self.failure or None,
        }


def used(one: Measured) -> float:
    """The share of its tolerance that a measurement uses; below 0 for a bound that is kept with room."""
    off = one.measured - one.theory if one.bound else abs(one.measured - one.theory)
    if off != off:
        return inf
    if one.tolerance == 0:
        return inf if off > 0 else 0.0 if off == 0 else -inf
    return off / one.tolerance


def run_law(law: Law) -> Outcome:
    """Measure one law; whatever goes wrong in it is its failure, and the others still run."""
    began, spent = time.perf_counter(), time.process_time()
    try:
        measured, failure = tuple(law.run()), ""
    except Exception as error:
        measured, failure = (), f"{type(error).__name__}: {error}"
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    return Outcome(law.number, law.title, measured, round(seconds, 3), failure, round(cpu, 3))


def page(outcomes: Sequence[Outcome], skipped: Sequence[Law], facts: dict[str, Any], command: str) -> str:
    """The laws as a page in Markdown: a line each with its closest measurement, then every measurement."""
    held = sum(each.holds for each in outcomes)
    count = sum(len(each.measured) for each in outcomes)
    of, versions = facts["machine"], facts["versions"]
    lines = [
        "# Laws, as measured",
        "",
        f"Made by `{command}`; [laws](laws.md) says what each measures, and on what. Nothing here was written by hand.",
        "",
        f"**{held} of {len(outcomes)} laws hold**: {count} measurements in {sum(each.cpu for each in outcomes):.0f} s "
        f"of CPU, {facts['date']}.",
        "",
        f"{of['system']} on {of['processor']}, {of['cores']} cores, one thread; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}.",
        "",
        "Of each law the measurement that uses the largest share of its tolerance: ≤ marks a bound, = a value.",
        "",
        "| law | | measurements | the closest | theory | measured | tolerance | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in outcomes:
        one = each.closest
        shown = ["—"] * 4 if one is None else _shown(one)
        verdict = each.title if each.holds else f"**FAILS** {each.title} {each.failure}"
        cells = [each.number, verdict, str(len(each.measured)), *shown, f"{each.cpu:.1f}"]
        lines.append(_row(cells))
    if skipped:
        lines += ["", "## Not run", "", "| law | | why |", "|---|---|---|"]
        lines += [_row([law.number, law.title, WHY]) for law in skipped]
    lines += ["", "## Every measurement", ""]
    for each in outcomes:
        lines += [f'??? note "{each.number} · {each.title.replace(chr(34), chr(39))}"', ""]
        lines += ["    | | theory | measured | tolerance |", "    |---|---|---|---|"]
        lines += [f"    {_row(_shown(one))}" for one in each.measured]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _shown(one: Measured) -> list[str]:
    return [
        one.what,
        f"{one.relation} {number(one.theory, 6)}",
        number(one.measured, 6),
        number(one.tolerance, 2),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"
