"""`psiphi verify`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._options import Json, Quiet
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from psiphi.laws import Law, Measured


@dataclass(frozen=True)
class Outcome:
    """A law after it was run; `failure` says why it could not be."""

    number: str
    title: str
    measured: tuple[Measured, ...]
    seconds: float
    failure: str = ""

    @property
    def holds(self) -> bool:
        return not self.failure and all(each.holds for each in self.measured)

    def as_dict(self) -> dict[str, Any]:
        found = [{**asdict(each), "holds": each.holds} for each in self.measured]
        return {
            "law": self.number,
            "title": self.title,
            "holds": self.holds,
            "seconds": self.seconds,
            "measured": found,
            "failure": self.failure or None,
        }


def run_law(law: Law) -> Outcome:
    """Measure one law; whatever goes wrong in it is its failure, and the others still run."""
    began = time.perf_counter()
    try:
        measured, failure = tuple(law.run()), ""
    except Exception as error:
        measured, failure = (), f"{type(error).__name__}: {error}"
    return Outcome(law.number, law.title, measured, round(time.perf_counter() - began, 3), failure)


def verify(
    full: Annotated[bool, typer.Option("--full", help="The slow laws too.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="A law's number or name, e.g. 7a; may be repeated.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run the laws: measurements on data whose answer is known. Exit code 1 if one fails.

    [bold]Example[/bold]   psiphi verify --only 7a
    """
    from psiphi.laws import LAWS

    chosen = _chosen(LAWS, only)
    laws = [law for law in chosen if full or only or not law.slow]
    skipped = [law for law in chosen if law not in laws]
    outcomes = []
    with out.progress("laws", quiet) as move:
        for i, law in enumerate(laws):
            outcomes.append(run_law(law))
            move(i + 1, len(laws))
    failed = [each for each in outcomes if not each.holds]
    if json:
        out.emit(
            {
                "holds": not failed,
                "laws": [each.as_dict() for each in outcomes],
                "skipped": [law.number for law in skipped],
            }
        )
    else:
        _print(outcomes, skipped, failed)
    if failed:
        raise typer.Exit(1)


def _chosen(laws: list[Law], only: list[str] | None) -> list[Law]:
    if not only:
        return list(laws)
    for text in only:
        if not any(_matches(law, text) for law in laws):
            raise ArgumentError(
                f"no law is called {text!r}; there are {', '.join(law.number for law in laws)}."
            )
    return [law for law in laws if any(_matches(law, text) for text in only)]


def _matches(law: Law, text: str) -> bool:
    """7a is one law, 7 all of its parts; a name will do."""
    part = law.number.removeprefix(text)
    return text in (law.number, law.name) or (part != law.number and not part[:1].isdigit())


def _print(outcomes: list[Outcome], skipped: list[Law], failed: list[Outcome]) -> None:
    rows = []
    for each in outcomes:
        for i, one in enumerate(each.measured):
            rows.append(
                [
                    each.number if i == 0 else "",
                    one.what,
                    f"{one.relation} {out.number(one.theory, 5)}",
                    out.number(one.measured, 5),
                    out.number(one.tolerance, 2),
                    "holds" if one.holds else "FAILS",
                ]
            )
        if each.failure:
            rows.append([each.number, f"{each.title}: {each.failure}", "—", "—", "—", "FAILS"])
    out.table(["law", "what", "theory", "measured", "tolerance", ""], rows)
    seconds = sum(each.seconds for each in outcomes)
    out.say(f"{len(outcomes) - len(failed)} of {len(outcomes)} laws hold ({seconds:.1f} s).")
    if skipped:
        out.say(
            f"Skipped, for psiphi verify --full: {', '.join(f'{law.number} {law.title}' for law in skipped)}."
        )
