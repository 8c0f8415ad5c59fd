"""HopSkipJump beside other libraries': the nearest point within equal queries, same network, same images.

    python benchmarks/decisions.py [--images N] [--queries 1000,5000,10000] [--norms L2,Linf] [--repeats N]

Data, network and the peers' interpreter are those of attacks.py. Images are those that the network gets right. Every
row sent counts, and each image by itself: the peers attack one image at a time behind a network that counts, remembers
the nearest misclassified point in the box that was sent within each number of queries, whether the library returned it
or not, and stops at the last. Ours runs as a black box that shows labels, with the last number as its budget, and tells
the rest from its trace. A side that finds no start for an image has an infinite distance there. foolbox raises where
1 000 random images are of the right class, and then counts as without a start.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _attack_peers import SIDES
from _common import Peer, images, options, table, trained, written
from torch import Tensor, nn

import psiphi as pp

HERE = Path(__file__).resolve().parent
THREATS = {"L2": pp.attacks.L2, "Linf": pp.attacks.Linf}


def ours(net: nn.Module, x: Tensor, y: Tensor, norm: str, queries: list[int], seed: int) -> dict[str, Any]:
    began = time.perf_counter()
    attack = pp.attacks.hop_skip_jump(THREATS[norm](), steps=10_000)
    result = attack(pp.access.black_box(net, "labels", budget=queries[-1]), x, y, seed=seed)
    seconds = time.perf_counter() - began
    assert result.forwards.max() <= queries[-1]
    assert torch.equal(net(result.x).argmax(1) != y, result.success)
    return {"seconds": seconds, "distances": result.distance_at(queries)}


def theirs(
    peer: Any, side: str, folder: Path, x: Tensor, norm: str, queries: list[int], seed: int
) -> dict[str, Any]:
    answer = peer.ask(
        task="task", family="hop", side=side, network="plain", seed=seed, rows=len(x), batch=1 << 20,
        settings={"norm": norm, "budgets": queries}, threads=torch.get_num_threads(), images="found.npy",
    )  # fmt: skip
    found = torch.from_numpy(np.load(folder / "found.npy", allow_pickle=False))
    order = 2.0 if norm == "L2" else torch.inf
    distances = (found - x[:, None]).flatten(2).norm(order, dim=2).nan_to_num(nan=torch.inf)
    return {"seconds": answer["seconds"], "distances": distances.double()}


def main() -> None:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--queries", default="1000,5000,10000")
    parser.add_argument("--norms", default="L2")
    parser.add_argument("--sides", default=f"psiphi,{','.join(SIDES['hop'])}")
    given = parser.parse_args()
    queries = sorted(int(q) for q in given.queries.split(","))
    name, train, test = images()
    net = trained("plain", name, train.x, train.y, 0.3).requires_grad_(False)
    right = (net(test.x[: 2 * given.images]).argmax(1) == test.y[: 2 * given.images]).nonzero().squeeze(1)
    x, y = (part[right[: given.images]] for part in (test.x, test.y))
    record: dict[str, Any] = {"data": name, "images": len(x), "queries": queries, "rows": []}
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        weights = {f"net.{name}": value.numpy() for name, value in net.state_dict().items()}
        np.savez(folder / "task.npz", x=x.numpy(), y=y.numpy(), **weights)
        sides = given.sides.split(",")
        peer = Peer(HERE / "_attack_peers.py", folder) if sides != ["psiphi"] else None
        for norm in given.norms.split(","):
            lines = []
            for side in sides:
                runs = [
                    ours(net, x, y, norm, queries, seed) if side == "psiphi"
                    else theirs(peer, side, folder, x, norm, queries, seed)
                    for seed in range(given.repeats)
                ]  # fmt: skip
                far = torch.cat([run["distances"] for run in runs])
                shown = {
                    f"{q} queries": f"{median:.4f}"
                    for q, median in zip(queries, far.median(0).values.tolist(), strict=True)
                }
                lines.append({
                    "side": side, **shown, "without a start": str(int(far[:, -1].isinf().sum())),
                    "seconds": f"{sum(run['seconds'] for run in runs):.1f}",
                })  # fmt: skip
                record["rows"].append({"norm": norm, **lines[-1], "distances": far.tolist()})
                print(f"{norm}: {side} done", file=sys.stderr, flush=True)
            print(
                f"\nmedian {norm} distance, {name}, {len(x)} images × {given.repeats} seeds\n{table(lines)}"
            )
            written(given.json, record)
        if peer:
            peer.close()


if __name__ == "__main__":
    main()
