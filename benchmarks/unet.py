"""A step of training a U-Net as a denoiser beside a bare loop of the same network, in one run.

    python benchmarks/unet.py [--repeats 9] [--json FILE]

DDPM on images of 28 × 28 and of 8 × 8, batch 128, Adam, averaged weights. The bare loop trains a copy of the network
in plain PyTorch with fused Adam: the published linear betas, the mean squared error of the noise, an average of the
weights of the same decay, and nothing else: no logging, no noise keys, no checks. The sides take turns in short runs,
in the other order every second turn; the ratio is the median over turns of the two runs of a turn, the time in `fit`'s
loop over the bare loop's. Milliseconds are each side's best.
"""

from __future__ import annotations

import statistics
import time
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

BATCH, TIMES, DECAY = 128, 1000, 0.999


def bare(network: nn.Module, x: Tensor, steps: int) -> float:
    network, average = deepcopy(network), deepcopy(network).requires_grad_(False)
    parameters, averaged = list(network.parameters()), list(average.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    x = (x - x.mean(0)) / x.std()
    kept = (1 - torch.linspace(1e-4, 0.02, TIMES)).cumprod(0)
    signal, noise, level = kept.sqrt(), (1 - kept).sqrt(), ((1 - kept) / kept).log() / 8
    rows = torch.cat([torch.randperm(len(x)) for _ in range(1 + steps * BATCH // len(x))])
    began = time.perf_counter()
    for step in range(steps):
        batch = x[rows[step * BATCH : (step + 1) * BATCH]]
        t = torch.randint(TIMES, (BATCH,))
        epsilon = torch.randn_like(batch)
        noisy = signal[t, None, None, None] * batch + noise[t, None, None, None] * epsilon
        (network(noisy, level[t], None) - epsilon).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, parameters, 1 - min(DECAY, (1 + step) / (10 + step)))
    return time.perf_counter() - began


def ours(x: Tensor, steps: int) -> tuple[float, nn.Module]:
    """Seconds in `fit`'s loop, and the network."""
    import psiphi as pp

    model = pp.zoo.ddpm(tuple(x.shape[1:]), net="unet", seed=0)
    history = pp.fit(model, x, steps=steps, batch_size=BATCH, quiet=True)
    return sum(history["seconds"]), model.denoiser.network


def main() -> None:
    from _common import images, options, table, written

    import psiphi as pp

    given = options(__doc__, repeats=9).parse_args()
    name, train, _ = images()
    results: list[dict[str, Any]] = []
    for label, x, steps in (
        (f"U-Net 28 × 28, {name}", train.x[:5_000], 12),
        ("U-Net 8 × 8, digits", pp.data.load("digits").train.x, 40),
    ):
        _, network = ours(x, 2)  # torch loads parts of itself at the first step
        bare(network, x, 2)
        mine: list[float] = []
        theirs: list[float] = []
        for turn in range(given.repeats):
            for side in ("ours", "bare")[:: (-1) ** turn]:
                if side == "ours":
                    mine.append(ours(x, steps)[0])
                else:
                    theirs.append(bare(network, x, steps))
        results.append({
            "work": label, "parameters": str(sum(p.numel() for p in network.parameters())),
            "psiphi, ms a step": 1e3 * min(mine) / steps, "bare loop": 1e3 * min(theirs) / steps,
            "× bare loop's time": statistics.median(a / b for a, b in zip(mine, theirs, strict=True)),
        })  # fmt: skip
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {given.repeats} turns")
    print(table(results))
    written(given.json, results)


if __name__ == "__main__":
    main()
