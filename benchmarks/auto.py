"""The standard battery beside other libraries': same network, same images, same run, the sides in turns.

    python benchmarks/auto.py [--rows plain,robust] [--sides psiphi,reference] [--repeats N] [--images N] [--json FILE]

Data, networks, turns and judgement are those of benchmarks/attacks.py. Reference: pyautoattack, the authors' code as a
package. All run the standard version, in its order: APGD on the cross-entropy, targeted APGD, targeted FAB, Square.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import attacks as bench
import torch
from _attack_peers import SIDES
from _common import Peer, images, options, trained, written

import psiphi as pp

ROWS = {
    "plain": bench.Row("auto", bench.PLAIN, 256, 1, {"eps": 0.2}),
    "robust": bench.Row("auto", bench.ROBUST, 256, 1, {"eps": bench.RADIUS}),
}
bench.OURS["auto"] = lambda eps: pp.attacks.auto(pp.attacks.Linf(eps))


def main() -> None:
    parser = options(__doc__, repeats=None)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--sides", help="some of psiphi and the peers' names; all by default")
    parser.add_argument("--images", type=int, help="instead of 256")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    given = parser.parse_args()
    if unknown := set(given.rows.split(",")) - set(ROWS):
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    name, train, test = images()
    record = {"data": name, "torch": torch.__version__, "threads": torch.get_num_threads(), "rows": []}
    print(f"{name}, {record['threads']} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        for row in (ROWS[part] for part in given.rows.split(",")):
            row = replace(row, images=given.images or row.images, repeats=given.repeats or row.repeats)
            net = trained(row.network, name, train.x, train.y, bench.RADIUS)
            sides = [side for side in ("psiphi", *SIDES["auto"]) if side in (given.sides or side).split(",")]
            if sides != ["psiphi"]:
                peer = peer or Peer(bench.HERE / "_attack_peers.py", Path(folder))
            x, y = test.x[: row.images], test.y[: row.images]
            task = bench.Task(row, net, x, y, Path(folder), peer)
            task.write()
            record["rows"].append(bench.measure(task, sides, row.repeats, given.quiet))
            print(bench.shown(record["rows"][-1]), flush=True)
            written(given.json, record)
        if peer:
            peer.close()


if __name__ == "__main__":
    main()
