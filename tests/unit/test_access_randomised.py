"""Classifiers that draw, steps without a gradient, and surrogates."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi import zoo
from psiphi.access import black_box, bpda, expectation, gray_box, white_box
from psiphi.attacks import Attack, Linf, fgsm, pgd
from psiphi.basis.errors import AccessError, ArgumentError, BudgetError, DataError
from psiphi.basis.noise import generator
from psiphi.data import Split
from psiphi.formulas import goals
from psiphi.laws._asking import Counting, LabelSearch, RandomSearch

PGD = pgd(Linf(0.1), steps=3)


def data(n: int = 20) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, dtype=torch.float64, generator=generator("randomised", n))


def network(k: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, k)).double()


class Noisy(nn.Module):
    def __init__(self, sigma: float = 0.1):
        super().__init__()
        self.net, self.sigma = network(), sigma

    def forward(self, x):
        return self.net(x + self.sigma * torch.randn_like(x))


# ------------------------------------------------------------------------------------------------ expectation
def test_random_output_is_refused_by_a_white_box_which_names_the_way():
    with pytest.raises(AccessError, match=r"output is random: .*access\.expectation\(model, draws=16\)"):
        PGD(Noisy(), data())
    result = PGD(expectation(Noisy()), data())
    assert result.share is not None
    assert 0 < result.share.mean() < 1


def test_every_draw_is_counted_and_no_row_leaves_early():
    counting = Counting(Noisy(1.0))
    result = PGD(expectation(counting, draws=6, verify=100), data(), batch_size=7)
    met = result.already_met
    assert (result.forwards[met] == 100).all()
    assert (result.forwards[~met] == 100 + 3 * 6 + 6 + 100).all()
    assert (result.backwards[~met] == 3 * 6).all()
    assert result.forwards.sum() == counting.sent
    assert result.backwards.sum() == counting.backwards
    assert result.success[~met].any()


def test_a_lucky_draw_is_no_success():
    """Three draws in ten are wrong by far whatever x is: nothing is broken, and the share says 0.3."""

    def fickle(x):
        wrong = torch.rand(len(x), 1, dtype=x.dtype) < 0.3
        right = torch.tensor([[9.0, 0.0, 0.0]], dtype=x.dtype) + 0 * x.flatten(1)[:, :1]
        return torch.where(wrong, right.flip(1), right)

    x = data(60)
    for draws in (1, 5):
        result = PGD(expectation(fickle, draws=draws), x, torch.zeros(60).long(), seed=3)
        assert not result.success.any()
        assert not result.already_wrong.any()
        assert (result.forwards == 200 + 4 * draws).all()
        assert abs(result.share.mean() - 0.3) < 4 * (0.21 / 6000) ** 0.5
        assert result.accuracy == pytest.approx(1 - result.share.mean().item())


def test_runs_repeat_and_leave_the_random_state_alone():
    access, x = expectation(Noisy(), draws=4, verify=20), data()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = PGD(access, x, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert_close(PGD(access, x, seed=1).x, first.x, atol=0, rtol=0)
    assert torch.equal(PGD(access, x, seed=1).share, first.share)
    assert not torch.equal(PGD(access, x, seed=2).share, first.share)


def test_callers_modes_do_not_matter():
    x, boxed = data(), Attack(Linf(0.1), goals.margin, RandomSearch(turns=2), targets="all")
    for attack, access in (
        (PGD, expectation(Noisy(), draws=2)),
        (boxed, expectation(black_box(Noisy()), draws=2)),
    ):
        theory = attack(access, x)
        with torch.inference_mode():
            result = attack(access, x.clone())
        assert_close(result.x, theory.x, atol=0, rtol=0)
        assert torch.equal(result.share, theory.share)


def test_margins_of_several_classes_are_those_of_the_mean_logits():
    noise = torch.randn(5, 20, 3, generator=generator("slopes")).double()

    def drawn(x):
        return torch.tanh(network()(x) + noise.flatten(0, 1)[: len(x)])

    y, x = torch.zeros(20).long(), data()
    reply = expectation(drawn, draws=5).slopes(x, lambda z: goals.gaps(z, y))
    mean = white_box(lambda x: torch.stack([torch.tanh(network()(x) + part) for part in noise]).mean(0))
    theory = mean.slopes(x, lambda z: goals.gaps(z, y))
    assert reply.said.shape == (5, 20, 3)
    assert_close(reply.value, theory.value)
    assert_close(reply.gradient, theory.gradient)


def test_a_random_black_box_by_expectation():
    for reveal, search in (("scores", RandomSearch), ("labels", LabelSearch)):
        counting = Counting(Noisy(0.5))
        access = expectation(black_box(counting, reveal, budget=233), draws=5, verify=100)
        result = Attack(Linf(0.1), goals.margin, search(turns=50))(access, data())
        assert counting.backwards == counting.tracked == 0
        assert (result.forwards[~result.already_met] == 100 + 6 * 5 + 100).all()
        assert result.forwards.sum() == counting.sent
        assert ((result.share > 0.5) == result.success).all()
        assert 0 < result.share.mean() < 1
    with pytest.raises(BudgetError, match="more than 99 times"):
        Attack(Linf(0.1), goals.margin, RandomSearch())(expectation(black_box(Noisy(), budget=99)), data())


def test_expectation_of_what_is_not_random_is_said():
    with pytest.warns(
        UserWarning, match=r"100 draws of the classifier gave the same output.*white_box\(model\)"
    ):
        result = PGD(expectation(network(), draws=4), data())
    assert torch.equal(result.success, PGD(network(), data(), stop_early=False).success)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PGD(expectation(Noisy()), data())


def test_the_worst_of_several_targets_is_reported_on_fresh_draws():
    """Three wrong classes of chance 0.15 whatever x is: what is picked for luck errs in 0.45 of fresh draws."""

    def even(x):
        chosen = torch.multinomial(torch.tensor([0.55, 0.15, 0.15, 0.15]), len(x), replacement=True)
        return 5 * torch.eye(4, dtype=x.dtype)[chosen] + 0 * x.flatten(1)[:, :1]

    attack = Attack(Linf(0.1), goals.margin, pgd(Linf(0.1), steps=1).search, targets="all")
    result = attack(expectation(even, draws=1, verify=100), data(200), torch.zeros(200).long())
    assert not result.targeted
    assert abs(result.share.mean() - 0.45) < 4 * (0.2475 / (200 * 100)) ** 0.5
    left = ~result.already_wrong
    assert (result.forwards[left] == 3 * (100 + 2 + 100) + 100).all()


def test_draws_that_a_whole_batch_shares_are_no_draws():
    net, x = network(), data()

    def shared(x):
        return net(x + 0.3 * torch.randn(1, *x.shape[1:], dtype=x.dtype))

    for model in (shared, black_box(shared), black_box(shared, "labels")):
        attack = PGD if model is shared else Attack(Linf(0.1), goals.margin, LabelSearch(turns=1))
        with pytest.raises(AccessError, match=r"draws once for a whole batch: 4 copies .* Say draws=1"):
            attack(expectation(model, draws=4), x)
        result = attack(expectation(model, draws=1), x)
        assert 0 < result.share.mean() < 1


def test_bad_expectations_get_a_sentence():
    for make, sentence in (
        (lambda: expectation(Noisy(), draws=0), "draws is a whole number of at least 1"),
        (lambda: expectation(Noisy(), verify=1), "verify is a whole number of at least 2"),
        (lambda: expectation(expectation(Noisy())), "is a mean over draws already"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            make()
    with pytest.raises(AccessError, match=r"probabilities .* drop the last softmax"):
        PGD(expectation(nn.Sequential(Noisy(), nn.Softmax(1))), data())
    with pytest.raises(ArgumentError, match="needs gradient, which expectation"):
        PGD(expectation(black_box(Noisy())), data())
    with pytest.raises(AccessError, match="shows no gradient"):
        expectation(black_box(Noisy())).climb(data(), lambda z: z[:, 0])
    assert len(PGD(expectation(Noisy()), data(0))) == 0


# -------------------------------------------------------------------------------------------------------- bpda
def quantise(x):
    return (4 * x).round() / 4


def test_bpda_attacks_through_what_has_no_gradient():
    net, x = network(), data()
    defended = nn.Sequential(bpda(quantise), net)
    assert_close(defended(x), net(quantise(x)), atol=0, rtol=0)
    blind = PGD(lambda x: net(quantise(x)), x)
    seeing = PGD(white_box(defended), x)
    assert seeing.success.sum() > blind.success.sum()
    assert torch.equal(net(quantise(seeing.x)).argmax(1) != net(quantise(x)).argmax(1), seeing.success)


def test_bpda_leaves_torch_and_keeps_modules():
    net, x = network(), data()
    outside = nn.Sequential(bpda(lambda x: quantise(x).numpy().tolist()), net)
    assert_close(PGD(outside, x).x, PGD(nn.Sequential(bpda(quantise), net), x).x, atol=0, rtol=0)
    inner = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 16)).double()
    model = nn.Sequential(bpda(inner, nn.Flatten()), nn.Linear(16, 3).double())
    assert len(list(model.parameters())) == 4
    model.train()
    with pytest.warns(UserWarning, match=r"train mode \(Dropout\)"):
        PGD(model, x)
    assert inner[0].training
    assert all(p.grad is None for p in model.parameters())


def test_bpda_within_expectation():
    net, x = network(), data()
    drawn = bpda(lambda x: quantise(x + 0.1 * torch.randn_like(x)))
    result = fgsm(Linf(0.2))(expectation(nn.Sequential(drawn, net), draws=8), x)
    assert result.share is not None
    y = net(quantise(x)).argmax(1)
    sign = torch.autograd.grad(goals.cross_entropy(net(at := x.clone().requires_grad_()), y).sum(), at)[
        0
    ].sign()
    moved = fgsm(Linf(0.2))(expectation(nn.Sequential(drawn, net), draws=64), x, y, stop_early=False)
    same = ((moved.x - x).sign() == sign) | (moved.x == 0) | (moved.x == 1)
    assert same.double().mean() > 0.98


def test_bad_stand_ins_get_a_sentence():
    with pytest.raises(
        AccessError, match=r"forward gives shape \(20, 16\), x has.* \(20, 1, 4, 4\); the same"
    ):
        PGD(nn.Sequential(bpda(nn.Flatten()), network()), data())
    with pytest.raises(AccessError, match=r"backward gives \(20, 16\)"):
        PGD(nn.Sequential(bpda(quantise, nn.Flatten()), network()), data())
    with pytest.raises(ArgumentError, match="forward is a module or a function"):
        bpda(3)
    with pytest.raises(ArgumentError, match="backward is a module or a function"):
        bpda(quantise, 3)


# ---------------------------------------------------------------------------------------------------- gray box
@pytest.fixture(scope="module")
def stolen():
    counting = Counting(network(seed=1))
    architecture = network(seed=2)
    before = [p.clone() for p in architecture.parameters()]
    oracle = black_box(counting, "labels", budget=2)
    access = gray_box(architecture, oracle, data(400), epochs=60, lr=0.02, seed=0)
    assert access.queries == counting.sent == 400
    for p, old in zip(architecture.parameters(), before):
        assert torch.equal(p, old)
    return access, counting


def test_a_surrogate_is_climbed_and_the_oracle_decides(stolen):
    access, counting = stolen
    x, net = data(60), counting.net
    agree = (access.surrogate(x).argmax(1) == net(x).argmax(1)).double().mean()
    assert agree > 0.85
    y = net(x).argmax(1)
    y[:5] = (y[:5] + 1) % 3
    counting.sent = 0
    result = pgd(Linf(0.15), steps=10)(access, x, y, batch_size=16)
    assert torch.equal(result.already_wrong, net(x).argmax(1) != y)
    assert (result.forwards[:5] == 1).all()
    assert (result.forwards[5:] == 2).all()
    assert result.forwards.sum() == counting.sent
    assert (result.backwards == 0).all()
    assert counting.backwards == 0
    assert torch.equal(result.success, net(result.x).argmax(1) != y)
    assert result.share is None
    assert result.accuracy == (net(result.x).argmax(1) == y).double().mean()
    control = Attack(Linf(0.15), goals.margin, RandomSearch(turns=1))(black_box(net), x, y)
    assert result.success.sum() > control.success.sum() + 10


def test_searches_of_a_surrogate_are_free(stolen):
    access, counting = stolen
    counting.sent, before = 0, access.rows
    result = Attack(Linf(0.15), goals.margin, RandomSearch(turns=5, each=4))(access, data())
    assert access.rows - before == 20 * 5 * 4 + 1  # one shows how many classes there are
    assert result.forwards.max() == 2
    assert result.forwards.sum() == counting.sent
    assert (access.surrogate(result.x).amax(1) - access.surrogate(result.x).topk(2).values[:, 1] > 1).any()
    assert (
        result.distance > 0
    ).all()  # also where no point of the surrogate scores as high as the oracle's −1
    full = PGD(access, data(), stop_early=False)
    assert (full.forwards == 2).all()
    assert torch.equal(full.success, counting.net(full.x).argmax(1) != counting.net(data()).argmax(1))


def test_any_architecture_and_any_oracle():
    net, x = network(seed=1), data(300).float()
    for oracle in (net.float(), black_box(net.float(), bounds=([0.0], [1.0])), lambda x: net(x)):
        model = zoo.classifier((1, 4, 4), 3, hidden=(16,))
        access = gray_box(model, oracle, Split(x, None), epochs=2)
        result = PGD(access, data().float())
        assert result.x.dtype == torch.float32
        assert torch.equal(result.success, (net(result.x).argmax(1) != net(data().float()).argmax(1)))
        assert not model.statistics.measured
    noisy = gray_box(network(), expectation(black_box(Noisy(), "labels"), draws=3), data(100), epochs=2)
    assert noisy.queries == 300
    result = PGD(noisy, data())
    assert (result.forwards[~result.already_met] == 200).all()
    assert result.share is not None


def test_bad_gray_boxes_get_a_sentence():
    for make, error, sentence in (
        (lambda: gray_box(3, network(), data()), ArgumentError, "architecture is a module"),
        (lambda: gray_box(network(), network(), data(0)), ArgumentError, "data has no rows"),
        (lambda: gray_box(network(), network(), data() + 5), AccessError, "outside the bounds"),
        (
            lambda: gray_box(network(2), lambda x: x.sum((1, 2, 3)) > 0, data()),
            AccessError,
            "all 20 rows .* label 1",
        ),
        (lambda: gray_box(network(2), network(5), data(200), epochs=1), DataError, "labels reach"),
    ):
        with pytest.raises(error, match=sentence):
            make()
    with pytest.raises(BudgetError, match="more than 1 times"):
        PGD(gray_box(network(), black_box(network(), budget=1), data(50), epochs=1), data())
