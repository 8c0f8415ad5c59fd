"""Several processes from one command line: the command starts itself again under torch's launcher."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

argv: list[str] | None = None  # what `psiphi` was called with; None where it was not called from a shell


def is_first() -> bool:
    """Whether this is the process that speaks, of one or several."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def again(processes: int) -> NoReturn:
    """Replace this process by so many that run the same command."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    os.execv(sys.executable, [*launcher, "-m", "psiphi.app.cli", *(argv or [])])
