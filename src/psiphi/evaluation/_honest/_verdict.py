"""A verdict: what was measured, what it was held against, what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["OK", "SKIP", "WARN", "FAIL"]
GRAVITY: tuple[Status, ...] = ("OK", "SKIP", "WARN", "FAIL")
FEW = 2  # rows: what one alone does may be chance


@dataclass(frozen=True)
class Verdict:
    """One question asked of an evaluation, and its answer.

    status     OK; WARN, worth a look; FAIL, the robust accuracy is not to be trusted; SKIP, it could not be asked
    value      what was measured; None where nothing was
    threshold  what it is held against
    sentence   the number in words
    advice     what to do next; empty where there is nothing to do
    """

    name: str
    status: Status
    value: float | None
    threshold: float | None
    sentence: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        advice = f" {self.advice}" if self.advice and self.status in ("WARN", "FAIL") else ""
        return f"{self.status}  {self.name}: {self.sentence}{advice}"


def skipped(name: str, why: str) -> Verdict:
    """A question that could not be asked."""
    return Verdict(name, "SKIP", None, None, why)


def graded(hits: float, n: int, most: float) -> Status:
    """FAIL where more than a share `most` of n rows were hit, and at least two of them; WARN where any was."""
    if hits >= FEW and hits > most * n:
        return "FAIL"
    return "WARN" if hits else "OK"


def gravest(verdicts: tuple[Verdict, ...]) -> Status:
    """The gravest status; OK without any."""
    return GRAVITY[max((GRAVITY.index(each.status) for each in verdicts), default=0)]
