"""Trials: each in a forked process that has everything imported, and stops at the first law that fails."""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from types import FunctionType
from typing import Any

from psiphi.laws import LAWS, Law
from psiphi.laws._marks import FOLDER, Mark, executed

from .making import Mutant
from .patching import put, written_in

_MEMORY = 6 << 30  # more than any law asks for: a mutant must not fill the machine
# A law may compute ten times as long as usual, and five seconds more; then the system ends it.
_PATIENCE, _GRACE = 10, 5.0
_SLOWED = 20  # how much longer that may last where other work shares the machine


@dataclass(frozen=True)
class Asked:
    """A law, how long it computes, what it executes, and what it says of the formulas as they are."""

    law: Law
    seconds: float
    marks: frozenset[Mark]
    failure: str


@dataclass
class _Trial:
    """A running process: what it is on, its pipe, what came through it, and when it is given up."""

    item: Any
    pipe: int
    end: float
    told: bytes = b""
    last: dict[str, Any] = field(default_factory=dict)


def survey(numbers: Sequence[str], jobs: int, told: Callable[[int, int], None]) -> list[Asked]:
    """Every quick law, or those of these numbers, run in a process of its own.

    Afterwards this process has imported all that they need.
    """
    quick = [law for law in LAWS if not law.slow and (law.number in numbers or not numbers)]
    found: dict[str, Asked] = {}
    for law, last in _forked(quick, lambda law: _observe(law), lambda _: 600.0, jobs):
        marks = frozenset(Mark(*each) for each in last.get("marks", ()))
        failure = last.get("failure", "") if "seconds" in last else "it did not end"
        found[law.name] = Asked(law, last.get("seconds", 0.0), marks, failure)
        for name in last.get("modules", ()):  # at once, so that the processes to come have them too
            with suppress(
                Exception
            ):  # a module that another one makes, or that is there only where it is asked for
                importlib.import_module(name)
        told(len(found), len(quick))
    return [found[law.name] for law in quick]


def _observe(law: Law) -> Iterator[dict[str, Any]]:
    before, began = set(sys.modules), time.process_time()
    (_, failure), marks = executed(lambda: (None, _failure(law)))
    seconds = time.process_time() - began
    modules = sorted(set(sys.modules) - before)
    yield {"marks": sorted(marks), "seconds": seconds, "failure": failure, "modules": modules}


def marked(mutant: Mutant, laws: Iterable[Asked]) -> list[Asked]:
    """The laws that execute the function that a mutant stands in, or its class or file; the cheapest first."""

    def sees(mark: Mark) -> bool:
        if mark.file != mutant.file or mutant.part == "module":
            return mark.file == mutant.file
        if mutant.part == "class":
            return True  # its fields are read by whoever makes one
        return mark.name == mutant.owner and mark.line == mutant.line

    return sorted((each for each in laws if any(map(sees, each.marks))), key=lambda each: each.seconds)


def trials(
    mutants: Sequence[Mutant], laws: Sequence[Asked], jobs: int
) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """Each mutant with what became of it: `killed` by which law and why, or None; `laws`, how many were asked."""
    asked = {mutant.id: marked(mutant, laws) for mutant in mutants}
    usual = {each.law.name: each.seconds for each in laws}
    for mutant in (each for each in mutants if not asked[each.id]):
        yield mutant, {"killed": None, "why": "", "laws": 0, "seconds": 0.0}
    tried = [each for each in mutants if asked[each.id]]
    functions = written_in(FOLDER)
    gc.freeze()  # a collection would copy the memory of every process to come
    patience = lambda last: _SLOWED * (_PATIENCE * usual.get(last.get("name", ""), 0.0) + _GRACE)  # noqa: E731
    for mutant, last in _forked(tried, lambda m: _try(m, asked[m.id], functions), patience, jobs):
        ended = {"laws": len(asked[mutant.id]), "seconds": round(last["took"], 2)}
        if last.get("done"):
            yield mutant, {"killed": last["killed"], "why": last["why"], **ended}
        else:  # without a law that began, nothing has been seen
            yield mutant, {"killed": last.get("law"), "why": "it took too long, or ended", **ended}


def _try(mutant: Mutant, laws: list[Asked], functions: list[FunctionType]) -> Iterator[dict[str, Any]]:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    try:
        put(mutant, FOLDER / f"{mutant.file}.py", functions)
    except Exception as error:
        yield {"done": True, "killed": "its own making", "why": f"{type(error).__name__}: {error}"}
        return
    for each in laws:
        yield {"law": each.law.number, "name": each.law.name}
        end = time.process_time() + _PATIENCE * each.seconds + _GRACE
        resource.setrlimit(resource.RLIMIT_CPU, (ceil(end), resource.RLIM_INFINITY))
        if why := _failure(each.law):
            yield {"done": True, "killed": each.law.number, "why": why}
            return
    yield {"done": True, "killed": None, "why": ""}


def _failure(law: Law) -> str:
    """Why a law does not hold, "" where it does."""
    try:
        measured = law.run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    broken = [each for each in measured if not each.holds]
    if broken:
        return f"{broken[0].what}: theory {broken[0].theory:.6g}, measured {broken[0].measured:.6g}"
    return "" if measured else "it measured nothing"


# ---------------------------------------------------------------------------------------- processes
def _forked(
    items: Iterable[Any],
    work: Callable[[Any], Iterator[dict[str, Any]]],
    patience: Callable[[dict[str, Any]], float],
    jobs: int,
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each item with all that its process told, the later over the earlier; `took`: its seconds."""
    waiting, running = iter(items), {}
    while True:
        while len(running) < jobs and (item := next(waiting, None)) is not None:
            read, write = os.pipe()
            child = os.fork()
            if not child:
                os.close(read)
                _child(item, work, write)
            os.close(write)
            running[child] = _Trial(
                item, read, time.monotonic() + patience({}), last={"began": time.monotonic()}
            )
        if not running:
            return
        ready, _, _ = select.select([trial.pipe for trial in running.values()], [], [], 0.2)
        for child, trial in list(running.items()):
            ended = False
            if trial.pipe in ready:
                heard = os.read(trial.pipe, 1 << 20)
                ended = not heard
                trial.told += heard
                *lines, trial.told = trial.told.split(b"\n")
                for line in lines:
                    trial.last |= json.loads(line)
                    trial.end = time.monotonic() + patience(trial.last)
            if time.monotonic() > trial.end:
                os.kill(child, signal.SIGKILL)
                ended = True
            if ended:
                os.close(trial.pipe)
                os.waitpid(child, 0)
                del running[child]
                yield trial.item, trial.last | {"took": time.monotonic() - trial.last["began"]}


def _child(item: Any, work: Callable[[Any], Iterator[dict[str, Any]]], write: int) -> None:
    """Do the work and leave, whatever happens: no exit handler of the parent's runs here."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(null, stream)
        warnings.simplefilter("ignore")
        for told in work(item):
            os.write(write, json.dumps(told).encode() + b"\n")
    finally:
        os._exit(0)


def formula_files(names: Iterable[str]) -> list[Path]:
    """The files of formulas that these paths or stems name; all of them for no name."""
    stems = [Path(name).stem for name in names]
    unknown = [stem for stem in stems if not (FOLDER / f"{stem}.py").is_file()]
    if unknown:
        raise SystemExit(f"psiphi.formulas has no file {', '.join(unknown)}.")
    files = sorted(FOLDER.glob("*.py"))
    return [path for path in files if path.stem in stems or not stems]
