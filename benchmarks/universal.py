"""One perturbation for all images, beside ART's: same network, same images to learn from, the same unseen ones.

    python benchmarks/universal.py [--images 64] [--unseen 1000] [--repeats N] [--sides psiphi,ART] [--json FILE]

Data, networks and the peers' environment as in attacks.py. Every side learns δ, ‖δ‖_∞ ≤ 0.3, from the first images of
the test split; "psiphi, 1000" has more of them. All are judged alike, from the δ that they
return: fooled is a row of the second thousand with f(clip(x + δ)) ≠ f(x), on the network attacked and, as transfer, on
the small one. ART's runs until it fools the share 0.8 of its own images, at most 20 times over them, as it does by
default; its targeted one likewise.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _attack_peers import SIDES, Counted, warm_up
from _common import Peer, images, options, table, trained, written
from torch import Tensor, nn

import psiphi as pp
from psiphi.formulas.intervals import Share

HERE = Path(__file__).resolve().parent
EPS, TARGET, PLAIN, SMALL, MANY = 0.3, 3, "plain", "small", 1000
OURS: dict[str, dict[str, Any]] = {
    "psiphi": {}, f"psiphi, {MANY}": {}, "psiphi, targeted": {"target": TARGET},
    f"psiphi, targeted, {MANY}": {"target": TARGET},
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Who is attacked, what δ is learnt from, what it is judged on, and the peer, if any."""

    net: nn.Sequential
    other: nn.Sequential
    x: Tensor
    y: Tensor
    unseen: Tensor
    few: int
    folder: Path
    peer: Any

    def write(self) -> None:
        weights = {f"net.{name}": value.numpy() for name, value in self.net.state_dict().items()}
        np.savez(
            self.folder / "task.npz", x=self.x[: self.few].numpy(), y=self.y[: self.few].numpy(), **weights
        )

    def ours(self, side: str, seed: int) -> dict[str, Any]:
        net = Counted(self.net).eval()
        warm_up(net, self.x[:64])
        plan = pp.attacks.universal(pp.attacks.Linf(EPS), **OURS[side])
        rows = len(self.x) if side.endswith(str(MANY)) else self.few
        began, worked = time.perf_counter(), time.process_time()
        u = plan.fit(net, self.x[:rows], self.y[:rows], seed=seed)
        run = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - worked, "rows": rows}
        return run | {"forwards": net.forwards, "backwards": net.backwards, "delta": u.delta}

    def theirs(self, side: str, seed: int) -> dict[str, Any]:
        settings: dict[str, Any] = {"eps": EPS} | ({"target": TARGET} if "targeted" in side else {})
        answer = self.peer.ask(
            task="task", family="universal", side=side, network=PLAIN, seed=seed, rows=self.few, batch=1 << 20,
            settings=settings, threads=torch.get_num_threads(), images="found.npy",
        )  # fmt: skip
        delta = torch.from_numpy(np.load(self.folder / "found.npy", allow_pickle=False))[0]
        return answer | {"delta": delta, "rows": self.few}

    def judged(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run, with what its δ does to unseen rows."""
        delta = run.pop("delta").float()
        with torch.no_grad():
            for name, net in (("fooled", self.net), ("transfer", self.other)):
                moved = net((self.unseen + delta).clamp(0, 1)).argmax(1) != net(self.unseen).argmax(1)
                run[name] = int(moved.sum())
        return run | {"linf": float(delta.abs().max())}


def summary(runs: list[dict[str, Any]], unseen: int) -> dict[str, Any]:
    """Of a side's runs: the best time, and means of the rest."""
    kept = {name: min(run[name] for run in runs) for name in ("seconds", "cpu")}
    kept |= {name: statistics.mean(run[name] for run in runs) for name in ("forwards", "backwards")}
    shares = {
        name: Share(sum(run[name] for run in runs), unseen * len(runs)) for name in ("fooled", "transfer")
    }
    return kept | {name: str(share) for name, share in shares.items()} | {
        "rates": [run["fooled"] / unseen for run in runs], "rows": runs[0]["rows"],
        "beyond ε": max(run["linf"] - EPS for run in runs),
    }  # fmt: skip


def shown(found: dict[str, dict[str, Any]]) -> str:
    ours = found.get("psiphi", {}).get("seconds")
    return table([
        {
            "side": side, "images": str(of["rows"]), "seconds": f"{of['seconds']:.2f}", "CPU": f"{of['cpu']:.2f}",
            "× psiphi": f"{of['seconds'] / ours:.1f}" if ours else "", "fooled": of["fooled"],
            "transfer": of["transfer"], "forward": f"{of['forwards']:.0f}", "backward": f"{of['backwards']:.0f}",
            "beyond ε": f"{max(of['beyond ε'], 0):.0e}",
        }
        for side, of in found.items()
    ])  # fmt: skip


def main() -> None:
    every = [*OURS, *SIDES["universal"]]
    parser = options(__doc__, repeats=1)
    parser.add_argument(
        "--sides", default=";".join(every), help=f"some of {'; '.join(every)}, parted by semicolons"
    )
    parser.add_argument("--images", type=int, default=64, help="that every side learns from")
    parser.add_argument("--unseen", type=int, default=1000, help="that all are judged on")
    given = parser.parse_args()
    sides = given.sides.split(";")
    if unknown := [side for side in sides if side not in every]:
        parser.error(f"no sides {', '.join(unknown)}; there are {'; '.join(every)}")
    name, train, test = images()
    plain, small = (trained(kind, name, train.x, train.y, EPS) for kind in (PLAIN, SMALL))
    many = min(MANY, len(test.x) // 2)
    unseen = test.x[many : many + given.unseen]
    threads = torch.get_num_threads()
    print(f"{name}, {threads} threads, torch {torch.__version__}; {len(unseen)} unseen images, L∞ {EPS}")
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(HERE / "_attack_peers.py", Path(folder)) if set(sides) - set(OURS) else None
        setting = Setting(
            plain, small, test.x[:many], test.y[:many], unseen, min(given.images, many), Path(folder), peer
        )
        setting.write()
        for turn in range(given.repeats):
            for side in sides[:: (-1) ** turn]:
                run = setting.ours(side, turn) if side in OURS else setting.theirs(side, turn)
                runs[side].append(setting.judged(run))
                said = f"{side}, turn {turn + 1} of {given.repeats}: {run['seconds']:.2f} s"
                print(said, file=sys.stderr, flush=True)
        if peer:
            peer.close()
    found = {side: summary(of, len(unseen)) for side, of in runs.items()}
    print(shown(found))
    written(given.json, {"data": name, "torch": torch.__version__, "threads": threads, "sides": found})


if __name__ == "__main__":
    main()
