"""What the benchmarks share: data, the peers' interpreter, and a peer that answers line by line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def trained(kind: str, name: str, x: Tensor, y: Tensor, radius: float) -> nn.Sequential:
    """The network under attack, kept in benchmarks/.env/networks; the kind 'adversarially trained' under PGD."""
    from _attack_peers import network
    from safetensors.torch import load_file, save_file

    cache = HERE / ".env" / "networks" / f"{name.split(',')[0]}-{kind.replace(' ', '-')}.safetensors"
    torch.manual_seed(0)
    net = network(kind)
    if cache.exists():
        net.load_state_dict(load_file(cache))
        return net.eval()
    print(f"training the {kind} network …", file=sys.stderr)
    robust = kind == "adversarially trained"
    samples, epochs = (20_000 if robust else 24_000), 3
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    rounds, turn = epochs * (min(samples, len(x)) // 128), 0
    while turn < rounds:
        for batch in torch.randperm(min(samples, len(x))).split(128)[: rounds - turn]:
            turn += 1
            inputs = x[batch]
            if robust:
                eps = radius * min(1.0, 1.5 * turn / rounds)
                attack = pp.attacks.pgd(pp.attacks.Linf(eps), steps=5, step=eps / 2)
                inputs = attack(net, inputs, y[batch], seed=turn, stop_early=False).x
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), y[batch]).backward()
            optimizer.step()
    cache.parent.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), cache)
    return net.eval()


def interpreter() -> str:
    """The peers' Python: PSIPHI_PEERS, else benchmarks/.env, filled anew when requirements-peers.txt changes."""
    if given := os.environ.get("PSIPHI_PEERS"):
        return given
    folder = HERE / ".env"
    python, done = folder / "bin" / "python", folder / "installed.txt"
    wanted = (HERE / "requirements-peers.txt").read_text()
    if not python.exists() or not done.exists() or done.read_text() != wanted:
        print("filling benchmarks/.env with the peers, which takes minutes …", file=sys.stderr)
        venv.create(folder, with_pip=True)
        whole, _, bare = wanted.partition("# --no-deps\n")
        for text, flags in ((whole, []), (bare, ["--no-deps"])):
            lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
            subprocess.run([python, "-m", "pip", "install", "-q", *flags, *lines], check=True, env=_outside())
        done.write_text(wanted)
    return str(python)


def _outside() -> dict[str, str]:
    """The environment of another interpreter: without what ties this one, and pip, to the project's versions."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PIP_CONSTRAINT")}


class Peer:
    """A script running in the peers' interpreter: one line of JSON in, one line of JSON out."""

    def __init__(self, script: str | Path, folder: Path):
        command = [interpreter(), str(script), "--peer", str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_outside()
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


def options(description: str | None, repeats: int | None) -> argparse.ArgumentParser:
    """The parser that a benchmark starts from: --repeats and --json."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"turns, {repeats or 'each row its own'} by default"
    )
    parser.add_argument("--json", type=Path, help="write the measurements there")
    return parser


def written(path: Path | None, record: Any) -> None:
    """Write the record, if a path was given."""
    if path:
        path.write_text(json.dumps(record, indent=2) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as aligned text."""
    cells = [list(rows[0])] + [
        [v if isinstance(v, str) else f"{v:.4g}" for v in row.values()] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )
