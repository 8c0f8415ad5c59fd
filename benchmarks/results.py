"""Every number that the design asks for, beside its reference: run, kept as records, written to benchmarks/RESULTS.md.

    python benchmarks/results.py                        all of it: hours, most of them the peers'
    python benchmarks/results.py --only training,auto   some, the other rows from their records
    python benchmarks/results.py --missing              what has no record yet
    python benchmarks/results.py --write                nothing is run

A comparison is one of the scripts beside this file, a recipe one of `psiphi repro` in its quick setting. Each runs in a
process of its own and leaves a record: benchmarks/records/NAME.json with what it measured, its command, machine,
versions, date, and how busy the machine was; of a recipe docs/results/NAME-quick.json. RESULTS.md is made of the
records alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "records"
TABLES = HERE.parent / "docs" / "results"  # where recipes leave theirs
PAGE = HERE / "RESULTS.md"
SHARED = HERE.parent.parent / "shared" / "data"  # unless PSIPHI_DATA names another folder


@dataclass(frozen=True)
class Line:
    """A row of the page; `far`: what was reached over what was asked, at least 1 where it is met."""

    work: str
    reference: str
    psiphi: str
    asked: str
    far: float | None = None

    @property
    def verdict(self) -> str:
        if self.far is None:
            return "—"
        if self.far == 0:
            return "worse than the reference"
        return "reached" if self.far >= 1 else f"short by {1 - self.far:.1%}"


@dataclass(frozen=True)
class Job:
    """A comparison or a recipe: its arguments, and how its record is read."""

    name: str
    arguments: tuple[str, ...]
    read: Callable[[Any], Iterable[Line]]
    recipe: bool = False

    @property
    def path(self) -> Path:
        """The record."""
        return TABLES / f"{self.name}-quick.json" if self.recipe else RECORDS / f"{self.name}.json"

    def kept(self) -> dict[str, Any] | None:
        """What the record holds, if there is one: `found`, and when, where and how long it was measured."""
        if not self.path.exists():
            return None
        record = json.loads(self.path.read_text())
        return record | {"found": record, "command": self.shown} if self.recipe else record

    @property
    def shown(self) -> str:
        words = " ".join(self.arguments)
        return f"psiphi repro {self.name} --quick {words}".strip() if self.recipe else f"benchmarks/{words}"


# ---------------------------------------------------------------------------------------- how records are read
def training(record: Any) -> Iterable[Line]:
    for row, peer, bare in zip(record["training"], (1.7, 1.8), (0.93, 0.9), strict=False):
        work = f"train {row['work']}, samples/s"
        mine = f"{row['psiphi /s']:,.0f}"
        yield Line(
            work, f"pythae {row['pythae /s']:,.0f}", f"{mine}: {row['× pythae']:.2f} ×", f"≥ {peer} ×",
            row["× pythae"] / peer,
        )  # fmt: skip
        yield Line(
            work, f"bare loop {row['bare loop /s']:,.0f}", f"{mine}: {row['× bare loop']:.2f} ×", f"≥ {bare} ×",
            row["× bare loop"] / bare,
        )  # fmt: skip
    of = record["likelihood"]
    yield Line(
        f"{of['work']} (estimates: {of['psiphi, nats']}; pythae {of['pythae, nats']})",
        f"pythae {of['pythae']:.1f}, plain batching {of['plain batching']:.1f}",
        f"{of['psiphi']:.1f}: {of['× pythae']:.2f} ×", "≥ 2 ×, an equal estimate with its error", of["× pythae"] / 2,
    )  # fmt: skip


def _sides(found: Any, show: Callable[[Any], str]) -> tuple[str, str]:
    def said(side: str, of: Any) -> str:
        return f"{side} {of['seconds']:.3g} s, {show(of)}"

    peers = [said(side, of) for side, of in found["sides"].items() if side != "psiphi"]
    return "; ".join(peers), said("", found["sides"]["psiphi"]).strip()


def _accuracy(of: Any) -> str:
    return f"{of['accuracy']:.1%}"


def _length(of: Any) -> str:
    return f"{of['mean L2']:.3f}"


def compared(
    asked: dict[str, float | None], worse: str, beside: str | None = None
) -> Callable[[Any], Iterable[Line]]:
    """Rows of attacks.measure whose name holds a key of `asked`: as many times faster than the peer.

    beside: that peer, the fastest sound one unless named;
    worse: what must be no higher than the best sound peer's, "accuracy" or "mean L2".
    """
    show = _accuracy if worse == "accuracy" else _length

    def read(record: Any) -> Iterable[Line]:
        for found in record["rows"]:
            limit = next(v for k, v in asked.items() if k in found["row"])
            theirs, ours = _sides(found, show)
            sides = found["sides"]
            peer = beside or found["ratio"]["peer"]
            faster, by_cpu = (sides[peer][key] / sides["psiphi"][key] for key in ("seconds", "cpu"))
            best = min(of[worse] for side, of in sides.items() if side != "psiphi" and of["sound"])
            no_worse = sides["psiphi"][worse] <= best + SLACK[worse]
            yield Line(
                f"{found['row']}, {found['images']} images",
                theirs,
                f"{ours}: {faster:.2f} × {peer} ({by_cpu:.2f} × by CPU)",
                f"≥ {limit:g} ×, {worse} no higher" if limit else f"{worse} no higher",
                (faster / limit if limit else 1.0) if no_worse else 0.0,
            )

    return read


# Two images of 256 are the noise of random starts; lengths are equal within a part in a thousand.
SLACK = {"accuracy": 0.008, "mean L2": 0.002}


def one_pixel(record: Any) -> Iterable[Line]:
    found, bare = record["mnist"], record["bare"]
    theirs, ours = _sides(found, _accuracy)
    per = {side: of["seconds"] / of["rows"] for side, of in found["sides"].items()}
    work = f"one pixel, exhaustive over black and white, {found['images']} images"
    if "ART" in per:
        ratio = per["ART"] / per["psiphi"]
        yield Line(work, theirs, f"{ours}: {ratio:.0f} × ART an image", "≥ 12 × ART", ratio / 12)
    mine = found["sides"]["psiphi"]["seconds"]
    yield Line(
        work,
        f"the network alone on its {bare['forwards']} distinct points {bare['seconds']:.3g} s, {bare['flips']} flips",
        f"{mine:.3g} s, {bare['seconds'] / mine:.2f} × its speed", "≥ 1 ×, every flip", bare["seconds"] / mine,
    )  # fmt: skip


def universal(record: Any) -> Iterable[Line]:
    sides = record["sides"]
    mine = sides["psiphi"]
    theirs = {side: of for side, of in sides.items() if not side.startswith("psiphi")}
    said = "; ".join(f"{side} {of['seconds']:.3g} s, fools {of['fooled']}" for side, of in theirs.items())
    faster, by_cpu = (min(of[key] for of in theirs.values()) / mine[key] for key in ("seconds", "cpu"))
    rate = sum(mine["rates"]) / len(mine["rates"])
    yield Line(
        f"universal perturbation, L∞ 0.3, from {mine['rows']} images, judged on unseen ones", said,
        f"{mine['seconds']:.3g} s, fools {mine['fooled']}: {faster:.0f} × ({by_cpu:.0f} × by CPU)",
        "fools ≥ 80 %, ≥ 20 ×", min(rate / 0.8, faster / 20),
    )  # fmt: skip


def square(record: Any) -> Iterable[Line]:
    for row in record["rows"]:
        lines = {of["side"]: of for of in row["sides"]}
        said = [
            "; ".join(f"{k} {v}" for k, v in of.items() if k != "side")
            for s, of in lines.items()
            if "psiphi" not in s
        ]
        yield Line(
            f"Square, {row['row']}, ε {row['eps']:g}, {record['images']} images × {record['queries']} queries",
            " · ".join(f"{s}: {t}" for s, t in zip([s for s in lines if "psiphi" not in s], said, strict=True)),
            "; ".join(f"{k} {v}" for k, v in lines["psiphi"].items() if k != "side"), "success no lower",
        )  # fmt: skip


def memory(record: Any) -> Iterable[Line]:
    worst = max(row["grown_bytes"] for row in record["rows"])
    yield Line(
        "4 GB memory-mapped file: growth of resident memory, the worst of reading, checking and training", "the file",
        f"{worst / 2**30:.2f} GB", f"< {record['limit_bytes'] / 2**30:.0f} GB", record["limit_bytes"] / worst,
    )  # fmt: skip


TIMES = "× bare loop's time"


def simple(record: Any) -> Iterable[Line]:
    """Steps beside a bare loop; no number is asked."""
    for row in record:
        mine = next(k for k in row if k.startswith("psiphi"))
        unit = mine.removeprefix("psiphi, ")
        yield Line(
            f"{row['work']}, {unit}", f"bare loop {row['bare loop']:.2f}",
            f"{row[mine]:.2f}: {row[TIMES]:.2f} × its time", "—",
        )  # fmt: skip


def divergences(record: Any) -> Iterable[Line]:
    def said(row: Any) -> str:
        return f"{row['what']} {row['seconds']:.2f} s, {row['grown MB']:.0f} MB"

    by = {(row["what"], row["rows"]): row for row in record["rows"]}
    for mine, theirs in (
        ("psiphi sliced_wasserstein", "POT sliced, torch"),
        ("psiphi mmd", "naive N x N mmd"),
    ):
        for (what, rows), row in by.items():
            if what == theirs and (mine, rows) in by:
                ours = by[mine, rows]
                ratio = f"{row['seconds'] / ours['seconds']:.1f} ×"
                yield Line(f"divergence of 2 × {rows} points", said(row), f"{said(ours)}: {ratio}", "—")


def repro(record: Any) -> Iterable[Line]:
    for row in record["found"]:
        if row["limit"] is None:
            continue
        less = (row["measured"], row["limit"]) if row["higher"] else (row["limit"], row["measured"])
        unit = f" {row['unit']}" if row["unit"] else ""
        published = "—" if row["published"] is None else f"published {row['published']:g}{unit}"
        yield Line(
            f"{record['recipe']}: {row['what']}", published, f"{row['measured']:.4g}{unit}",
            f"{'≥' if row['higher'] else '≤'} {row['limit']:g}{unit}",
            1.0 if row["passes"] else min(less[0] / less[1], 0.999),
        )  # fmt: skip


JOBS = [
    Job("training", ("training.py",), training),
    Job("pgd", ("attacks.py", "--rows", "pgd"), compared({"adversarially": 1.3, "pgd": 5}, "accuracy")),
    Job("cw", ("attacks.py", "--rows", "cw"), compared({"cw": 5}, "mean L2")),
    Job("apgd", ("attacks.py", "--rows", "apgd"), compared({"apgd": None}, "accuracy")),
    Job("ddn", ("attacks.py", "--rows", "ddn-100"), compared({"ddn": None}, "mean L2")),
    Job("auto", ("auto.py", "--rows", "plain"), compared({"plain": 3}, "accuracy", "reference")),
    Job("one_pixel", ("one_pixel.py", "--parts", "mnist", "--images", "8"), one_pixel),
    Job("universal", ("universal.py",), universal),
    Job("square", ("square.py", "--repeats", "1"), square),
    Job("memory", ("memory.py",), memory),
    Job("unet", ("unet.py",), simple),
    Job("adversarial", ("adversarial.py",), simple),
    Job("divergences", ("divergences.py",), divergences),
    *(
        Job(name, (), repro, recipe=True)
        for name in ("adbench", "hinton2006", "ksparse2013", "pacgan2018", "m2", "iwae2016", "aae2016", "ddim2021",
                     "madry_mnist", "trades_mnist", "purification", "poison_mnist")
    ),
]  # fmt: skip


# ------------------------------------------------------------------------------------------- running and writing
def machine() -> dict[str, Any]:
    """What the numbers depend on, as records of recipes have it."""
    from psiphi.basis.provenance import versions

    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "date": date.today().isoformat(), "load before": round(os.getloadavg()[0], 2), "versions": versions(),
        "machine": {
            "system": platform.system(), "processor": model or platform.machine(), "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        },
    }  # fmt: skip


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def run(job: Job) -> bool:
    """Run a job in a process of its own and keep its record; False where it left none."""
    print(f"== {job.shown}", flush=True)
    about, began = machine(), time.perf_counter()
    data = {"PSIPHI_DATA": str(SHARED)} if SHARED.is_dir() else {}
    environment = data | os.environ
    if job.recipe:
        words = ["-m", "psiphi", "repro", job.name, "--quick", "--out", str(TABLES)]
        before = job.path.stat().st_mtime_ns if job.path.exists() else None
        code = subprocess.run([sys.executable, *words], check=False, env=environment).returncode
        done = job.path.exists() and job.path.stat().st_mtime_ns != before
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "record.json"
            words = [str(HERE / job.arguments[0]), *job.arguments[1:], "--json", str(path)]
            code = subprocess.run([sys.executable, *words], check=False, env=environment).returncode
            done = path.exists()
            if done:
                record = {
                    "command": job.shown, "seconds": round(time.perf_counter() - began, 1), **about,
                    "found": json.loads(path.read_text()),
                }  # fmt: skip
                RECORDS.mkdir(exist_ok=True)
                job.path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if not done:
        print(f"{job.name} left no record (exit code {code}); its rows stay as they were.", file=sys.stderr)
    return done


def peers() -> list[str]:
    """The libraries beside us and their versions, as benchmarks/.env has them."""
    known = ("pythae", "torchattacks", "foolbox", "adv-lib", "adversarial-robustness-toolbox", "pyautoattack")
    pinned = (line.split("==") for line in _lines(str(HERE / "requirements-peers.txt")) if "==" in line)
    return [f"{name} {version}" for name, version in pinned if name in known]


def page() -> str:
    """RESULTS.md, from the records."""
    kept = [(job, record) for job in JOBS if (record := job.kept())]
    lines = [
        "# Measured side by side",
        "",
        "Made by `make bench` from `benchmarks/records/`; nothing is written by hand. In a comparison the sides take",
        "turns in one run, on the same data and network, and are judged alike. Ratios are times faster than the",
        "fastest sound peer, or the one named. The machine is shared: trust ratios before times. What the recipes of",
        "published tables are, and what differs in them, is told in [docs/results.md](../docs/results.md).",
        "",
        f"Peers: {', '.join(peers())}.",
        "",
    ]  # fmt: skip
    for title, recipe in (
        ("Speed and quality beside peers", False),
        ("Published tables, quick recipes", True),
    ):
        rows = [
            (job, line) for job, record in kept if job.recipe is recipe for line in job.read(record["found"])
        ]
        lines += [
            f"## {title}",
            "",
            "| work | reference | psiphi | to reach | | record |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.work} | {row.reference} | {row.psiphi} | {row.asked} | {row.verdict} | {job.name} |"
            for job, row in rows
        ]
        lines += [""]
    lines += ["## Records", "", "| record | command | date | machine | threads | load before | minutes | torch |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {job.name} | `{r['command']}` | {r['date']} | {of['processor']}, {of['cores']} cores | {of['threads']} "
        f"| {r.get('load before', '—')} | {r['seconds'] / 60:.1f} | {r['versions']['torch']} |"
        for job, r in kept
        for of in [r["machine"]]
    ]
    lacking = [job.shown for job in JOBS if all(job is not each for each, _ in kept)]
    if lacking:
        lines += ["", "Not measured yet: " + ", ".join(f"`{each}`" for each in lacking) + "."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"some of {', '.join(job.name for job in JOBS)}")
    parser.add_argument("--missing", action="store_true", help="only what has no record")
    parser.add_argument("--write", action="store_true", help="write the page from the records, run nothing")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else [job.name for job in JOBS]
    if unknown := set(names) - {job.name for job in JOBS}:
        parser.error(
            f"nothing is called {', '.join(sorted(unknown))}; there are {', '.join(job.name for job in JOBS)}"
        )
    chosen = [] if given.write else [
        job for job in JOBS if job.name in names and not (given.missing and job.path.exists())
    ]  # fmt: skip
    kept = True
    for job in chosen:
        kept &= run(job)
        PAGE.write_text(page())
    PAGE.write_text(page())
    print(f"Written: {PAGE}")
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
