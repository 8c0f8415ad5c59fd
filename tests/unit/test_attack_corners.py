"""Corners of the engine: random classifiers, dead gradients, half precision, lengths, nothing to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from psiphi.access import black_box, expectation, gray_box
from psiphi.attacks import Attack, Curve, Linf, Result, carlini_wagner, ddn, deepfool, fgsm, pgd
from psiphi.basis.errors import ArgumentError, PsiphiError
from psiphi.formulas.goals import margin
from psiphi.laws._asking import RandomSearch


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


class Sometimes(nn.Module):
    """Class 0 with the probability Φ(x₀/σ), from noise on a linear score."""

    def forward(self, x):
        return torch.stack((x[:, 0] + 0.3 * torch.randn(len(x)), torch.zeros(len(x))), 1)


def test_accuracies_of_a_random_classifier_are_shares_of_draws(tmp_path):
    """The optimum within ε is x₀ − ε, so a share Φ((x₀ − ε)/σ) of draws stays right: 4 SE of 60 × 400 draws."""
    x = torch.full((60, 1), 0.4)
    y = torch.zeros(60, dtype=torch.long)
    access = expectation(Sometimes(), draws=200, verify=400, bounds=(-2.0, 2.0))
    attack = fgsm(Linf(0.2))
    theory = torch.special.ndtr(torch.tensor([0.4, 0.2, -0.2], dtype=torch.double) / 0.3)
    error = 4 * (theory * (1 - theory) / (60 * 400)).sqrt()
    result = attack(access, x, y)
    assert abs(result.clean_accuracy - theory[0]) < error[0]
    assert abs(result.accuracy - theory[1]) < error[1]
    curve = attack.curve(access, x, y, eps=[0.2, 0.6], independent=True)
    assert ((curve.accuracy - theory[1:]).abs() < error[1:]).all()
    assert abs(curve.clean_accuracy - theory[0]) < error[0]
    low, high = curve.intervals.T
    assert (low < curve.accuracy).all()
    assert (curve.accuracy < high).all()
    curve.save(tmp_path / "curve")
    again = Curve.load(tmp_path / "curve")
    assert torch.equal(again.accuracy, curve.accuracy)
    assert again.clean_accuracy == curve.clean_accuracy
    result.save(tmp_path / "run")
    assert Result.load(tmp_path / "run").clean_accuracy == result.clean_accuracy


def test_a_share_of_draws_is_not_bisected():
    access = expectation(Sometimes(), draws=2, bounds=(-2.0, 2.0))
    x = torch.full((4, 1), 0.4)
    for attack, independent in ((pgd(Linf(), steps=2), False), (ddn(steps=5), True)):
        with pytest.raises(ArgumentError, match="independent=True"):
            attack.curve(access, x, eps=[0.1, 0.2], independent=independent)


def test_parts_of_random_results_join():
    access = expectation(Noisy(), draws=2, verify=10)
    y = torch.arange(6) % 10
    parts = [
        pgd(Linf(0.1), steps=1)(access, rows(6)[k], y[k], rows=torch.arange(6)[k])
        for k in (slice(3), slice(3, 6))
    ]
    whole = Result.cat(parts)
    assert whole.clean_share.shape == whole.share.shape == (6,)


@pytest.mark.parametrize("gray", [False, True])
def test_every_target_within_a_budget_of_random_verdicts(gray):
    """Clean check and last judgement, 10 draws each, are kept free; no sample is sent more often than it may."""
    y, x = torch.arange(8) % 5, rows(8)
    access = expectation(black_box(network(), budget=100), draws=2, verify=10)
    if gray:
        access = gray_box(network(), access, rows(40), steps=20)
    with pytest.warns(UserWarning, match="it is not random"):
        result = Attack(Linf(0.01), margin, RandomSearch(turns=6))(access, x, y, target="all")
    assert (result.forwards <= 100).all()
    assert (result.forwards[~result.already_wrong] > 40).all()


def test_classes_of_a_gray_box_come_from_the_surrogate():
    access = gray_box(network(3), black_box(lambda x: (x[:, :3]).argmax(1), "labels"), rows(40), steps=20)
    with pytest.raises(PsiphiError, match="3 classes"):
        pgd(Linf(0.1), steps=2)(access, rows(), torch.full((12,), 7))
    with pytest.raises(PsiphiError, match="3 classes"):
        pgd(Linf(0.1), steps=2)(access, rows(), target=9)


def test_a_pass_has_room_for_the_draws_and_the_gradients():
    """m draws of a point, and the gradients of many gaps, leave room for fewer points in a pass."""
    sizes = []

    class Watched(nn.Module):
        def __init__(self, sigma):
            super().__init__()
            self.net, self.sigma = network(40), sigma

        def forward(self, x):
            if x.requires_grad or self.sigma:
                sizes.append(len(x))
            return self.net(x) + self.sigma * torch.randn(len(x), 40)

    pgd(Linf(0.1), steps=2)(expectation(Watched(0.1), draws=8, verify=16), rows(32), batch_size=16)
    assert max(sizes) == 16
    still, most = Watched(0.0), {}
    for candidates in (10, None):
        sizes.clear()
        deepfool(candidates=candidates)(still, rows(32), batch_size=20)
        most[candidates] = max(sizes)
    assert most == {10: 20, None: 4}
