"""What the benchmarks share: data, the peers' interpreter, and a peer that answers line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import torch
from torch import nn

import psiphi as pp

HERE = Path(__file__).resolve().parent


def images() -> tuple[str, pp.data.Split, pp.data.Split]:
    """MNIST from PSIPHI_DATA (a folder with mnist/), else scikit-learn's digits upscaled: float (n, 1, 28, 28)."""
    folder = Path(os.environ.get("PSIPHI_DATA", HERE.parent.parent / "shared" / "data")) / "mnist"
    if folder.is_dir():
        data = pp.data.load(folder)
        x, y = (torch.cat([getattr(split, k) for split in (data.train, data.validation)]) for k in ("x", "y"))
        return (
            "MNIST",
            pp.data.Split(x.float() / 255, y),
            pp.data.Split(data.test.x.float() / 255, data.test.y),
        )
    data = pp.data.load("digits")
    larger = [
        pp.data.Split(nn.functional.interpolate(s.x, size=(28, 28), mode="bilinear").clamp(0, 1), s.y)
        for s in (data.train, data.test)
    ]
    return "digits, upscaled", larger[0], larger[1]


def interpreter(*modules: str) -> str:
    """The peers' Python: PSIPHI_PEERS, else benchmarks/.env, made from requirements-peers.txt when first needed."""
    if given := os.environ.get("PSIPHI_PEERS"):
        return given
    python = HERE / ".env" / "bin" / "python"
    if not python.exists():
        print("making benchmarks/.env …", file=sys.stderr)
        venv.create(HERE / ".env", with_pip=True)
    if subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True).returncode:
        lines = (HERE / "requirements-peers.txt").read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        alone = [line for line in wanted if line.startswith("torchattacks")]
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, *(line for line in wanted if line not in alone)], check=True)
        subprocess.run([*install, "--no-deps", *alone], check=True)
    return str(python)


class Peer:
    """A script running in the peers' interpreter: one line of JSON in, one line of JSON out."""

    def __init__(self, script: str, folder: Path, *modules: str):
        command = [interpreter(*modules), script, "--peer", str(folder)]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peer stopped; its message is above.")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as aligned text."""
    cells = [list(rows[0])] + [
        [v if isinstance(v, str) else f"{v:.4g}" for v in row.values()] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )
