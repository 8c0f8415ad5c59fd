"""Corners of the engine: random classifiers, dead gradients, half precision, lengths, nothing to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from psiphi.access import expectation
from psiphi.attacks import Linf, Result, carlini_wagner, ddn, pgd
from psiphi.basis.errors import ArgumentError, PsiphiError


def network(k: int = 5, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, k)).to(dtype).eval()


def rows(n: int = 12, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(n)).to(dtype)


class Noisy(nn.Module):
    """Logits that are noise: each of the 10 classes wins one draw in ten."""

    def forward(self, x):
        return torch.randn(len(x), 10) + 0 * x.sum()


def test_all_targets_of_pure_noise_leave_one_draw_in_ten():
    """ρ is the share of wrong answers of any class, so accuracy = 1/10, within 4 SE of 40 × 100 draws."""
    y = torch.arange(40) % 10
    access = expectation(Noisy(), draws=4)
    result = pgd(Linf(0.1), steps=2)(access, rows(40), y, target="all")
    assert abs(result.accuracy - 0.1) <= 4 * (0.1 * 0.9 / 4000) ** 0.5
    assert "of the mean over draws" in result.summary()


def test_nothing_to_do_under_random_draws():
    access = expectation(network(), draws=2)
    y = network()(rows()).argmax(1)
    with pytest.warns(UserWarning, match="it is not random"):
        result = pgd(Linf(0.1), steps=2)(access, rows(), (y + 1) % 5)
    assert result.already_met.all()


def test_a_dead_gradient_at_x_does_not_hold_ddn():
    """relu(v − 0.4) is flat at 0.3: the survey sees no boundary, and steps of random direction find one."""
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(6))
        net[0].bias.fill_(-0.4)
        net[2].weight.copy_(torch.stack((torch.zeros(6), torch.ones(6))))
        net[2].bias.copy_(torch.tensor([0.02, 0.0]))
    result = ddn()(net, torch.full((8, 6), 0.35), torch.zeros(8, dtype=torch.long))
    assert result.success.all()
    assert (result.distance < 0.5).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attack", [pgd(Linf(0.2), steps=3), ddn(steps=5)])
def test_half_precision_runs_and_is_kept(attack, dtype, tmp_path):
    net, x = network(dtype=dtype), rows(dtype=dtype)
    result = attack(net, x)
    assert result.x.dtype == dtype
    assert (result.success | result.undecided).any()
    result.save(tmp_path / "run")
    assert torch.equal(Result.load(tmp_path / "run").x.float(), result.x.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_chart_needs_single_precision(dtype):
    with pytest.raises(ArgumentError, match="needs float32 or float64"):
        carlini_wagner(steps=5, bisections=2)(network(dtype=dtype), rows(dtype=dtype))


def test_lengths_are_checked():
    net, x = network(), rows()
    long = torch.zeros(20, dtype=torch.long)
    for wrong in ({"target": long}, {"rows": range(20)}):
        with pytest.raises(PsiphiError, match="20"):
            pgd(Linf(0.1), steps=2)(net, x, **wrong)
    loader = DataLoader(TensorDataset(x), batch_size=5)
    for wrong in ({"target": long}, {"rows": range(20)}):
        with pytest.raises(ArgumentError, match="has 20 entries, but the loader gave 12"):
            pgd(Linf(0.1), steps=2)(net, loader, **wrong)
    with pytest.raises(ArgumentError, match="eps has 20"):
        pgd(Linf(torch.full((20,), 0.1)), steps=2)(net, loader)


def test_labels_to_reach_may_be_a_list():
    net, x = network(), rows()
    target = ((net(x).argmax(1) + 1) % 5).tolist()
    theory = pgd(Linf(0.3), steps=3)(net, x, target=torch.tensor(target))
    assert torch.equal(pgd(Linf(0.3), steps=3)(net, x, target=target).x, theory.x)
    curve = pgd(Linf(), steps=3).curve(net, x, eps=[0.1, 0.2, 0.3], target=target)
    assert curve.robust.shape == (12, 3)
    streamed = pgd(Linf(0.3), steps=3)(net, DataLoader(TensorDataset(x), batch_size=5), target=target)
    assert torch.equal(streamed.x, theory.x)


def test_an_empty_curve_is_a_curve(tmp_path):
    curve = pgd(Linf(), steps=2).curve(network(), rows()[:0], eps=[0.1, 0.2])
    assert curve.intervals.isnan().all()
    curve.save(tmp_path / "curve")
    assert pgd(Linf(0.1), steps=2)(network(), rows()[:0]).row.dtype == torch.long


def test_carlini_wagner_costs_what_it_says():
    """Clean check, survey, steps, verification: a forward each."""
    net, x = network(), rows()
    result = carlini_wagner(steps=20, bisections=3)(net, x)
    assert result.success.all()
    steps = result.backwards - 4  # the survey of K − 1 = 4 rivals
    assert torch.equal(result.forwards, 1 + 1 + steps + 1)


def test_buffers_written_past_their_version_come_back():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.register_buffer("n", torch.zeros(()))

        def forward(self, x):
            self.n.data.add_(1)
            return self.net(x)

    net = Counter().eval()
    pgd(Linf(0.1), steps=2)(net, rows())
    assert net.n == 0
