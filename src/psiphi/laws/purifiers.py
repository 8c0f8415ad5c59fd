"""Laws of what stands in front of a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psiphi.access import black_box, bpda, expectation, gray_box, white_box
from psiphi.attacks import Linf, ddn, pgd, square
from psiphi.basis.noise import generator
from psiphi.defenses import purify
from psiphi.evaluation import adaptive
from psiphi.laws._law import Measured, law


class _Everything(nn.Module):
    """A model whose manifold is the whole space."""

    def project(self, x: Tensor) -> Tensor:
        return x


def _network(dims: int = 8, hidden: int = 16, classes: int = 3, key: str = "law 28a") -> nn.Sequential:
    net = nn.Sequential(nn.Linear(dims, hidden), nn.Tanh(), nn.Linear(hidden, classes)).double()
    draw = generator(key)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64))
    return net.eval()


@law("28a", "a purifier that is the identity changes no result")
def identity() -> list[Measured]:
    """Every access, bit for bit: points, successes, costs; and every level of the adaptive table."""
    net = _network()
    safe = purify(net, _Everything())
    x = torch.rand(40, 8, generator=generator("law 28a", "x"), dtype=torch.float64)
    y = net(x).argmax(1)
    y[:4] = (y[:4] + 1) % 3  # some rows are wrong before
    surrogate = _network(hidden=8, key="law 28a, surrogate")
    step = pgd(Linf(0.1), steps=6)
    pairs = {
        "white box": (step, lambda f: white_box(f)),
        "white box, least change": (ddn(steps=8), lambda f: white_box(f)),
        "black box, scores": (square(Linf(0.1), queries=40), lambda f: black_box(f)),
        "gray box": (step, lambda f: gray_box(surrogate, f, x, epochs=2, seed=1)),
        "bpda": (step, lambda f: white_box(nn.Sequential(bpda(nn.Identity()), f))),
        "expectation": (step, lambda f: expectation(_Jittered(f), draws=3, verify=10)),
    }
    measured = []
    for name, (attack, access) in pairs.items():
        one, other = (attack(access(f), x, y, seed=3) for f in (net, safe))
        off = int((one.x != other.x).sum()) + int((one.success != other.success).sum())
        off += int((one.forwards != other.forwards).sum()) + int((one.backwards != other.backwards).sum())
        measured.append(Measured(f"{name}: numbers that differ", 0, off, 0))
        broken = int(one.broken.sum())
        measured.append(Measured(f"{name}: rows broken", broken, int(other.broken.sum()), 0))
    table = adaptive(safe, x, y, step, seed=3)
    measured += [
        Measured(f"adaptive, {each.name}", table.bare.value, each.value, 0)
        for each in (*table.levels.values(), table.together)
    ]
    return measured


class _Jittered(nn.Module):
    """Logits with noise, from torch's random state."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return z + 0.5 * torch.randn_like(z)
