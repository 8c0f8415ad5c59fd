"""Typed errors: each is one sentence that says what was given, what is needed and what to do."""

from __future__ import annotations

from collections.abc import Callable


class PsiphiError(Exception):
    """Base of every error psiphi raises on purpose; the command line turns it into exit code 2."""


class ArgumentError(PsiphiError, ValueError):
    """An argument has no meaning here."""


class DataError(PsiphiError, ValueError):
    """The data cannot be used as they are."""


class ShapeError(DataError):
    """An array has the wrong shape."""


class MeasureError(DataError):
    """A likelihood was asked for that is no density on these data."""


class FileError(PsiphiError, ValueError):
    """A file is missing, corrupt, or of another version."""


class AccessError(PsiphiError, ValueError):
    """A model cannot be attacked as it is: wrong bounds, probabilities, train mode, random output."""


class BudgetError(AccessError):
    """More queries were asked for than the budget of a black box allows."""


class LaunchError(PsiphiError, RuntimeError):
    """Several devices were asked for where processes cannot be started."""


class DivergedError(PsiphiError, RuntimeError):
    """The loss diverged; the model holds the last good weights."""


class MissingVerb(PsiphiError, AttributeError):
    """The model has no such verb; an `AttributeError`, so that `hasattr` tells the truth.

    `who` is called only when the message is read: `hasattr` should not have to build models.
    """

    def __init__(
        self, model: str, verb: str, reason: str = "", who: Callable[[str], list[str]] | None = None
    ):
        super().__init__(model, verb, reason)
        self.model, self.verb, self.reason, self._who = model, verb, reason, who

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        able = self._who(self.verb) if self._who else []
        hint = f". Models that can: {', '.join(able)}" if able else ""
        return f"{self.model} cannot {self.verb}{why}{hint}."
