"""Two processes: equal parameters and buffers on both, of one player and of two; the loss of twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = str(Path(__file__).resolve().parents[1] / "scripts" / "two.py")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", SCRIPT]


def run(command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("launcher", ["torchrun", "script"])
def test_two_processes_are_one_with_twice_the_batch(tmp_path, launcher):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run([sys.executable, SCRIPT, str(tmp_path / "one"), "32"])
    if launcher == "torchrun":
        run([*LAUNCH, str(tmp_path / "two"), "16"])
    else:
        run([sys.executable, SCRIPT, str(tmp_path / "two"), "16", "2"])
    one = load_file(tmp_path / "one" / "rank0.safetensors")
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1))
    for name in one:
        assert torch.equal(first[name], second[name]), name
        if not name.startswith("normed."):  # a batch norm sees the rows of its own process
            torch.testing.assert_close(first[name], one[name], rtol=1e-4, atol=1e-6, msg=name)
    assert (tmp_path / "two" / "run" / "model.safetensors").exists()
