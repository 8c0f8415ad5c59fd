"""PGD beside torchattacks: same network, same 256 images, same run.

    python benchmarks/attacks.py [--json FILE] [--repeats 3]

Data: MNIST from PSIPHI_DATA (a folder with mnist/, by default ../shared/data beside the repository), else
scikit-learn's digits, upscaled to 28 × 28. The peer runs in an environment of its own: the interpreter in
PSIPHI_PEERS, else benchmarks/.env, which is made from requirements-peers.txt at the first run. The two
networks (one trained plainly, one adversarially with the engine) are cached in benchmarks/.env/networks.
Each side is timed `--repeats` times in turn, and its best time counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
IMAGES = 256
ROWS = {"plain": 0.2, "adversarially trained": 0.3}
STEPS, STEP = 40, 0.02


def network() -> nn.Sequential:
    """Two convolutions, two linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


# ------------------------------------------------------------------------------------------- the peer's side
def peer(folder: Path) -> None:
    """Runs in the peers' interpreter: reads what `exchange` wrote, answers each line with a time."""
    import torchattacks

    data = np.load(folder / "task.npz", allow_pickle=False)
    x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    torch.set_num_threads(int(data["threads"]))
    net = network()
    net.load_state_dict({name: torch.from_numpy(data[f"net.{name}"]) for name in net.state_dict()})
    net.eval()
    for line in sys.stdin:
        torch.manual_seed(json.loads(line)["seed"])
        attack = torchattacks.PGD(net, eps=float(data["eps"]), alpha=STEP, steps=STEPS, random_start=True)
        began = time.perf_counter()
        adversarial = attack(x, y)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "accuracy": accuracy(net, adversarial, y)}), flush=True)


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (net(x).argmax(1) == y).double().mean().item()


# -------------------------------------------------------------------------------------------------- our side
def trained(kind: str, name: str, x: Tensor, y: Tensor, eps: float) -> nn.Sequential:
    from safetensors.torch import load_file, save_file

    cache = HERE / ".env" / "networks" / f"{name.split(',')[0]}-{kind.replace(' ', '-')}.safetensors"
    torch.manual_seed(0)
    net = network()
    if cache.exists():
        net.load_state_dict(load_file(cache))
        return net.eval()
    print(f"training the {kind} network …", file=sys.stderr)
    from psiphi.attacks import Linf, pgd

    robust = kind != "plain"
    samples, epochs = (20_000, 3) if robust else (24_000, 3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    rounds, turn = epochs * (min(samples, len(x)) // 128), 0
    while turn < rounds:
        for batch in torch.randperm(min(samples, len(x))).split(128)[: rounds - turn]:
            turn += 1
            inputs = x[batch]
            if robust:
                radius = eps * min(1.0, 1.5 * turn / rounds)
                attack = pgd(Linf(radius), steps=5, step=radius / 2)
                inputs = attack(net, inputs, y[batch], seed=turn, stop_early=False).x
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), y[batch]).backward()
            optimizer.step()
    cache.parent.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), cache)
    return net.eval()


def measure(kind: str, net: nn.Sequential, x: Tensor, y: Tensor, eps: float, repeats: int) -> dict:
    from _common import Peer

    from psiphi.attacks import Linf, pgd

    attack = pgd(Linf(eps), steps=STEPS, step=STEP)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        weights = {f"net.{name}": value.numpy() for name, value in net.state_dict().items()}
        task = {"x": x.numpy(), "y": y.numpy(), "eps": eps, "threads": torch.get_num_threads()}
        np.savez(Path(folder) / "task.npz", **task, **weights)
        other = Peer(__file__, Path(folder), "torchattacks")
        for seed in range(repeats):
            theirs.append(other.ask(seed=seed))
            began = time.perf_counter()
            result = attack(net, x, y, seed=seed)
            seconds = time.perf_counter() - began
            ours.append({"seconds": seconds, "accuracy": accuracy(net, result.x, y)})
            if abs(ours[-1]["accuracy"] - result.accuracy) > 1e-9:
                print(f"note: {result!r}, but argmax says {ours[-1]['accuracy']:.4f}", file=sys.stderr)
        other.close()
    row = {"network": kind, "attack": repr(attack), "clean": accuracy(net, x, y)}
    for name, runs in (("psiphi", ours), ("torchattacks", theirs)):
        row[f"{name}_seconds"] = min(run["seconds"] for run in runs)
        row[f"{name}_accuracy"] = [run["accuracy"] for run in runs]
    return row | {"ratio": row["torchattacks_seconds"] / row["psiphi_seconds"]}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the measurements there")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer)
        return
    from _common import images

    name, train, test = images()
    x, y = test.x[:IMAGES].clone(), test.y[:IMAGES]
    rows = []
    for kind, eps in ROWS.items():
        net = trained(kind, name, train.x, train.y, eps)
        rows.append(measure(kind, net, x, y, eps, args.repeats))
    threads = torch.get_num_threads()
    print(f"PGD-{STEPS}, {len(x)} images of {name}, {threads} threads, best of {args.repeats}")
    print(
        f"{'network':24}{'eps':>5}{'clean':>8}{'':4}{'psiphi':>9}{'torchattacks':>15}{'ratio':>8}"
        "   robust accuracy"
    )
    for row, eps in zip(rows, ROWS.values()):
        accuracies = (
            "/".join(f"{value:.2%}" for value in row[f"{who}_accuracy"]) for who in ("psiphi", "torchattacks")
        )
        print(
            f"{row['network']:24}{eps:5.2f}{row['clean']:8.2%}{'':4}{row['psiphi_seconds']:7.3f} s"
            f"{row['torchattacks_seconds']:13.3f} s{row['ratio']:7.2f}×   {'  vs  '.join(accuracies)}"
        )
    if args.json:
        record = {"data": name, "torch": torch.__version__, "threads": threads, "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
