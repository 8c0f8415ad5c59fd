"""Every search in every threat: it stays inside, counts, and does not see the batch; or a sentence says why not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psiphi.access import black_box, white_box
from psiphi.attacks import Attack
from psiphi.attacks import searches as s
from psiphi.attacks.threats import L1, L2, Chain, Columns, Features, Linf, Patch, Pixels, Spatial
from psiphi.basis.errors import ArgumentError
from psiphi.formulas.goals import margin

SHAPE, CLASSES, ROWS = (1, 5, 5), 3, 5
torch.manual_seed(0)
FEATURES = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.Tanh()).double().eval()
THREATS = {
    "Linf": Linf(0.2),
    "L2": L2(0.8),
    "L1": L1(2.0),
    "Pixels": Pixels(2),
    "Pixels(1)": Pixels(1),
    "Spatial": Spatial(20.0, 1.0),
    "Patch": Patch(2, eps=0.7),
    "Features": Features(FEATURES, eps=0.4),
    "Columns": Columns(Linf(0.3), immutable=(0, 12), ranges={3: (0.0, 1.0)}),
    "Chain": Chain(Spatial(10.0, 1.0), Linf(0.1)),
}
BALLS = {"Linf", "L2", "L1"}
STEEP = BALLS | {"Pixels", "Pixels(1)", "Spatial", "Patch", "Features", "Columns", "Chain"}
SEARCHES = {
    "Steepest": (s.Steepest(3), STEEP),
    "AutoStep": (s.AutoStep(5), STEEP),
    "SparseAutoStep": (s.SparseAutoStep(5), {"L1"}),
    "Crossing": (s.Crossing(4, 0.02, None), BALLS),
    "Bounce": (s.Bounce(4), BALLS),
    "Sphere": (s.Sphere(4, None, 0.05), {"L2"}),
    "Lagrangian": (s.Lagrangian(4, 2), {"L2"}),
    "Estimated": (s.Estimated(s.Steepest(2), 4), STEEP),
    "Squares": (s.Squares(12), BALLS),
    "RandomPoints": (s.RandomPoints(6), STEEP),
    "Grid": (s.Grid(3), {"Spatial"}),
    "Palette": (s.Palette(), {"Pixels(1)"}),
    "Evolution": (s.Evolution(6, 2), {"Pixels", "Pixels(1)"}),
    "Penalty": (s.Penalty(4), {"Features"}),
    "Hops": (s.Hops(2, initial=4), {"Linf", "L2"}),
}
MINIMUM = {"Crossing", "Bounce", "Sphere", "Lagrangian", "Hops"}


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 16), nn.Tanh(), nn.Linear(16, CLASSES)).double().eval()


def data() -> torch.Tensor:
    gen = torch.Generator().manual_seed(2)
    return (1.4 * torch.rand(ROWS, *SHAPE, dtype=torch.float64, generator=gen) - 0.2).clamp(0, 1)


@pytest.mark.parametrize("name", THREATS)
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_runs_in_a_threat_or_says_why_not(search, name):
    how, fits = SEARCHES[search]
    threat, kind = THREATS[name], "minimum-norm" if search in MINIMUM else "fixed-perturbation"
    if name not in fits:
        with pytest.raises(ArgumentError, match=f"{type(how).__name__}|{type(threat).__name__}"):
            Attack(threat, margin, how, kind)(network(), data())
        return
    attack, net, x = Attack(threat, margin, how, kind), network(), data()
    whole = attack(net, x, seed=3, stop_early=False)
    assert whole.x.shape == x.shape
    assert ((whole.x >= 0) & (whole.x <= 1)).all()
    eps = torch.as_tensor(threat.eps, dtype=torch.float64)
    assert (whole.distance[whole.success] <= eps * (1 + 1e-6) + 1e-12).all()
    parts = attack(net, x, seed=3, stop_early=False, batch_size=2)
    torch.testing.assert_close(parts.x, whole.x, atol=1e-9, rtol=1e-9)
    assert torch.equal(parts.forwards, whole.forwards)
    assert torch.equal(net(whole.x).argmax(1) != net(x).argmax(1), whole.success)
    if how.needs in ("scores", "labels"):
        counted = attack(black_box(net, how.needs, budget=4), x, seed=3)
        assert (counted.forwards <= 4).all()
        assert (counted.backwards == 0).all()


def test_points_of_a_chart_are_told():
    attack = Attack(THREATS["Chain"], margin, s.Steepest(3))
    x = data()
    result = attack(white_box(network()), x)
    threat = THREATS["Chain"].expand(x)
    torch.testing.assert_close(threat.decode(result.change, x, white_box(network()).box), result.x)
