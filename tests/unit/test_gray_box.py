"""Synthetic rows for a surrogate: along its slopes, labelled by the oracle, every query counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psiphi import zoo
from psiphi.access import black_box, gray_box
from psiphi.attacks import Linf, pgd
from psiphi.basis.errors import ArgumentError, BudgetError
from psiphi.basis.noise import generator


def data(n: int) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, dtype=torch.float64, generator=generator("gray box", n))


def network(k: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, k)).double()


class Recorded(nn.Module):
    """Keeps what it was asked."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.asked = net, []

    def forward(self, x):
        self.asked.append(x.clone())
        return self.net(x)


def test_each_round_asks_about_one_step_along_the_surrogate_s_slope_at_the_oracle_s_label():
    oracle, x = Recorded(network()), data(40)
    how = {"epochs": 5, "lr": 0.05, "seed": 3}
    access = gray_box(network(seed=1), oracle, x, augment=2, step=0.2, **how)
    asked = torch.cat(oracle.asked)
    assert access.queries == len(asked) == 160
    assert torch.equal(asked[:40], x)
    for known in (40, 80):
        rows = asked[:known]
        before = gray_box(network(seed=1), network(), rows, **how).surrogate
        labels, here = network()(rows).argmax(1), rows.clone().requires_grad_()
        slope = torch.autograd.grad(before(here).log_softmax(1).gather(1, labels[:, None]).sum(), here)[0]
        assert torch.equal(asked[known : 2 * known], (rows + 0.2 * slope.sign()).clamp(0, 1))
    last = gray_box(network(seed=1), network(), asked, **how).surrogate
    for mine, other in zip(access.surrogate.parameters(), last.parameters()):
        assert torch.equal(mine, other)


def test_queries_are_charged_to_the_rows_that_they_stem_from():
    x = data(30)
    boxed = black_box(network(), "labels", budget=4)
    access = gray_box(network(seed=1), boxed, x, augment=2, epochs=1)
    assert access.queries == boxed.rows == 120
    with pytest.raises(BudgetError, match="asks 8 times for each row of data, and the oracle's budget is 4"):
        gray_box(network(seed=1), boxed, x, augment=3, epochs=1)
    assert boxed.rows == 120


def test_synthetic_rows_near_the_boundaries_bring_a_surrogate_nearer_to_the_oracle():
    """30 rows of a linear oracle of 3 classes; agreement on 2000 others, which grows by at least 0.05 of 4 SE 0.045."""
    oracle, fresh = network(seed=7), data(2000)
    truth = oracle(fresh).argmax(1)
    shares = []
    for augment in (0, 4):
        access = gray_box(network(seed=2), oracle, data(30), augment=augment, steps=150, lr=0.02)
        shares.append((access.surrogate(fresh).argmax(1) == truth).double().mean().item())
    assert shares[1] > shares[0] + 0.05


def test_a_surrogate_of_another_architecture_is_attacked_and_the_oracle_judges():
    oracle, x = network(seed=5).float(), data(300).float()
    for architecture in (network(seed=2).float(), zoo.classifier((1, 4, 4), 3, hidden=(16,))):
        access = gray_box(architecture, black_box(oracle, "labels"), x[:150], augment=1, epochs=20, lr=0.02)
        y = oracle(x[150:]).argmax(1)
        result = pgd(Linf(0.3), steps=5)(access, x[150:], y)
        assert torch.equal(result.success, oracle(result.x).argmax(1) != y)
        assert result.success_rate > 0.5
        assert (result.forwards <= 2).all()


def test_bad_augmentation_gets_a_sentence():
    for how, said in (
        ({"augment": -1}, "at least 0"),
        ({"augment": 1, "step": 0.0}, "other than 0"),
    ):
        with pytest.raises(ArgumentError, match=said):
            gray_box(network(), network(), data(10), epochs=1, **how)
