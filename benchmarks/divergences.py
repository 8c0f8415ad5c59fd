"""Divergences of large samples: time and the growth of resident memory, beside POT and a kernel matrix held whole.

20 000 rows of 64 numbers, float32: sliced transport of order 1 along as many directions as POT's, the unbiased MMD²
and the energy distance. The naive MMD holds its matrices, so it is measured on fewer rows unless told. An N x N x D
tensor of these rows would take 102 GB.

    python benchmarks/divergences.py [--rows 20000] [--directions 256] [--repeats 3] [--whole] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _common import table
from torch import Tensor

import psiphi as pp

WIDTH = 64
NAIVE_ROWS = 5000


def resident() -> int:
    """Resident bytes of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(what: str, rows: int, work: Callable[[], float], repeats: int) -> dict[str, Any]:
    """The least time of `repeats` runs and the greatest growth of resident memory, in a process of their own."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_measure, args=(work, repeats, there))
    child.start()
    value, seconds, grown = here.recv()
    child.join()
    return {"what": what, "rows": str(rows), "seconds": seconds, "grown MB": grown / 2**20, "value": value}


def _measure(work: Callable[[], float], repeats: int, answer: Any) -> None:
    torch.set_num_threads(1)  # a forked process may not use its parent's threads
    value, seconds = 0.0, float("inf")
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(repeats):
        start = time.perf_counter()
        value = work()
        seconds = min(seconds, time.perf_counter() - start)
    done.set()
    watcher.join()
    answer.send((value, seconds, max(peak, resident()) - before))


def naive_mmd(x: Tensor, y: Tensor, scale: float) -> float:
    """Unbiased MMD² of the same kernel from three matrices held whole."""
    n = len(x)

    def gram(a: Tensor, b: Tensor) -> Tensor:
        return scale**2 / (scale**2 + torch.cdist(a, b) ** 2)

    xx, yy, xy = gram(x, x), gram(y, y), gram(x, y)
    within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return float(within - 2 * xy.mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--directions", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="the naive MMD on all rows too: 8 GB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import ot

    n, directions = options.rows, options.directions
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, WIDTH, generator=draw)
    y = torch.randn(n, WIDTH, generator=draw) + 0.1
    few, others = x[:NAIVE_ROWS].clone(), y[:NAIVE_ROWS].clone()
    scale = WIDTH**0.5
    sliced, mmd, energy = pp.divergences.sliced_wasserstein, pp.divergences.mmd, pp.divergences.energy

    def pot() -> float:
        return float(ot.sliced.sliced_wasserstein_distance(x, y, n_projections=directions, p=1, seed=0))

    work: list[tuple[str, int, Callable[[], float]]] = [
        ("psiphi sliced_wasserstein", n, lambda: float(sliced(x, y, directions=directions))),
        ("POT sliced, torch", n, pot),
        ("psiphi mmd", n, lambda: float(mmd(x, y, scales=(scale,)))),
        ("psiphi energy", n, lambda: float(energy(x, y))),
        ("psiphi mmd", len(few), lambda: float(mmd(few, others, scales=(scale,)))),
        ("naive N x N mmd", len(few), lambda: naive_mmd(few, others, scale)),
    ]
    if options.whole:
        work.append(("naive N x N mmd", n, lambda: naive_mmd(x, y, scale)))
    print(f"{n} x {WIDTH} float32, one thread, {directions} directions")
    sliced(few, others)  # start-up is not what is measured
    rows = [measured(*each, options.repeats) for each in work]
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
