"""What is examined: a classifier behind its access, attacks on one threat, and what they left standing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access import Access
from psiphi.attacks import Attack, Battery, Result, _calls
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import mix
from psiphi.evaluation._honest._evidence import SIGMAS

_PASS = 512  # rows of a pass


@dataclass(frozen=True)
class Subject:
    """The probed rows x (n, *x) with labels and numbers, the battery, and its result on these rows.

    fallen     rows that stand the battery and that a probe that climbs has broken since, (n,)
    queries    of the search without gradients
    surrogate  whose points are put to the classifier; None for one trained on `known`, rows (m, *x), None for neither
    """

    access: Access
    x: Tensor
    label: Tensor
    row: Tensor
    battery: Battery
    result: Result
    fallen: Tensor | None = None
    seed: int = 0
    batch_size: int | None = None
    queries: int = 500
    surrogate: Any = None
    known: Tensor | None = None
    certificate: Any = None
    draws: int = 16
    spent: dict[str, int] = field(default_factory=lambda: {"forwards": 0, "backwards": 0})

    @cached_property
    def points(self) -> Tensor:
        return self.access.points(self.x)

    @property
    def threat(self) -> Any:
        return self.battery.threat

    @cached_property
    def members(self) -> tuple[Attack, ...]:
        """The attacks that the access shows enough for, of the kind that the battery runs."""
        places, _ = self.battery.split(self.access)
        kind = self.battery.kind
        return tuple(replace(self.battery.attacks[place], kind=kind) for place in places)

    @property
    def lead(self) -> Attack:
        """The first attack that climbs a gradient, else the first."""
        return next((each for each in self.members if climbs(each)), self.members[0])

    @property
    def module(self) -> nn.Module | None:
        return module_of(self.access)

    @property
    def random(self) -> bool:
        return self.access.judging > 1

    @property
    def right(self) -> Tensor:
        """Of each row 1 where it stands the battery and 0 where not; of a random classifier the share of draws."""
        return right(self.result)

    @property
    def standing(self) -> Tensor:
        return self.result.robust.cpu()

    def bounded(self) -> None:
        """Raises `ArgumentError` where no radius says what counts as broken."""
        if self.battery.kind == "minimum-norm":
            name = type(self.threat).__name__
            raise ArgumentError(
                f"{self.threat!r} has no radius to compare attacks at: give one, e.g. {name}(0.5)"
            )

    def run(
        self, attack: Any, mine: Tensor | None = None, access: Access | None = None, stop_early: bool = True
    ) -> Result:
        """An attack on the probed rows, or on some of them; counted."""
        mine = torch.arange(len(self.x)) if mine is None else mine
        found = _calls.part(attack, mine)(
            access or self.access, self.x[mine.to(self.x.device)], self.label[mine.to(self.label.device)],
            seed=self.seed, batch_size=self.batch_size, rows=self.row[mine], stop_early=stop_early,
        )  # fmt: skip
        self.charge(int(found.forwards.sum()), int(found.backwards.sum()))
        return found

    def charge(self, forwards: int, backwards: int = 0) -> None:
        self.spent["forwards"] += forwards
        self.spent["backwards"] += backwards

    @contextmanager
    def session(self, points: Tensor, name: str) -> Iterator[None]:
        """The classifier as in an attack; the same draws whenever the name is the same. Counted."""
        with self.access.session(points, mix(self.seed, "honesty", name)) as ledger:
            yield
            self.charge(int(ledger.forwards.sum()), int(ledger.backwards.sum()))

    def verdicts(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        """Within a session, what is said of points at last: logits (m, n, K) or labels (m, n)."""
        rows = torch.arange(len(points), device=points.device) if rows is None else rows
        size = max(1, _PASS // getattr(self.access, "draws", 1))
        return torch.cat(
            [
                self.access.verdict(some, mine).said
                for some, mine in zip(points.split(size), rows.split(size))
            ],
            1,
        )

    def gained(self, found: Result, mine: Tensor) -> Tensor:
        """Rows (n,) that stand the battery and that `found`, of the rows `mine`, breaks; of a random classifier by more
        than 4 standard errors of the two shares."""
        gain = torch.zeros(len(self.x), dtype=torch.double)
        broken = self.standing[mine] & ~found.robust.cpu()
        if found.share is not None and self.result.share is not None:
            sure = SIGMAS * (0.5 / self.access.judging) ** 0.5
            broken &= (found.share.cpu() - self.result.share.cpu()[mine]) > sure
        gain[mine] = broken.double()
        return gain

    def rest(self) -> Tensor:
        """The places of the rows that stand, the probes that climb too."""
        left = self.standing if self.fallen is None else self.standing & ~self.fallen
        return left.nonzero().squeeze(1)


def right(result: Result) -> Tensor:
    """Of each row 1 where it stands and 0 where not; of a random classifier the share of draws that stand, (n,)."""
    return (result.robust.double() if result.share is None else 1 - result.share).cpu()


def climbs(attack: Attack) -> bool:
    """Whether it asks for a gradient."""
    return attack.search.needs in ("gradient", "jacobian")


def module_of(given: Any) -> nn.Module | None:
    """The module behind an access; None where it is a function."""
    while not isinstance(given, nn.Module):
        inner = (getattr(given, name, None) for name in ("inner", "oracle", "pipe", "model"))
        given = next((each for each in inner if each is not None), None)
        if given is None:
            return None
    return given
