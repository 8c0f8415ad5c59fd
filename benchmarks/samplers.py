"""What the sampler's loop adds to the evaluations of its network, in one run.

    python benchmarks/samplers.py [--repeats 7] [--json FILE]

Each plan walks one batch by `psiphi.samplers.walk`; the other side calls the network alone as often, on inputs of the
same shape, and does nothing else. The sides take turns, in the other order every second turn; the ratio is the median
over turns. "denoiser" reads the network's output: centring, scaling, D from F. "loop alone" walks the plan with a
denoiser that costs nothing: what the loop adds, least disturbed by the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

PLANS = ("ddim:{}", "dpm_solver:{}", "heun:{}", "ancestral:{}")


def seconds(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compared(label: str, model: Any, text: str, rows: int, repeats: int) -> dict[str, Any]:
    from psiphi.basis.noise import Noise
    from psiphi.samplers import walk

    device, plan = model.device, model.planned(text)
    noise = Noise.of(0, rows, device)
    x, level, sigma = noise.normal(model.shape), noise.uniform(), noise.uniform() + 0.5
    count = range(plan.evaluations)
    sides: dict[str, Callable[[], object]] = {
        "walk": lambda: walk(plan, model, x, noise),
        "loop": lambda: walk(plan, lambda x, sigma: x, x, noise),
        "denoiser": lambda: [model(x, sigma) for _ in count],
        "network": lambda: [model.denoiser.network(x, level, None) for _ in count],
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad():
        for turn in range(-1, repeats):  # the first turn warms up
            for name in list(sides)[:: (-1) ** (turn % 2)]:
                spent = seconds(sides[name])
                taken[name] += [spent] if turn >= 0 else []

    def over(name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(taken[name], taken[base], strict=True))

    return {
        "network": label, "plan": text, "ms an evaluation": 1e3 * min(taken["network"]) / plan.evaluations,
        "walk / network": over("walk", "network"), "denoiser / network": over("denoiser", "network"),
        "walk / denoiser": over("walk", "denoiser"), "loop alone / network": over("loop", "network"),
    }  # fmt: skip


def main() -> None:
    from _common import options, table, written

    import psiphi as pp

    given = options(__doc__, repeats=7).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for label, shape, net, rows, steps in (
        ("U-Net, 28 × 28", (1, 28, 28), "unet", 128, 6),
        ("U-Net, 8 × 8", (1, 8, 8), "unet", 128, 12),
        ("MLP 3 × 256, 64 numbers", (64,), "mlp", 2048, 40),
        ("MLP 3 × 256, 2 numbers", (2,), "mlp", 2048, 40),
    ):
        model = pp.zoo.ddpm(shape, net=net, seed=0).to(device).eval()
        results += [compared(label, model, text.format(steps), rows, given.repeats) for text in PLANS]
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {given.repeats} turns")
    print(table(results))
    written(given.json, results)


if __name__ == "__main__":
    main()
