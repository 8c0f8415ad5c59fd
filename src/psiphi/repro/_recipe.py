"""What a recipe is: a published table, a setting in minutes and a full one, and how both are measured."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date
from math import inf
from operator import index
from pathlib import Path
from typing import Any

from psiphi.basis.errors import ArgumentError, FileError
from psiphi.basis.provenance import versions

VARIABLE = "PSIPHI_DATA"
PLACES = {  # the folder of the data: a file it holds, and what to put there
    "mnist": (
        "t10k-images-idx3-ubyte*",
        "the four MNIST files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz)",
    ),
    "adbench": ("*.npz", "the ADBench tables (.npz files with X and y)"),
}


@dataclass(frozen=True)
class Row:
    """A line of a published table, and what counts as reproduced.

    published: the source's number, None where it has none; quick, full: the worst value that passes in
    either setting, None where the line is reported and not judged; higher: whether more is better.
    """

    what: str
    published: float | None = None
    quick: float | None = None
    full: float | None = None
    unit: str = ""
    higher: bool = False


@dataclass(frozen=True)
class Found:
    """A line with what was measured; it passes if `measured` is no worse than `limit`."""

    what: str
    published: float | None
    limit: float | None
    measured: float
    unit: str = ""
    higher: bool = False

    @property
    def passes(self) -> bool | None:
        """True or False; None where there is no limit."""
        if self.limit is None:
            return None
        return self.measured >= self.limit if self.higher else self.measured <= self.limit

    @property
    def verdict(self) -> str:
        return {True: "pass", False: "short", None: ""}[self.passes]


@dataclass(frozen=True)
class Job:
    """What a recipe's measurement is handed: where its data lie, the seed, and whom to tell how it goes."""

    folder: Path
    seed: int
    log: Callable[[str], None]
    quiet: bool = True


@dataclass(frozen=True)
class Outcome:
    """A recipe after it was run: its lines, and what is needed to run it again. `seconds` of wall, `cpu` of CPU."""

    name: str
    quick: bool
    found: tuple[Found, ...]
    seconds: float
    cpu: float
    facts: dict[str, Any]

    @property
    def passes(self) -> bool:
        """Whether no judged line falls short."""
        return all(each.passes is not False for each in self.found)

    @property
    def mode(self) -> str:
        return "quick" if self.quick else "full"

    def as_dict(self) -> dict[str, Any]:
        found = [{**asdict(each), "passes": each.passes} for each in self.found]
        time_taken = {"seconds": self.seconds, "cpu_seconds": self.cpu}
        return {
            "recipe": self.name, "mode": self.mode, "passes": self.passes, "found": found, **time_taken, **self.facts,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Rows for the table of docs/results.md: recipe, what, published, measured, limit, minutes of CPU."""
        return [
            f"| {self.name} | {each.what} | {show(each.published, each.unit)} | {show(each.measured, each.unit)} | "
            f"{show(each.limit, each.unit)} | {self.mode}, {self.cpu / 60:.0f} min |"
            for each in self.found
        ]


@dataclass(frozen=True)
class Recipe:
    """A published table with the two settings that reproduce it.

    name: as in `psiphi repro NAME`; reference: title, authors, year; what: one sentence; rows: its lines;
    quick, full: frozen settings, the first for minutes of CPU; measure: (setting, job) -> one number a row,
    by `Row.what`, those without a limit at will; needs: the folder of the data, a key of `PLACES`, "" where they are
    embedded, unless the setting has a `needs` of its own;
    differs: what is done otherwise than in the source.
    """

    name: str
    reference: str
    what: str
    rows: tuple[Row, ...]
    quick: Any
    full: Any
    measure: Callable[[Any, Job], Mapping[str, float]]
    needs: str = ""
    differs: str = ""

    def run(
        self,
        quick: bool = True,
        folder: str | Path | None = None,
        seed: int = 0,
        log: Callable[[str], None] = lambda sentence: None,
        quiet: bool = True,
    ) -> Outcome:
        """Measure every line; `log` gets a sentence a stage.

        folder: holds the data, or a folder of them called `needs`; $PSIPHI_DATA unless given.
        Errors: `FileError` where the data are not there.
        """
        try:
            seed = index(seed)
        except TypeError:
            raise ArgumentError(f"a seed is a whole number; got {seed!r}.") from None
        setting = self.quick if quick else self.full
        job = Job(find(getattr(setting, "needs", self.needs), folder), seed, log, quiet)
        began, spent = time.perf_counter(), time.process_time()
        measured = self.measure(setting, job)
        seconds, cpu = time.perf_counter() - began, time.process_time() - spent
        limits = [(row, row.quick if quick else row.full) for row in self.rows]
        found = tuple(
            Found(row.what, row.published, limit, float(measured[row.what]), row.unit, row.higher)
            for row, limit in limits
            if limit is not None or row.what in measured
        )
        facts = {
            "reference": self.reference,
            "setting": asdict(setting) if is_dataclass(setting) else setting,  # pyright: ignore[reportArgumentType]
            "seed": seed,
            "date": date.today().isoformat(),
            "machine": machine(),
            "versions": versions(),
            "differs": self.differs,
        }
        return Outcome(self.name, quick, found, round(seconds, 1), round(cpu, 1), facts)


def find(needs: str, folder: str | Path | None = None) -> Path:
    """The folder of the data called `needs`: `folder` or $PSIPHI_DATA itself, or one of that name in it."""
    if not needs:
        return Path()
    pattern, wanted = PLACES[needs]
    given = folder if folder is not None else os.environ.get(VARIABLE)
    if not given:
        raise FileError(
            f"this recipe needs {wanted}: put them into a folder {needs}/ and name the folder that holds it "
            f"with --data FOLDER or in {VARIABLE}."
        )
    root = Path(given).expanduser()
    for place in (root / needs, root):
        if place.is_dir() and any(place.glob(pattern)):
            return place
    missing = f"holds neither them nor a folder {needs}/ with them" if root.is_dir() else "is no folder"
    raise FileError(
        f"this recipe needs {wanted}; {root} {missing}: name another with --data FOLDER or in {VARIABLE}."
    )


def machine() -> dict[str, Any]:
    """Processor, cores, threads of torch and accelerator: what decides how long a recipe takes."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def show(value: float | None, unit: str = "") -> str:
    """A number of a table: four significant digits, its unit, an em dash where there is none."""
    if value is None:
        return "—"
    text = f"{value:.4g}" if abs(value) < inf else "∞"
    return f"{text} {unit}".strip().replace("-", "−")
