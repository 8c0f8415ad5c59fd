"""`make mutants`: see the package's docstring."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from psiphi.laws._marks import FOLDER

from . import page
from .making import Mutant, mutants
from .running import Asked, formula_files, survey, trials

SAMPLE = 400
PAGE = Path("docs/mutants.md")


def main() -> int:
    given = _arguments()
    torch.set_num_threads(1)
    found = [each for path in formula_files(given.files) for each in mutants(path)]
    chosen = found if given.all or given.files else sample(found, given.sample, given.seed)
    began = time.monotonic()
    laws = survey(
        given.laws, given.jobs, lambda done, of: _say(f"laws as they are: {done} of {of}", done == of)
    )
    failed = [f"{each.law.number} {each.failure}" for each in laws if each.failure]
    if failed:
        print("These laws do not hold without a mutant: " + "; ".join(failed), file=sys.stderr)
        return 1
    state = _State(laws)
    known = state.read(given.out) if given.out else {}
    outcomes = {each.id: known[each.id] for each in chosen if each.id in known}
    rest = [each for each in chosen if each.id not in outcomes]
    for mutant, outcome in trials(rest, laws, given.jobs):
        outcomes[mutant.id] = outcome
        if given.out:
            state.append(given.out, mutant, outcome)
        killed = sum(each["killed"] is not None for each in outcomes.values())
        if outcome["killed"] is None and (given.tell or given.files):
            print(
                f"\nsurvived {mutant.id}  {mutant.where}  {mutant.change}  ({outcome['laws']} laws)",
                flush=True,
            )
        _say(f"mutants: {len(outcomes)} of {len(chosen)}, {killed} killed", len(outcomes) == len(chosen))
    seconds = time.monotonic() - began
    tried = [(each, outcomes[each.id]) for each in chosen]
    to = given.page or (None if given.files or given.laws else PAGE)
    if to:
        how = "all" if given.all else ", ".join(given.files) or f"{given.sample} drawn with seed {given.seed}"
        to.write_text(page.text(tried, len(found), how, seconds, given.jobs), encoding="utf-8")
    share = sum(outcome["killed"] is not None for _, outcome in tried) / max(1, len(tried))
    print(f"{share:.1%} of {len(tried)} mutants killed, {seconds / 60:.0f} minutes.")
    return 0 if share >= given.least else 1


def sample(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """A sample that other files' changes leave alone: by a hash of what is changed and where."""

    def drawn(each: Mutant) -> str:
        key = f"{seed} {each.where} {each.change} {each.kind} {each.at[1]}"
        return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()

    kept = {each.id for each in sorted(found, key=drawn)[:count]}
    return [each for each in found if each.id in kept]


class _State:
    """What an earlier run found that still stands.

    A death stands while the formula's file and that of the law that killed it are the same, a survival while the
    formula's file and all laws are.
    """

    def __init__(self, laws: list[Asked]):
        self.of = {each.law.number: _digest(Path(each.law.run.__code__.co_filename)) for each in laws}
        for each in laws:
            wrapped = getattr(each.law.run, "__wrapped__", each.law.run)
            self.of[each.law.number] = _digest(Path(wrapped.__code__.co_filename))
        self.all = hashlib.blake2b("".join(sorted(self.of.values())).encode(), digest_size=8).hexdigest()

    def _now(self, file: str, killed: str | None) -> str:
        return (
            _digest(FOLDER / f"{file}.py") + "-" + (self.all if killed is None else self.of.get(killed, ""))
        )

    def read(self, out: Path) -> dict[str, dict[str, Any]]:
        lines = out.read_text(encoding="utf-8").splitlines() if out.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may have been cut
        return {row["id"]: row for row in rows if row["state"] == self._now(row["file"], row["killed"])}

    def append(self, out: Path, mutant: Mutant, outcome: dict[str, Any]) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "id": mutant.id,
            "file": mutant.file,
            "where": mutant.where,
            "change": mutant.change,
            **outcome,
        }
        row["state"] = self._now(mutant.file, outcome["killed"])
        with out.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()


def _say(text: str, last: bool) -> None:
    if sys.stderr.isatty() or last:
        print(f"\r{text}", end="\n" if last else "", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("files", nargs="*", help="files of psiphi/formulas; by default a sample of all")
    parser.add_argument("--all", action="store_true", help="every mutant")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument(
        "--out", type=Path, help="JSON lines, one a mutant; what still stands there is not run again"
    )
    parser.add_argument(
        "--page",
        type=Path,
        help="where the page is written: docs/mutants.md of a sample or of all, none of a file",
    )
    parser.add_argument("--tell", action="store_true", help="print survivors as they are found")
    parser.add_argument("--laws", nargs="*", help="numbers of laws, to ask these alone", default=())
    parser.add_argument(
        "--least", type=float, default=0.95, help="the killed share below which the exit code is 1"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
