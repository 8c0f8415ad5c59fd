"""The laws beside the tour: `psiphi verify` in a process of its own, for which a second core is idle meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psiphi.app._verified import Outcome
from psiphi.basis.errors import PsiphiError
from psiphi.laws import LAWS, Measured

COMMAND = (sys.executable, "-m", "psiphi", "verify", "--json", "--quiet")


@dataclass(frozen=True)
class Measuring:
    """The process, and the file that it writes what it found to."""

    process: subprocess.Popen[bytes]
    found: Path

    def outcomes(self) -> tuple[list[Outcome], list[str]]:
        """What was measured, in the order of the laws' numbers, and what was left out as too slow."""
        self.process.wait()
        try:
            told = json.loads(self.found.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PsiphiError(
                f"the laws could not be measured (exit code {self.process.returncode}): run psiphi verify to see why."
            ) from error
        titles = {law.number: law.title for law in LAWS}
        outcomes = sorted(map(_outcome, told["laws"]), key=lambda law: _place(law.number))
        return outcomes, [f"{number} {titles[number]}" for number in told["skipped"]]


@contextmanager
def beside() -> Iterator[Measuring]:
    """Start the process; it ends with the block, whatever happens in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "laws.json"
        with (
            path.open("wb") as out,
            subprocess.Popen(COMMAND, stdout=out, stderr=subprocess.DEVNULL) as process,
        ):
            try:
                yield Measuring(process, path)
            finally:
                process.kill()


def _outcome(told: dict[str, Any]) -> Outcome:
    """What `Outcome.as_dict` wrote; null is what JSON says of a number that is none."""
    rows: list[dict[str, Any]] = [
        {name: float("nan") if value is None else value for name, value in each.items() if name != "holds"}
        for each in told["measured"]
    ]
    return Outcome(
        told["law"],
        told["title"],
        tuple(Measured(**row) for row in rows),
        told["seconds"],
        told["failure"] or "",
        told["cpu_seconds"],
    )


def _place(number: str) -> tuple[int, str]:
    """7a after 2 and before 22."""
    digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits) if digits.isdigit() else 0, number
