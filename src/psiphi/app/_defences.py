"""What the defences of `psiphi defend` share: the classifier, the rows, and which options go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _attacking as attacking
from psiphi.app._open import open_classifier, open_data
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from psiphi.app._attacking import Seen
    from psiphi.attacks import Attack
    from psiphi.data import Data

DRAWS, VERIFY = 16, 100


@dataclass(frozen=True)
class Case:
    """A classifier of data in their own units, and the labelled test rows that it is defended on."""

    name: str
    digest: str
    classifier: nn.Module
    seen: Seen
    spec: str
    data: Data
    x: Tensor
    y: Tensor
    limit: int
    batch_size: int | None
    seed: int
    folder: Path | None
    quiet: bool

    @staticmethod
    def of(
        name: str, seen: Seen, trust: bool, data: str | None, limit: int, batch_size: int | None, seed: int,
        folder: Path | None, quiet: bool,
    ) -> Case:  # fmt: skip
        """Open what the options name. Raises `ArgumentError` for data without labels."""
        opened = open_classifier(name, trust)
        classifier = attacking.scaled(opened, seen)
        spec, loaded = open_data(data, opened)
        x, y = attacking.judged(loaded, limit, [opened], quiet)
        if y is None:
            raise ArgumentError(
                f"{spec} has no labels, which an accuracy needs: name data with labels by --data."
            )
        digest = attacking.model_digest(opened)
        return Case(
            name, digest, classifier, seen, spec, loaded, x, y, limit, batch_size, seed, folder, quiet
        )

    def record(self, attack: Attack) -> dict[str, Any]:
        """What the record of any defence begins with."""
        return {
            "model": self.name, "model_sha256": self.digest, "data": self.spec,
            "data_sha256": attacking.data_digest(self.x, self.y), "attack": repr(attack), "rows": len(self.x),
        }  # fmt: skip

    def place(self) -> None:
        """Make the folder: a forbidden place is found out before the work."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)


def refuse(what: str, homes: Mapping[str, Mapping[str, Any]]) -> None:
    """Options that were given and are of another defence: raises `ArgumentError` for the first; `homes` says whose
    they are."""
    for home, options in homes.items():
        for option, value in options.items():
            if value is not None and value is not False:
                raise ArgumentError(f"{option} is of {home}, and this is {what}: leave one of the two out.")


def alone(paths: list[Path] | None, what: str) -> Path | None:
    """The one model that `--with` names, or None. Raises `ArgumentError` for several."""
    if paths is not None and len(paths) > 1:
        raise ArgumentError(f"{what} takes one model; got {len(paths)} by --with: run it once for each.")
    return paths[0] if paths else None


def share(each: Mapping[str, Any]) -> str:
    """`91.2% [88.0%, 93.6%]`, of a share in a record."""
    if not each["n"]:
        return "—"
    return "{:.1%} [{:.1%}, {:.1%}]".format(each["value"], *each["interval"])
