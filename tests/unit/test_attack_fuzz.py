"""Any call of any attack: never out of the ball or the box, and the model is as it was found."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psiphi.access import white_box
from psiphi.attacks import L1, L2, Linf
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks

BALLS = {"linf": Linf, "l2": L2, "l1": L1}
QUICK = {
    "steps": 3,
    "bisections": 2,
    "restarts": 1,
    "patience": 2,
    "queries": 5,
    "initial": 4,
    "tries": 5,
    "samples": 4,
}
CASES = 10_000 if settings.default is not None and settings.default.max_examples > 200 else 200


class Normed(nn.Module):
    """A network with buffers, a parameter that is frozen, and a use of the global random state."""

    def __init__(self, d: int, k: int, dtype: torch.dtype):
        super().__init__()
        torch.manual_seed(d + k)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(d, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, k)
        )
        self.body[1].bias.requires_grad_(False)
        self.body[2].running_mean += 0.1
        self.to(dtype).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        return self.body(x)


def state(net: nn.Module) -> list[Any]:
    values = [v.clone() for v in net.state_dict().values()] + [torch.get_rng_state()]
    return [[p.requires_grad for p in net.parameters()], [m.training for m in net.modules()], values]


def built(name: str, ball: str, eps: Any) -> Any:
    """The attack with few steps, in the ball where it takes one; None where it does not take this norm."""
    entry = attacks[name]
    settings_ = {key: value for key, value in QUICK.items() if key in entry.parameters}
    if "threat" not in entry.parameters:
        return entry.build(**settings_)
    try:
        return entry.build(threat=BALLS[ball](eps), **settings_)
    except ArgumentError:
        return None


@settings(max_examples=CASES)
@given(
    name=st.sampled_from(sorted(entry.name for entry in attacks)),
    ball=st.sampled_from(sorted(BALLS)),
    shape=st.sampled_from([(1,), (6,), (2, 3), (3, 2, 2), (2, 2, 2, 2)]),
    n=st.sampled_from([0, 1, 2, 5]),
    classes=st.sampled_from([2, 3, 5]),
    batch_size=st.sampled_from([1, 3, 100]),
    eps=st.sampled_from([0.0, 1e-6, 0.1, 3.0, "own"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bounds=st.sampled_from(["unit", "wide", "channels"]),
    stop_early=st.booleans(),
    target=st.sampled_from([None, 1, "least-likely", "random", "all"]),
)
def test_any_call_stays_in_ball_and_box(
    name, ball, shape, n, classes, batch_size, eps, dtype, bounds, stop_early, target
):
    radii = torch.linspace(0, 0.5, n, dtype=dtype) if eps == "own" else torch.full((n,), eps, dtype=dtype)
    attack = built(name, ball, radii if eps == "own" else eps)
    if attack is None:
        return
    if not getattr(getattr(attack, "search", None), "aims", True):
        target = None  # by labels alone it would need points of the class
    net = Normed(prod(shape), classes, dtype)
    lo, hi = {
        "unit": (torch.tensor(0.0), torch.tensor(1.0)),
        "wide": (torch.tensor(-2.0), torch.tensor(5.0)),
        "channels": (torch.linspace(-1, 0, shape[0]), torch.linspace(1, 2, shape[0])),
    }[bounds]
    lo, hi = (b.to(dtype).view(-1, *[1] * (len(shape) - 1)) if b.ndim else b.to(dtype) for b in (lo, hi))
    gen = torch.Generator().manual_seed(n)
    x = lo + (hi - lo) * (1.6 * torch.rand(n, *shape, dtype=dtype, generator=gen) - 0.3).clamp(0, 1)
    x = torch.minimum(torch.maximum(x, lo), hi)
    access = white_box(
        net, (lo.flatten().tolist(), hi.flatten().tolist()) if lo.ndim else (float(lo), float(hi))
    )
    before, kept = state(net), x.clone()
    result = attack(access, x, target=target, batch_size=batch_size, stop_early=stop_early)
    after = state(net)
    assert before[:2] == after[:2]
    assert all(torch.equal(a, b) for a, b in zip(before[2], after[2], strict=True))
    assert torch.equal(x, kept)

    assert result.x.shape == x.shape
    assert result.x.dtype == dtype
    assert ((result.x >= lo) & (result.x <= hi)).all()
    if "threat" in attacks[name].parameters:
        slack = 50 * torch.finfo(dtype).eps * (1 + radii) + (
            1e-6 * radii if attack.kind == "minimum-norm" else 0
        )
        assert (attack.threat.distance(result.x, x) <= radii + slack).all()
        assert torch.equal(result.x[radii == 0], x[radii == 0])
    else:
        assert (result.distance <= attack.threat.eps).all()
    for field in ("success", "undecided", "already_met", "distance", "score", "forwards", "row"):
        assert getattr(result, field).shape == (n,), field
    assert not (result.success & result.undecided).any()
    assert (result.forwards >= 1).all()
    assert result.summary()
