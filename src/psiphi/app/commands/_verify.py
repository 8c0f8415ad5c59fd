"""`psiphi verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psiphi.app import _console as out
from psiphi.app._options import Json, Quiet
from psiphi.app._verified import WHY, Outcome, page, run_law
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from psiphi.laws import Law


def verify(
    full: Annotated[bool, typer.Option("--full", help="The slow laws too.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="A law's number or name, e.g. 7a; may be repeated.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--page", help="Write them all as a page of the manual, in Markdown.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Write the index of formulas and their laws, in Markdown.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run the laws: measurements on data whose answer is known. Exit code 1 if one fails.

    The quick form of every law takes about 80 seconds of one core; it says which it skips, and --full runs those too.

    [bold]Example[/bold]   psiphi verify --only 7a
    """
    from psiphi.basis.files import write
    from psiphi.laws import LAWS, _index, _marks

    if index is not None and only:
        raise ArgumentError("the index of formulas needs every law: leave --only out.")
    chosen = _chosen(LAWS, only)
    laws = [law for law in chosen if full or only or not law.slow]
    skipped = [law for law in chosen if law not in laws]
    outcomes, executed = [], {}
    with out.progress("laws", quiet) as move:
        for i, law in enumerate(laws):
            if index is None or law.slow:
                outcomes.append(run_law(law))
            else:
                outcome, executed[law.number] = _marks.executed(lambda law=law: run_law(law))
                outcomes.append(outcome)
            move(i + 1, len(laws))
    failed = [each for each in outcomes if not each.holds]
    if to is not None:
        words = [*(["--full"] if full else []), *(f"--only {text}" for text in only or [])]
        command = " ".join(["psiphi verify", *words, f"--page {to}"])
        write(to, page(outcomes, skipped, facts(), command))
        out.note(f"The page is in {to}.", quiet)
    if index is not None:
        write(index, _index.page(executed))
        out.note(f"The index is in {index}.", quiet)
    if json:
        out.emit(
            {
                "holds": not failed,
                "laws": [each.as_dict() for each in outcomes],
                "skipped": [law.number for law in skipped],
                "why_skipped": WHY if skipped else None,
                **facts(),
            }
        )
    else:
        _print(outcomes, skipped, failed)
    if failed:
        raise typer.Exit(1)


def facts() -> dict[str, Any]:
    """Where and when: machine, versions, date."""
    from datetime import date

    from psiphi.basis.provenance import versions
    from psiphi.repro._recipe import machine

    return {"date": date.today().isoformat(), "machine": machine(), "versions": versions()}


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
        names = ", ".join(f"{law.number} {law.title}" for law in skipped)
        out.say(f"Skipped, for psiphi verify --full, since each {WHY}: {names}.")
