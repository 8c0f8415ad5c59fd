"""Square beside the reference code and torchattacks: success within equal queries, same network, same images.

    python benchmarks/square.py [--rows robust,plain] [--images N] [--queries N] [--repeats N] [--json FILE]

Data, networks and the peers' interpreter are those of attacks.py. Images are those that the network gets right. Queries
are the points of the search: the start is the first. The peers take one more than they are told, and are told one less.
Ours runs as a black box that shows scores, and again as a white box, which runs a convolutional network channels last
and looks twice at a success. All are judged alike, by the argmax of the images they return. `--rows` knows robust-l2,
robust-l1 and plain-l2 too; torchattacks has no L1.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _attack_peers import SIDES
from _common import Peer, images, options, table, trained, written
from torch import Tensor, nn

import psiphi as pp

HERE = Path(__file__).resolve().parent
PLAIN, ROBUST = "plain", "adversarially trained"
THREATS = {"Linf": pp.attacks.Linf, "L2": pp.attacks.L2, "L1": pp.attacks.L1}
SHARES = (0.1, 0.3, 1.0)  # of the queries, at which success is told


@dataclass(frozen=True)
class Row:
    network: str
    norm: str
    eps: float


ROWS = {
    "robust": Row(ROBUST, "Linf", 0.3),
    "plain": Row(PLAIN, "Linf", 0.2),
    "robust-l2": Row(ROBUST, "L2", 2.5),
    "plain-l2": Row(PLAIN, "L2", 1.5),
    "robust-l1": Row(ROBUST, "L1", 12.0),
}


def ours(
    row: Row, net: nn.Sequential, x: Tensor, y: Tensor, queries: int, seed: int, white: bool
) -> dict[str, Any]:
    attack = pp.attacks.square(THREATS[row.norm](row.eps), queries=queries)
    access = pp.access.white_box(net) if white else pp.access.black_box(net)
    net(x[:64])
    began, worked = time.perf_counter(), time.process_time()
    result = attack(access, x, y, seed=seed)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    spent = result.forwards - 1 - (result.success.long() if white else 0)  # the clean check, a second look
    return {"seconds": seconds, "cpu": cpu, "spent": spent.double(), "images": result.x}


def theirs(
    row: Row, peer: Peer, folder: Path, side: str, x: Tensor, queries: int, seed: int
) -> dict[str, Any]:
    settings = {"norm": row.norm, "eps": row.eps, "queries": queries}
    answer = peer.ask(
        task="task", family="square", side=side, network=row.network, seed=seed, rows=len(x), batch=1 << 20,
        settings=settings, threads=torch.get_num_threads(), images="found.npy",
    )  # fmt: skip
    found = torch.from_numpy(np.load(folder / "found.npy", allow_pickle=False))
    return answer | {"spent": found[:, 0].double(), "images": found[:, 1:].view_as(x)}


def judged(run: dict[str, Any], row: Row, net: nn.Sequential, x: Tensor, y: Tensor) -> dict[str, Any]:
    """The run, with the queries of each image, infinite where it was not broken."""
    with torch.no_grad():
        broken = net(run["images"]).argmax(1) != y
    far = (run["images"] - x).flatten(1).norm({"Linf": torch.inf, "L2": 2.0, "L1": 1.0}[row.norm], dim=1)
    beyond = (far.max() / row.eps - 1).item()
    return run | {"needed": torch.where(broken, run["spent"], torch.inf), "beyond": beyond}


def shown(side: str, runs: list[dict[str, Any]], queries: int) -> dict[str, Any]:
    needed = torch.cat([run["needed"] for run in runs])
    within = {f"≤ {int(queries * s)}": f"{(needed <= queries * s).double().mean():.2%}" for s in SHARES}
    sent = sum(run["spent"].sum().item() for run in runs)
    return {
        "side": side, **within, "median queries": f"{needed.median().item():.0f}",
        "of the broken": f"{needed[needed.isfinite()].median().item():.0f}",
        "seconds": f"{min(run['seconds'] for run in runs):.2f}",
        "CPU": f"{min(run['cpu'] for run in runs):.2f}",
        "CPU µs a query": f"{1e6 * sum(run['cpu'] for run in runs) / sent:.0f}",
        "beyond ε": f"{max(run['beyond'] for run in runs):.0e}",
    }  # fmt: skip


def compared(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Success less the reference's, with the standard error of the paired difference over images and seeds."""
    mine, other = (
        torch.cat([run["needed"].isfinite() for run in runs[side]]).double()
        for side in ("psiphi", "reference")
    )
    difference = mine - other
    error = difference.std() / len(difference) ** 0.5
    return f"success less the reference's: {difference.mean():+.2%} ± {error:.2%}"


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--rows", default="robust,plain", help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    if unknown := [part for part in given.rows.split(",") if part not in ROWS]:
        parser.error(f"no rows {', '.join(unknown)}; there are {', '.join(ROWS)}")
    name, train, test = images()
    record: dict[str, Any] = {"data": name, "images": given.images, "queries": given.queries, "rows": []}
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        peer = Peer(HERE / "_attack_peers.py", folder)
        for part in given.rows.split(","):
            row = ROWS[part]
            net = trained(row.network, name, train.x, train.y, 0.3).requires_grad_(False)
            right = (
                (net(test.x[: 2 * given.images]).argmax(1) == test.y[: 2 * given.images]).nonzero().squeeze(1)
            )
            x, y = (each[right[: given.images]] for each in (test.x, test.y))
            weights = {f"net.{key}": value.numpy() for key, value in net.state_dict().items()}
            np.savez(folder / "task.npz", x=x.numpy(), y=y.numpy(), **weights)
            peers = [side for side in SIDES["square"] if row.norm != "L1" or side == "reference"]
            sides = ["psiphi", "psiphi, white box", *peers]
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
            for seed in range(given.repeats):
                for side in sides[:: (-1) ** seed]:
                    run = (
                        theirs(row, peer, folder, side, x, given.queries, seed)
                        if side in peers
                        else ours(row, net, x, y, given.queries, seed, "white" in side)
                    )
                    runs[side].append(judged(run, row, net, x, y))
                    print(f"{part}, seed {seed}: {side} {run['seconds']:.1f} s", file=sys.stderr, flush=True)
            lines = [shown(side, of, given.queries) for side, of in runs.items()]
            told = compared(runs)
            record["rows"].append({"row": part, "eps": row.eps, "sides": lines, "compared": told})
            print(
                f"\n{row.norm} {row.eps:g}, {row.network} network, {name}, {len(x)} images × {given.repeats} seeds"
            )
            print(f"{table(lines)}\n{told}", flush=True)
            written(given.json, record)
        peer.close()


if __name__ == "__main__":
    main()
