"""White-box attacks beside other libraries': same network, same images, same run, the sides in turns.

    python benchmarks/attacks.py [--rows pgd,apgd,cw,ddn,curve] [--repeats N] [--images N] [--json FILE]
    python benchmarks/attacks.py --rows l2        the mean distances on 1 000 images; takes hours

Data: MNIST from PSIPHI_DATA (a folder with mnist/, by default ../shared/data beside the repository), else
scikit-learn's digits, upscaled to 28 × 28. The peers run in an environment of their own: the interpreter in
PSIPHI_PEERS, else benchmarks/.env, made from requirements-peers.txt at the first run. The two networks (one trained
plainly, one adversarially with the engine) are cached in benchmarks/.env/networks.

The sides take turns, in the other order every second turn; a side's best time counts. CPU seconds, of all threads
together, say more where other work disturbs the machine (with OMP_NUM_THREADS=1). All are judged alike, from the
images they return: a success is a row whose argmax is not its label. Mean L2 is over the rows that are right before
the attack and broken by every sound side. "forward" and "backward" count the rows sent through the network and back.
Carlini-Wagner: 9 × 1000 steps, learning rate 0.01, first constant 1e-3, leaving early as each library does by default.
`--unsound` adds the two libraries whose Carlini-Wagner is known to be wrong, on 8 images.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _attack_peers import SIDES, Counted, warm_up
from _common import Peer, images, options, table, trained, written
from torch import Tensor, nn

import psiphi as pp

HERE = Path(__file__).resolve().parent
RADIUS = 0.3  # of adversarial training
UNSOUND = {("cw", "ART"), ("cw", "torchattacks")}
FEW = 8


@dataclass(frozen=True)
class Row:
    family: str
    network: str
    images: int
    repeats: int
    settings: dict[str, Any]
    batch: int = 1 << 20  # of the peers

    def __str__(self) -> str:
        said = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.family} ({said}), {self.network} network"


PLAIN, ROBUST, SMALL = "plain", "adversarially trained", "small"
CW = {"steps": 1000, "bisections": 9}
ROWS = {
    "pgd": Row("pgd", PLAIN, 256, 5, {"eps": 0.2, "step": 0.02, "steps": 40}),
    "pgd-robust": Row("pgd", ROBUST, 256, 3, {"eps": RADIUS, "step": 0.02, "steps": 40}),
    "apgd": Row("apgd", ROBUST, 256, 3, {"eps": RADIUS, "steps": 100}),
    "cw": Row("cw", PLAIN, 32, 1, CW),
    "ddn-100": Row("ddn", PLAIN, 256, 3, {"steps": 100}),
    "ddn-1000": Row("ddn", PLAIN, 256, 1, {"steps": 1000}),
    "l2-cw": Row("cw", SMALL, 1000, 1, CW, batch=250),
    "l2-ddn-100": Row("ddn", SMALL, 1000, 1, {"steps": 100}, batch=250),
    "l2-ddn-1000": Row("ddn", SMALL, 1000, 1, {"steps": 1000}, batch=250),
}
OURS: dict[str, Callable[..., Any]] = {
    "pgd": lambda eps, step, steps: pp.attacks.pgd(pp.attacks.Linf(eps), steps=steps, step=step),
    "apgd": lambda eps, steps: pp.attacks.apgd(pp.attacks.Linf(eps), steps=steps),
    "cw": lambda steps, bisections: pp.attacks.carlini_wagner(steps=steps, bisections=bisections),
    "ddn": lambda steps: pp.attacks.ddn(steps=steps),
}


def note(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------ one row
@dataclass(frozen=True)
class Task:
    """A row's network and images, ours to attack here and the peers' to attack over there."""

    row: Row
    net: nn.Sequential
    x: Tensor
    y: Tensor
    folder: Path
    peer: Any

    def write(self) -> None:
        weights = {f"net.{name}": value.numpy() for name, value in self.net.state_dict().items()}
        np.savez(self.folder / "task.npz", x=self.x.numpy(), y=self.y.numpy(), **weights)

    def ours(self, seed: int) -> dict[str, Any]:
        attack, net = OURS[self.row.family](**self.row.settings), Counted(self.net).eval()
        warm_up(net, self.x[:64])
        began, worked = time.perf_counter(), time.process_time()
        result = attack(net, self.x, self.y, seed=seed)
        run = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - worked}
        run["claimed"] = result.accuracy
        return run | {"forwards": net.forwards, "backwards": net.backwards, "images": result.x}

    def theirs(self, side: str, seed: int, rows: int) -> dict[str, Any]:
        answer = self.peer.ask(
            task="task", family=self.row.family, side=side, network=self.row.network, seed=seed, rows=rows,
            batch=self.row.batch, settings=self.row.settings, threads=torch.get_num_threads(), images="found.npy",
        )  # fmt: skip
        return answer | {"images": torch.from_numpy(np.load(self.folder / "found.npy", allow_pickle=False))}

    def judged(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run, with what its images show."""
        found = run["images"].float().nan_to_num(nan=-1.0)
        x, y = self.x[: len(found)], self.y[: len(found)]
        with torch.no_grad():
            broken = (self.net(found).argmax(1) != y) & run["images"].flatten(1).isfinite().all(1)
            right = self.net(x).argmax(1) == y
        moved = (found - x).flatten(1)
        return run | {
            "accuracy": (~broken).double().mean().item(), "success": broken[right].double().mean().item(),
            "broken": broken & right, "l2": moved.norm(dim=1), "linf": moved.abs().max().item(),
            "outside box": torch.maximum(-found, found - 1).max().clamp_min(0).abs().item(),
        }  # fmt: skip


def measure(task: Task, sides: list[str], repeats: int, quiet: bool) -> dict[str, Any]:
    row, runs = task.row, {side: [] for side in sides}
    for turn in range(repeats):
        for side in sides[:: (-1) ** turn]:
            unsound = (row.family, side) in UNSOUND
            rows = FEW if unsound else len(task.x)
            run = task.ours(turn) if side == "psiphi" else task.theirs(side, turn, rows)
            runs[side].append(task.judged(run))
            if abs(run.get("claimed", runs[side][-1]["accuracy"]) - runs[side][-1]["accuracy"]) > 1e-9:
                note(f"accuracy {run['claimed']:.4%} by its own count, by argmax otherwise", False)
            note(f"{row}, turn {turn + 1} of {repeats}: {side} {run['seconds']:.2f} s", quiet)
    sound = [side for side in sides if (row.family, side) not in UNSOUND]
    all_broken = [run["broken"] for side in sound for run in runs[side]]
    everyone = torch.stack([task.x.new_ones(len(task.x)).bool(), *all_broken]).all(0)
    found = {"row": str(row), "network": row.network, "images": len(task.x), "common": int(everyone.sum())}
    found["eps"] = row.settings.get("eps", 0)
    found["clean"] = (task.net(task.x).argmax(1) == task.y).double().mean().item()
    found["sides"] = {side: summary(of, everyone, side in sound) for side, of in runs.items()}
    peers = {side: found["sides"][side]["seconds"] for side in sound if side != "psiphi"}
    if peers and "psiphi" in sides:
        fastest, mine = min(peers, key=peers.__getitem__), found["sides"]["psiphi"]
        found["ratio"] = {"peer": fastest, "ratio": peers[fastest] / mine["seconds"]}
        found["ratio"]["of CPU time"] = min(found["sides"][side]["cpu"] for side in peers) / mine["cpu"]
    return found


def summary(runs: list[dict[str, Any]], everyone: Tensor, sound: bool) -> dict[str, Any]:
    """Of a side's runs: the best time, means of the rest, and each run's accuracy."""

    def mean(name: str) -> float:
        return statistics.mean(run[name] for run in runs)

    of = [run["l2"][everyone if sound else run["broken"]].double().mean().item() for run in runs]
    return {
        "seconds": min(run["seconds"] for run in runs), "cpu": min(run["cpu"] for run in runs),
        "accuracy": mean("accuracy"), "success": mean("success"), "mean L2": statistics.mean(of),
        "forward": mean("forwards"), "backward": mean("backwards"), "sound": sound,
        "rows": len(runs[0]["l2"]), "linf": max(run["linf"] for run in runs),
        "outside box": max(run["outside box"] for run in runs),
        "accuracies": [run["accuracy"] for run in runs], "times": [run["seconds"] for run in runs],
    }  # fmt: skip


def shown(found: dict[str, Any]) -> str:
    ours = found["sides"].get("psiphi", {}).get("seconds")
    lines = []
    for side, of in found["sides"].items():
        few = "" if of["sound"] else f" (unsound; {of['rows']} images)"
        beyond, l2 = max(of["linf"] - found["eps"], 0), of["mean L2"]
        change = {"beyond ε": f"{beyond:.1e}"} if found["eps"] else {"mean L2": f"{l2:.4f}"}
        lines.append({
            "side": side + few, "seconds": f"{of['seconds']:.3f}", "CPU": f"{of['cpu']:.3f}",
            "× psiphi": f"{of['seconds'] / ours:.2f}" if ours and of["sound"] else "",
            "accuracy": f"{of['accuracy']:.2%}", "success": f"{of['success']:.2%}", **change,
            "forward": f"{of['forward']:.0f}", "backward": f"{of['backward']:.0f}",
            "outside box": f"{of['outside box']:.1e}",
        })  # fmt: skip
    over = "" if found["eps"] else f"; mean L2 over {found['common']} of them"
    text = f"\n{found['row']}: {found['images']} images, clean accuracy {found['clean']:.2%}{over}\n{table(lines)}"
    if fastest := found.get("ratio"):
        text += f"\n{fastest['ratio']:.2f} × faster than {fastest['peer']}, the fastest sound peer"
        text += f" ({fastest['of CPU time']:.2f} × by CPU time)"
    return text


# ------------------------------------------------------------------------------------------------ the curve
def curve(net: nn.Sequential, kind: str, x: Tensor, y: Tensor) -> list[dict[str, Any]]:
    """Gradient evaluations of a sample over the attack's steps: accuracy against ε by bisection, and one by one."""
    steps, lines = 40, []
    attack = pp.attacks.pgd(pp.attacks.Linf(RADIUS), steps=steps)
    for values in (7, 15):
        eps = [0.4 * k / values for k in range(1, values + 1)]
        for way, independent in (("bisection", False), ("one by one", True)):
            began = time.perf_counter()
            found = attack.curve(net, x, y, eps=eps, independent=independent)
            spent = found.backwards[found.clean].double() / steps
            lines.append({
                "network": kind, "radii": str(values), "way": way, "seconds": time.perf_counter() - began,
                "mean gradients / steps": spent.mean().item(), "most": spent.max().item(),
                "accuracy": " ".join(f"{share:.1%}" for share in found.accuracy.tolist()),
            })  # fmt: skip
    return lines


def main() -> None:
    parser = options(__doc__, repeats=None)
    parser.add_argument(
        "--rows",
        default="pgd,apgd,cw,ddn,curve",
        help=f"some of {', '.join(ROWS)}, curve, or a first word",
    )
    parser.add_argument("--sides", help="some of psiphi and the peers' names; all by default")
    parser.add_argument("--images", type=int, help="instead of each row's own number")
    parser.add_argument("--unsound", action="store_true", help="the libraries known to be wrong too")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    given = parser.parse_args()
    parts = given.rows.split(",")
    named = {part: [row for name, row in ROWS.items() if f"{name}-".startswith(f"{part}-")] for part in parts}
    if unknown := [part for part, rows in named.items() if not rows and part != "curve"]:
        parser.error(f"no rows {', '.join(unknown)}; there are {', '.join(ROWS)}, curve")
    chosen = [row for rows in named.values() for row in rows]
    name, train, test = images()
    nets = {kind: trained(kind, name, train.x, train.y, RADIUS) for kind in (PLAIN, ROBUST, SMALL)}
    threads = torch.get_num_threads()
    record: dict[str, Any] = {"data": name, "torch": torch.__version__, "threads": threads, "rows": []}
    with torch.no_grad():
        record["clean"] = {
            kind: (net(test.x).argmax(1) == test.y).double().mean().item() for kind, net in nets.items()
        }
    said = ", ".join(f"{kind} {value:.2%}" for kind, value in record["clean"].items())
    print(f"{name}, {threads} threads, torch {torch.__version__}; test accuracy of the networks: {said}")
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        for row in chosen:
            row = replace(row, images=given.images or row.images, repeats=given.repeats or row.repeats)
            sides = [
                side
                for side in ("psiphi", *SIDES[row.family])
                if side in (given.sides or side).split(",")
                and (given.unsound or (row.family, side) not in UNSOUND)
            ]
            if sides != ["psiphi"]:
                peer = peer or Peer(HERE / "_attack_peers.py", Path(folder))
            task = Task(
                row, nets[row.network], test.x[: row.images], test.y[: row.images], Path(folder), peer
            )
            task.write()
            record["rows"].append(measure(task, sides, row.repeats, given.quiet))
            print(shown(record["rows"][-1]), flush=True)
            written(given.json, record)
        if peer:
            peer.close()
    if "curve" in parts:
        count = given.images or 256
        part = test.x[:count], test.y[:count]
        record["curve"] = [line for kind in (PLAIN, ROBUST) for line in curve(nets[kind], kind, *part)]
        print(f"\naccuracy against ε, PGD-40, {count} images\n{table(record['curve'])}")
        written(given.json, record)


if __name__ == "__main__":
    main()
