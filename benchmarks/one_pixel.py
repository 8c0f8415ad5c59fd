"""One-pixel attacks beside other libraries': same network, same images, same run, the sides in turns.

    python benchmarks/one_pixel.py [--parts mnist,digits] [--sides psiphi,ART] [--images N] [--repeats N] [--json FILE]
    python benchmarks/one_pixel.py --parts digits --batch-size 1024     evolution over the digits' whole test split

mnist: data, networks, turns and judgement are those of benchmarks/attacks.py. Ours is exhaustive over black and white.
Beside it the bare network answers the same points, made before the clock starts, each once, in batches of 96: every
flip there is, and the least time for it. ART: differential evolution, 399 members and 100 generations; torchattacks as
it comes.

digits: `zoo.classifier(net="conv")` on 8 × 8 images, differential evolution with the published budget, a population of
400 and 100 generations, any grey; beside it the exhaustive search over black and white.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import attacks as bench
import torch
from _attack_peers import SIDES
from _common import Peer, images, options, table, trained, written
from torch import Tensor, nn

import psiphi as pp

ROW = bench.Row("one_pixel", bench.PLAIN, 64, 1, {})
BATCH = 96
bench.OURS["one_pixel"] = pp.attacks.one_pixel


def neighbours(image: Tensor) -> Tensor:
    """All points that differ from a grey image (1, H, W) in one pixel, which is black or white there, (n, 1, H, W)."""
    points = image.flatten().repeat(2, image.numel(), 1)
    every = torch.arange(image.numel())
    for colour in (0, 1):
        points[colour, every, every] = float(colour)
    points = points.flatten(0, 1)
    return points[(points != image.flatten()).any(1)].view(-1, *image.shape)


def bare(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Each distinct point once through the network: time, how many, and which rows have a flip."""
    found = {"seconds": 0.0, "cpu": 0.0, "forwards": 0}
    flips = []
    for image, label in zip(x, y, strict=True):
        batches = neighbours(image).split(BATCH)
        began, worked = time.perf_counter(), time.process_time()
        with torch.no_grad():
            labels = torch.cat([net(some).argmax(1) for some in batches])
        found["seconds"] += time.perf_counter() - began
        found["cpu"] += time.process_time() - worked
        found["forwards"] += len(labels)
        flips.append(bool((labels != label).any()))
    return found | {"flips": torch.tensor(flips)}


def mnist(given: Any, record: dict[str, Any]) -> None:
    name, train, test = images()
    row = replace(ROW, images=given.images or ROW.images, repeats=given.repeats or ROW.repeats)
    net = trained(row.network, name, train.x, train.y, bench.RADIUS)
    x, y = test.x[: row.images], test.y[: row.images]
    sides = [side for side in ("psiphi", *SIDES["one_pixel"]) if side in (given.sides or side).split(",")]
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(bench.HERE / "_attack_peers.py", Path(folder)) if sides != ["psiphi"] else None
        task = bench.Task(row, net, x, y, Path(folder), peer)
        task.write()
        record["mnist"] = bench.measure(task, sides, row.repeats, given.quiet)
        if peer:
            peer.close()
    print(bench.shown(record["mnist"]))
    least = min((bare(net, x, y) for _ in range(row.repeats)), key=lambda run: run["seconds"])
    with torch.no_grad():
        right = net(x).argmax(1) == y
    flips = least.pop("flips")
    result = pp.attacks.one_pixel()(net, x, y)
    record["bare"] = least | {"flips": int((flips & right).sum())}
    agree = int((result.broken == (flips & right)).sum())
    print(
        f"\nbare network, the distinct points of all {len(x)} images: {least['forwards']} in {least['seconds']:.3f} s "
        f"(CPU {least['cpu']:.3f} s); {record['bare']['flips']} of {int(right.sum())} images right before have a flip; "
        f"the search says so of {agree} of {len(x)}"
    )


def digits(given: Any, record: dict[str, Any]) -> None:
    data = pp.data.load("digits")
    net = pp.zoo.classifier(data.shape, len(data.classes), net="conv", seed=0)
    pp.fit(net, data.train.x, data.train.y, epochs=15, seed=0, quiet=True)
    x, y = (part[: given.images] for part in (data.test.x, data.test.y))
    lines = []
    for how in (
        {},
        {"search": "evolution", "population": given.population, "generations": given.generations},
    ):
        attack = pp.attacks.one_pixel(**how)
        began = time.perf_counter()
        result = attack(net, x, y, batch_size=given.batch_size)
        seconds, sent = time.perf_counter() - began, int(result.forwards.sum())
        lines.append({
            "search": how.get("search", "exhaustive"), "seconds": seconds, "forwards": str(sent),
            "µs a forward": 1e6 * seconds / sent, "clean": f"{result.clean_accuracy:.2%}",
            "flips": str(int(result.broken.sum())), "accuracy": f"{result.accuracy:.2%}",
        })  # fmt: skip
    record["digits"] = lines
    size = given.batch_size or "the engine's own size"
    print(f"\ndigits, {len(x)} test images, convolutions, batches of {size}\n{table(lines)}")


def main() -> None:
    parser = options(__doc__, repeats=None)
    parser.add_argument("--parts", default="mnist,digits")
    parser.add_argument("--sides", help="some of psiphi and the peers' names; all by default")
    parser.add_argument("--images", type=int, help="instead of 64 of MNIST and all of the digits")
    parser.add_argument("--population", type=int, default=400)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--batch-size", type=int, help="of the digits; the engine's own by default")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    given = parser.parse_args()
    record: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    print(f"{record['threads']} threads, torch {torch.__version__}")
    for part in given.parts.split(","):
        {"mnist": mnist, "digits": digits}[part](given, record)
        written(given.json, record)


if __name__ == "__main__":
    main()
