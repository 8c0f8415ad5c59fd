"""Scores to raise, the rule of success, and the intervals of a proportion."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch.nn import functional as F
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError
from psiphi.formulas import goals
from psiphi.formulas.intervals import clopper_pearson, wilson

GEN = torch.Generator().manual_seed(0)


OF_LABELS = [goals.cross_entropy, goals.margin, goals.dlr]


def logits(n: int, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    z = 3 * torch.randn(n, k, dtype=torch.float64, generator=GEN)
    y = torch.randint(k, (n,), generator=GEN)
    return z, y, (y + 1 + torch.randint(k - 1, (n,), generator=GEN)) % k


@pytest.mark.parametrize("k", [2, 3, 10])
def test_cross_entropy_is_torchs(k):
    z, y, t = logits(50, k)
    assert_close(goals.cross_entropy(z, y), F.cross_entropy(z, y, reduction="none"))
    assert_close(goals.cross_entropy(z, y, t), -F.cross_entropy(z, t, reduction="none"))


def test_cross_entropy_has_a_direction_where_the_softmax_saturates():
    """At p_y = 1 − 1e-13 in float32 the usual form gives ∂/∂z_y = 0; this one −(1 − p_y), as in float64."""
    z = torch.tensor([[30.0, 0.0, -1.0]], requires_grad=True)
    y = torch.tensor([0])
    (ours,) = torch.autograd.grad(goals.cross_entropy(z, y).sum(), z)
    exact = z.detach().double().requires_grad_()
    (theory,) = torch.autograd.grad(F.cross_entropy(exact, y), exact)
    (usual,) = torch.autograd.grad(F.cross_entropy(z, y), z)
    assert usual[0, 0] == 0
    assert_close(ours[:, 1:], theory[:, 1:].float(), rtol=1e-5, atol=0)
    assert_close(ours.sum(), torch.tensor(0.0), atol=1e-20, rtol=0)
    assert ours[0, 0] < 0


@pytest.mark.parametrize("k", [2, 3, 10])
def test_margin_by_enumeration(k):
    z, y, t = logits(50, k)
    for i in range(50):
        rest = [z[i, j].item() for j in range(k) if j != y[i]]
        assert goals.margin(z, y)[i].item() == pytest.approx(max(rest) - z[i, y[i]].item())
        rest = [z[i, j].item() for j in range(k) if j != t[i]]
        assert goals.margin(z, y, t)[i].item() == pytest.approx(z[i, t[i]].item() - max(rest))


def test_dlr_as_published():
    z, y, t = logits(50, 10)
    down = z.sort(dim=1, descending=True).values
    own, aim = z.gather(1, y[:, None])[:, 0], z.gather(1, t[:, None])[:, 0]
    right = z.argmax(1) == y
    best_other = torch.where(right, down[:, 1], down[:, 0])
    assert_close(goals.dlr(z, y), (best_other - own) / (down[:, 0] - down[:, 2]))
    assert_close(goals.dlr(z, y, t), (aim - own) / (down[:, 0] - 0.5 * (down[:, 2] + down[:, 3])))


def test_dlr_of_few_classes():
    z, y, t = logits(50, 2)
    assert_close(goals.dlr(z, y), goals.margin(z, y))
    assert_close(goals.dlr(z, y, t), goals.margin(z, y, t))
    z, y, t = logits(50, 3)
    down = z.sort(dim=1, descending=True).values
    assert_close(goals.dlr(z, y), goals.margin(z, y) / (down[:, 0] - down[:, 2]))
    assert_close(goals.dlr(z, y, t), goals.margin(z, y, t))


@pytest.mark.parametrize("k", [3, 4, 10])
def test_dlr_ignores_shift_and_scale(k):
    z, y, t = logits(50, k)
    assert_close(goals.dlr(7 * z - 3, y), goals.dlr(z, y))
    if k > 3:
        assert_close(goals.dlr(7 * z - 3, y, t), goals.dlr(z, y, t))


@pytest.mark.parametrize("k", [2, 3, 4, 10])
@pytest.mark.parametrize("goal", [*OF_LABELS, goals.least_likely], ids=lambda goal: goal.__name__)
def test_gradients_are_those_of_finite_differences(goal, k):
    z, y, t = logits(20, k)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: goal(z, y, None), (z,))
    assert torch.autograd.gradcheck(lambda z: goal(z, y, t), (z,))


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("goal", OF_LABELS, ids=lambda goal: goal.__name__)
def test_a_goal_is_above_its_value_at_a_tie_once_it_holds(goal, k):
    """ln 2 at least for the untargeted cross-entropy, whose other classes add up; the ratios have the margin's sign."""
    z, y, t = logits(300, k)
    for target in (None, t):
        gap, score = goals.margin(z, y, target), goal(z, y, target)
        if goal is goals.cross_entropy:
            edge = torch.log(torch.tensor(2.0))
            assert (score[gap > 0] > edge).all() if target is None else (score[gap <= 0] < -edge + 1e-9).all()
        elif target is None or goal is goals.margin or k < 4:
            assert torch.equal(score > 0, gap > 0)
        else:  # z_t against z_y alone
            assert (score[gap > 0] > 0).all()


@pytest.mark.parametrize("k", [2, 3, 10])
def test_least_likely_is_the_targeted_goal_at_the_argmin(k):
    z, y, t = logits(50, k)
    aim = torch.tensor([min((v, j) for j, v in enumerate(row) if j != own)[1] for row, own in zip(z, y)])
    assert_close(goals.least_likely(z, y), -F.cross_entropy(z, aim, reduction="none"))
    assert_close(goals.least_likely(z, y, t), goals.least_likely(z, y))


def test_goals_have_names():
    assert goals.named("dlr") is goals.dlr
    assert goals.named(goals.margin) is goals.margin
    with pytest.raises(
        ArgumentError, match="no goal is called 'dl'; give cross_entropy, margin, dlr, kl, or a function"
    ):
        goals.named("dl")


def test_success_is_a_strict_margin_scaled_with_the_dtype():
    """max(1e-5·max|z|, tiny) in float32: at 100 the threshold is 1e-3; in float64 it is 5e8 times smaller."""
    y = torch.tensor([0])
    for gap, success, undecided in (
        (2e-3, True, False),
        (5e-4, False, True),
        (0.0, False, True),
        (-5e-4, False, False),
    ):
        z = torch.tensor([[-100.0, -100.0 + gap]])
        assert goals.succeeded(z, y).item() is success
        assert goals.standing(z, y).item() == (2 if success else int(undecided))
    assert goals.succeeded(torch.tensor([[-100.0, -100.0 + 5e-4]], dtype=torch.float64), y).item()
    assert_close(goals.tolerance(torch.tensor([[3.0, -50.0]])), torch.tensor([5e-4]))
    assert goals.standing(torch.zeros(1, 2), y).item() == 1
    assert not goals.succeeded(torch.zeros(1, 2), y).item()


def test_targeted_success_wants_the_target_on_top():
    z, y = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0])
    assert goals.succeeded(z, y, torch.tensor([2])).item()
    assert not goals.succeeded(z, y, torch.tensor([1])).item()
    assert goals.succeeded(z, y).item()


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 256), (17, 40), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_intervals_are_scipys(hits, n, level):
    test = binomtest(hits, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theory = test.proportion_ci(level, method=method)
        assert ours(hits, n, level) == pytest.approx((theory.low, theory.high), abs=1e-9)


def test_intervals_refuse_nonsense():
    for hits, n, level in ((3, 2, 0.95), (0, 0, 0.95), (-1, 4, 0.95), (1, 2, 1.0)):
        for interval in (wilson, clopper_pearson):
            with pytest.raises(ArgumentError, match=r"got"):
                interval(hits, n, level)


@pytest.mark.parametrize("k", [2, 10])
def test_kl_is_torchs_and_leaves_the_clean_answer(k):
    z, clean, _ = logits(50, k)[0], logits(50, k)[0].flip(0) * 2, None
    theory = F.kl_div(z.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="none").sum(1)
    assert_close(goals.kl(z, clean), theory)
    assert_close(goals.kl(clean + 3, clean), torch.zeros(50).to(clean))
    assert goals.named("kl") == goals.Relative(goals.kl)
    assert repr(goals.named("kl")) == "kl"
