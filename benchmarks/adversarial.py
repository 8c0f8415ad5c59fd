"""A step of WGAN-GP beside a bare loop of the same networks, in one run.

    python benchmarks/adversarial.py [--repeats 9] [--json FILE]

Generator 64-512-784 and critic 784-512-1 (or 2-256-256-2 and 2-256-256-1), batch 128, five critic steps a generator
step, Adam. The bare loop is plain PyTorch with fused Adam: per-sample norms, one mixing weight a sample, and nothing
else. The sides take turns; the ratio is the median over turns of neighbouring runs.
"""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

BATCH, CRITIC_STEPS, WEIGHT = 128, 5, 10.0


def networks(d: int, latent: int, hidden: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    def mlp(widths: tuple[int, ...], unit: Any) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), unit()]
        return nn.Sequential(*layers[:-1])

    return mlp((latent, *hidden[::-1], d), nn.ReLU), mlp((d, *hidden, 1), lambda: nn.LeakyReLU(0.2))


def bare(x: Tensor, latent: int, hidden: tuple[int, ...], rounds: int) -> float:
    generator, critic = networks(x.shape[1], latent, hidden)
    rule: Any = dict(lr=2e-4, betas=(0.0, 0.9), fused=True)
    of_generator, of_critic = (torch.optim.Adam(m.parameters(), **rule) for m in (generator, critic))
    rows = torch.cat([torch.randperm(len(x)) for _ in range(1 + rounds * CRITIC_STEPS * BATCH // len(x))])
    batches = iter(rows.split(BATCH))
    began = time.perf_counter()
    for _ in range(rounds):
        for _ in range(CRITIC_STEPS):
            q = x[next(batches)]
            with torch.no_grad():
                p = generator(torch.randn(len(q), latent))
            u = torch.rand(len(q), 1)
            middle = (u * q + (1 - u) * p).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(middle).sum(), middle, create_graph=True)
            penalty = (gradient.norm(dim=1) - 1).square().mean()
            loss = critic(p).mean() - critic(q).mean() + WEIGHT * penalty
            loss.backward()
            of_critic.step()
            of_critic.zero_grad()
        critic.requires_grad_(False)
        (-critic(generator(torch.randn(BATCH, latent))).mean()).backward()
        critic.requires_grad_(True)
        of_generator.step()
        of_generator.zero_grad()
    return time.perf_counter() - began


def ours(x: Tensor, latent: int, hidden: tuple[int, ...], rounds: int) -> float:
    import psiphi as pp

    model = pp.zoo.wgan_gp(x.shape[1], latent, weight=WEIGHT, steps=CRITIC_STEPS, hidden=hidden, ema=None)
    history = pp.fit(model, x, steps=rounds, batch_size=BATCH, quiet=True)
    return sum(history["seconds"])


def main() -> None:
    from _common import images, options, table, written

    import psiphi as pp

    given = options(__doc__, repeats=9).parse_args()
    name, train, _ = images()
    results = []
    for label, x, latent, hidden, rounds in (
        (f"WGAN-GP 784-512, {name}", train.x[:20_000].flatten(1), 64, (512,), 60),
        ("WGAN-GP 2-256-256, grid", pp.data.toys.grid()(20_000, _noise(20_000)).float(), 2, (256, 256), 100),
    ):
        ours(x, latent, hidden, 2)
        pairs = [
            (ours(x, latent, hidden, rounds), bare(x, latent, hidden, rounds)) for _ in range(given.repeats)
        ]
        results.append({
            "work": label,
            "psiphi, ms a critic step": 1e3 * min(a for a, _ in pairs) / (rounds * CRITIC_STEPS),
            "bare loop": 1e3 * min(b for _, b in pairs) / (rounds * CRITIC_STEPS),
            "× bare loop's time": statistics.median(a / b for a, b in pairs),
        })  # fmt: skip
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {given.repeats} turns")
    print(table(results))
    written(given.json, results)


def _noise(n: int) -> Any:
    from psiphi.basis.noise import Noise

    return Noise.of(0, n)


if __name__ == "__main__":
    main()
