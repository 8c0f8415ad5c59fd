"""Memory: data larger than what may be resident train with flat memory.

A sparse 4 GB float32 `.npy` (rows of 28x28) is read in random order and in one statistics pass, by streams
alone and by `psiphi.fit`; the growth of resident memory must stay below 1 GB.

    python benchmarks/memory.py [--gigabytes 4] [--steps 2000] [--streams-only] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

LIMIT = 1 << 30
WIDTH = 28 * 28
BATCH = 128


def resident() -> int:
    """Resident bytes of this process, pages of mapped files included (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_of(work: Callable[[], str]) -> dict[str, Any]:
    """Run it and print its peak growth of resident memory, and whether that is below the limit."""
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        what = work()
    finally:
        done.set()
        watcher.join()
    grown = max(peak, resident()) - before
    seconds, verdict = time.perf_counter() - start, "ok" if grown < LIMIT else "TOO MUCH"
    print(f"{what:<62} {seconds:6.1f} s   +{grown / 2**20:6.0f} MB   {verdict}", flush=True)
    return {"what": what, "seconds": seconds, "grown_bytes": grown, "ok": grown < LIMIT}


def sparse(path: Path, size: int) -> int:
    """A .npy of that many bytes of zeros, with some rows written, that takes no room on disk; its rows."""
    rows = size // (4 * WIDTH)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTH)}
        )
        file.truncate(file.tell() + rows * WIDTH * 4)
    array = np.load(path, mmap_mode="r+")
    array[:: max(1, rows // 1000)] = np.random.default_rng(0).random(WIDTH)
    array.flush()
    return rows


def passes(path: Path) -> str:
    from psiphi.data import as_source, measure

    found = measure(as_source(np.load(path, mmap_mode="r"), check=False))
    return f"statistics: one pass over {found.count} rows"


def checks(path: Path) -> str:
    from psiphi.data import as_source, fingerprint

    x = np.load(path, mmap_mode="r")
    return f"check of {len(as_source(x))} rows and fingerprint {fingerprint(x)[:8]}"  # type: ignore[arg-type]


def shuffled(path: Path) -> str:
    from psiphi.data import Indexed, as_source

    source = as_source(np.load(path, mmap_mode="r"), check=False)
    assert isinstance(source, Indexed)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    for rows in order.split(BATCH):
        source.gather(rows)
    return f"random order: {len(source)} rows in batches of {BATCH}"


def loaded(path: Path) -> str:
    from psiphi.data import load

    data = load(path)
    for rows in torch.arange(len(data.train)).split(BATCH)[:2000]:
        data.train.x[rows]  # type: ignore[index]
    return f"load(path): splits over {data.provenance.rows['train']} rows, 2000 batches of train"


def training(path: Path, steps: int) -> str:
    import psiphi as pp

    vae = pp.zoo.vae((WIDTH,), latent_dim=8, hidden=(64,), seed=0)
    pp.fit(vae, np.load(path, mmap_mode="r"), steps=steps, batch_size=BATCH, seed=0, lr=1e-4, quiet=True)
    return f"fit(vae): {steps} steps of {BATCH} rows"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--streams-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import psiphi as pp

    _ = (pp.data, pp.zoo, pp.fit)  # their import is not what is measured

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.npy"
        rows = sparse(path, int(options.gigabytes * 2**30))
        print(
            f"{options.gigabytes:g} GB of float32, {rows} rows of {WIDTH}; growth of resident memory, limit 1 GB"
        )
        found = [peak_of(lambda work=work: work(path)) for work in (passes, checks, shuffled, loaded)]
        if not options.streams_only:
            found.append(peak_of(lambda: training(path, options.steps)))
    if options.json:
        options.json.write_text(json.dumps({"limit_bytes": LIMIT, "rows": found}, indent=2) + "\n")
    return 0 if all(row["ok"] for row in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
