"""The engine, PGD and FGSM: closed forms on linear models, independence of rows, nothing left behind."""

from __future__ import annotations

import json
from math import isnan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from psiphi.attacks import L2, Linf, Result, fgsm, pgd, threats
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.basis.registry import attacks
from psiphi.formulas import geometry, goals

BALLS = {"linf": Linf, "l2": L2}


def data(n: int, shape: tuple[int, ...] = (6,), dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Rows with a good part of their coordinates exactly at the walls of [0, 1]."""
    gen = torch.Generator().manual_seed(n)
    return (1.6 * torch.rand(n, *shape, dtype=dtype, generator=gen) - 0.3).clamp(0, 1)


def network(d: int = 6, k: int = 3, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(d, 24), nn.ReLU(), nn.Linear(24, k)).to(dtype).eval()


def two_classes(d: int = 6) -> tuple[nn.Linear, torch.Tensor]:
    """Logits (0, wᵀx + b), and w."""
    torch.manual_seed(2)
    net = nn.Linear(d, 2).double()
    with torch.no_grad():
        net.weight[0], net.bias[0] = 0, 0
    return net, net.weight[1].detach()


def optimum(ball: str, x: torch.Tensor, toward: torch.Tensor, eps: float) -> torch.Tensor:
    """argmax ⟨toward, u⟩ over ball ∩ [0, 1]: sign steps clipped; clip(λ toward) with λ by bisection."""
    if ball == "linf":
        return (x + eps * toward.sign()).clamp(0, 1)
    low, high = torch.zeros(len(x), 1, dtype=x.dtype), torch.full((len(x), 1), 1e6, dtype=x.dtype)
    for _ in range(200):
        middle = (low + high) / 2
        inside = ((x + middle * toward).clamp(0, 1) - x).norm(dim=1, keepdim=True) <= eps
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return (x + low * toward).clamp(0, 1)


# ------------------------------------------------------------------------------------------- closed forms
@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("eps", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_reaches_the_optimum_of_a_linear_model_in_a_box(ball, eps, random_start):
    net, w = two_classes()
    x = data(40)
    y = net(x).argmax(1)
    attack = pgd(BALLS[ball](eps), steps=40, step=eps / 2, random_start=random_start)
    result = attack(net, x, y, stop_early=False)
    best = optimum(ball, x, (1 - 2 * y[:, None]) * w, eps)
    with torch.no_grad():
        gap = goals.margin(net(best), y) - goals.margin(net(result.x), y)
    assert gap.abs().max() < 1e-9
    assert torch.equal(result.success, goals.succeeded(net(best), y))


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_fgsm_is_the_optimum_of_a_linear_model(eps):
    """L∞ in any box; L2 where the box is inactive (law 20)."""
    net, w = two_classes()
    x = data(40)
    for ball, rows in (("linf", x), ("l2", 0.4 + 0.2 * x)):
        y = net(rows).argmax(1)
        if ball == "l2" and eps > 0.3:
            continue
        result = fgsm(BALLS[ball](eps))(net, rows, y, stop_early=False)
        assert_close(result.x, optimum(ball, rows, (1 - 2 * y[:, None]) * w, eps), atol=1e-9, rtol=0)


@pytest.mark.parametrize("ball", BALLS)
def test_targeted_pgd_reaches_the_optimum(ball):
    net, w = two_classes()
    x = data(40)
    result = pgd(BALLS[ball](0.3), step=0.15)(net, x, target=1, stop_early=False)
    best = optimum(ball, x, w.expand_as(x), 0.3)
    assert (net(best)[:, 1] - net(result.x)[:, 1]).abs().max() < 1e-9
    assert torch.equal(
        result.success, goals.succeeded(net(best), result.success.long() * 0, torch.ones(40).long())
    )


def test_failures_return_the_highest_score_and_successes_are_verified():
    net, x = network(), data(200)
    y = net(x).argmax(1)
    result = pgd(Linf(0.05))(net, x, y)
    assert 0 < result.success.sum() < 200
    with torch.no_grad():
        assert torch.equal(goals.succeeded(net(result.x), y), result.success)
        assert_close(goals.cross_entropy(net(result.x), y), result.score)
        failed = ~result.success
        assert (result.score[failed] > goals.cross_entropy(net(x), y)[failed]).all()
    assert_close(geometry.linf_norm(result.x - x), result.distance)


def test_a_success_that_does_not_stand_its_verification_is_none():
    net = network()

    class Fickle(nn.Module):
        def forward(self, x):
            return -net(x) if torch.is_grad_enabled() else net(x)

    x = data(50)
    for stop_early in (True, False):
        result = pgd(Linf(0.0), steps=3)(Fickle(), x, stop_early=stop_early)
        assert not result.success.any()
        assert_close(result.score, goals.cross_entropy(net(x), net(x).argmax(1)).detach())


def test_counts_are_exact():
    """A success on the t-th point costs clean + t + verification forwards; a failure clean + steps + last."""
    net, x = network(), data(200)
    result = pgd(Linf(0.05), steps=7)(net, x)
    failed = ~result.success
    assert (result.forwards[failed] == 1 + 7 + 1).all()
    assert (result.backwards[failed] == 7).all()
    early = result.success & (result.backwards < 7)
    assert (result.forwards[early] == result.backwards[early] + 2).all()
    y = (net(x).argmax(1) + 1) % 3
    result = pgd(Linf(0.05), steps=7)(net, x, y)
    assert result.already_wrong.all()
    assert result.already_met.all()
    assert (result.forwards == 1).all()
    assert (result.backwards == 0).all()
    assert_close(result.x, x, atol=0, rtol=0)
    assert result.accuracy == 0
    assert isnan(result.success_rate)


def test_stop_early_only_saves_work():
    net, x = network(), data(200)
    early, full = pgd(Linf(0.05))(net, x), pgd(Linf(0.05))(net, x, stop_early=False)
    assert torch.equal(early.success, full.success)
    assert early.backwards.sum() < full.backwards.sum() == 200 * 40
    assert (full.score[full.success] >= early.score[full.success]).all()


def test_restarts_never_do_worse_and_start_anew():
    net, x = network(), data(100)
    one, three = pgd(Linf(0.05), steps=2)(net, x), pgd(Linf(0.05), steps=2, restarts=3)(net, x)
    assert (three.success | ~one.success).all()
    failed = ~three.success
    assert (three.score[failed] >= one.score[failed]).all()
    assert (three.score[failed] > one.score[failed]).any()
    assert (three.backwards[failed] == 3 * 3 - 1).all()


def test_ties_are_undecided_and_count_as_broken():
    class Tie(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :1] * torch.zeros(1, 3, dtype=x.dtype)

    result = pgd(Linf(0.1), steps=2)(Tie(), data(4), [0, 1, 2, 0])
    assert result.undecided.all()
    assert not result.success.any()
    assert result.accuracy == 0


def test_a_targeted_attack_still_works_on_misclassified_rows():
    net, x = network(), data(60)
    answers = net(x).argmax(1)
    y, target = (answers + 1) % 3, (answers + 2) % 3
    result = pgd(Linf(0.3))(net, x, y, target=target)
    assert result.already_wrong.all()
    assert not result.already_met.any()
    assert (result.backwards > 0).all()
    assert torch.equal(goals.succeeded(net(result.x), y, target), result.success)
    assert result.success.any()


# ---------------------------------------------------------------------------------- independence of the batch
@pytest.mark.parametrize("ball", BALLS)
def test_rows_do_not_depend_on_the_batch_in_float64(ball):
    net, x = network(), data(150)
    attack = pgd(BALLS[ball](0.1), steps=9, restarts=2)
    whole = attack(net, x, seed=5)
    for batch_size in (1, 7, 64):
        part = attack(net, x, seed=5, batch_size=batch_size)
        assert_close(part.x, whole.x, atol=1e-12, rtol=0)
        for name in ("success", "undecided", "forwards", "backwards"):
            assert torch.equal(getattr(part, name), getattr(whole, name)), name
    some = torch.tensor([149, 3, 77])
    assert_close(attack(net, x[some], seed=5, rows=some).x, whole.x[some], atol=1e-12, rtol=0)
    shard = attack(net, x[100:], seed=5, rows=range(100, 150))
    assert_close(shard.x, whole.x[100:], atol=1e-12, rtol=0)
    assert (attack(net, x, seed=6).x - whole.x).abs().max() > 1e-3


@pytest.mark.parametrize("ball", BALLS)
def test_rows_do_not_depend_on_the_batch_in_float32(ball):
    net, x = network(dtype=torch.float32), data(150, dtype=torch.float32)
    attack = pgd(BALLS[ball](0.1), steps=9)
    whole, part = attack(net, x), attack(net, x, batch_size=11)
    assert_close(part.distance, whole.distance, atol=1e-4, rtol=0)
    assert torch.equal(part.success, whole.success)


def test_radii_of_their_own():
    net, x = network(), data(30)
    radii = torch.linspace(0, 0.2, 30, dtype=torch.float64)
    for ball in BALLS.values():
        whole = pgd(ball(radii))(net, x, seed=1, batch_size=7)
        for i in (0, 13, 29):
            alone = pgd(ball(float(radii[i])))(net, x[i : i + 1], seed=1, rows=range(i, i + 1))
            assert_close(alone.x, whole.x[i : i + 1], atol=1e-12, rtol=0)


# ------------------------------------------------------------------------------------ the model, as it was found
class Meddling(nn.Module):
    """Batch normalisation, frozen and trained parameters, gradients, a buffer it changes, global noise it draws."""

    def __init__(self, fails_at: int | None = None):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)
        )
        self.body[1].bias.requires_grad_(False)
        self.body[4].weight.grad = torch.ones(3, 8)
        self.body[3].eval()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.seen, self.fails_at = 0, fails_at

    def forward(self, x):
        self.calls += 1
        self.replaced = self.replaced + 1
        self.seen += 1
        torch.rand(1)
        if self.seen == self.fails_at:
            raise KeyError("stop")
        return self.body(x)


def picture(net: nn.Module) -> dict:
    return {
        "modes": [m.training for m in net.modules()],
        "flags": [p.requires_grad for p in net.parameters()],
        "values": [v.detach().clone() for v in net.state_dict().values()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "objects": [id(v) for v in (*net.parameters(), *net.buffers())],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("fails_at", [None, 1, 2, 6])
@pytest.mark.filterwarnings("ignore:Meddling is in train mode")
def test_the_model_is_left_exactly_as_it_was_found(fails_at):
    net, x = Meddling(fails_at), data(20, dtype=torch.float32)
    before = picture(net)
    if fails_at is None:
        pgd(Linf(0.05), steps=5)(net, x, batch_size=8)
    else:
        with pytest.raises(KeyError):
            pgd(Linf(0.05), steps=5)(net, x, batch_size=8)
    after = picture(net)
    assert net.seen >= (fails_at or 6)
    for name in ("modes", "flags", "objects"):
        assert after[name] == before[name], name
    for name in ("values", "grads"):
        for a, b in zip(after[name], before[name]):
            assert (a is None and b is None) or torch.equal(a, b), name
    assert torch.equal(after["random"], before["random"])


def test_inputs_are_left_alone_and_callers_modes_do_not_matter():
    net, x = network(), data(20)
    kept, attack = x.clone(), pgd(Linf(0.1), steps=3)
    theory = attack(net, x)
    assert torch.equal(x, kept)
    assert not theory.x.requires_grad
    with torch.no_grad():
        assert_close(attack(net, x).x, theory.x, atol=0, rtol=0)
    with torch.inference_mode():
        assert_close(attack(net, x.clone()).x, theory.x, atol=0, rtol=0)
    assert_close(attack(net, x.clone().requires_grad_()).x, theory.x, atol=0, rtol=0)


# --------------------------------------------------------------------------------------------- any call at all
@settings(max_examples=100)
@given(
    ball=st.sampled_from(sorted(BALLS)),
    shape=st.sampled_from([(1,), (6,), (2, 3), (1, 3, 4), (2, 2, 2, 2)]),
    n=st.sampled_from([0, 1, 2, 5, 9]),
    batch_size=st.sampled_from([1, 2, 4, 100]),
    eps=st.sampled_from([0.0, 1e-6, 0.1, 3.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bounds=st.sampled_from([(0.0, 1.0), (-2.0, 5.0)]),
    steps=st.integers(1, 4),
    stop_early=st.booleans(),
    targeted=st.booleans(),
)
def test_any_call_stays_in_ball_and_box(
    ball, shape, n, batch_size, eps, dtype, bounds, steps, stop_early, targeted
):
    from math import prod

    from psiphi.access import white_box

    net, x = network(prod(shape), dtype=dtype), data(n, shape, dtype)
    x = x * (bounds[1] - bounds[0]) + bounds[0]
    x = x.clamp(*bounds)
    threat = BALLS[ball](eps)
    result = pgd(threat, steps=steps)(
        white_box(net, bounds),
        x,
        target=1 if targeted else None,
        batch_size=batch_size,
        stop_early=stop_early,
    )
    assert result.x.shape == x.shape
    assert result.x.dtype == dtype
    assert ((result.x >= bounds[0]) & (result.x <= bounds[1])).all()
    assert (threat.distance(result.x, x) <= eps + 50 * torch.finfo(dtype).eps * (1 + eps)).all()
    for name in ("success", "undecided", "already_met", "distance", "score", "forwards"):
        assert getattr(result, name).shape == (n,), name
    assert "rows" in repr(result)
    assert result.summary()
    if eps == 0:
        assert_close(result.x, x, atol=0, rtol=0)
        assert torch.equal(result.success, result.already_met)


def test_progress_ends_at_the_total():
    seen = []
    pgd(Linf(0.05), steps=3)(network(), data(20), batch_size=8, on_progress=lambda *s: seen.append(s))
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


# ----------------------------------------------------------------------------------------- names, text and files
def test_attacks_say_what_they_are():
    attack = pgd(Linf(0.2), steps=40, step=0.02)
    assert repr(attack).startswith("pgd(Linf(0.2), steps=40, step=0.02, random_start=True, restarts=1, goal=")
    assert repr(fgsm(L2(1.5))) == "fgsm(L2(1.5))"
    assert {"pgd", "fgsm"} <= {entry.name for entry in attacks}
    assert attacks["pgd"].build(Linf(0.1)).recipe["arguments"]["steps"] == 40
    assert attack == pgd(Linf(0.2), steps=40, step=0.02)


def test_threats_are_read_from_text():
    assert threats.parse("linf:0.2") == Linf(0.2)
    assert threats.parse(" L2:1.5") == L2(1.5)
    assert threats.parse("linf:8/255") == Linf(8 / 255)
    for text in ("lin", "l7:1", "linf:", "linf:-1", "linf:1/0", "l2:many"):
        with pytest.raises(ArgumentError, match=r"e\.g\. linf:0\.2 or linf:8/255"):
            threats.parse(text)


def test_results_come_back_from_disk(tmp_path):
    result = pgd(Linf(0.05), steps=3)(network(), data(20), seed=9)
    result.save(tmp_path / "run.1")
    back = Result.load(tmp_path / "run.1")
    for name in (
        "x",
        "success",
        "undecided",
        "already_met",
        "already_wrong",
        "distance",
        "score",
        "forwards",
    ):
        assert torch.equal(getattr(back, name), getattr(result, name)), name
    assert (back.kind, back.targeted, back.accuracy) == ("fixed-perturbation", False, result.accuracy)
    assert back.provenance == json.loads(json.dumps(result.provenance))
    assert back.provenance["seed"] == 9


def test_spoilt_files_get_a_sentence(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        Result.load(tmp_path / "none")
    pgd(Linf(0.05), steps=3)(network(), data(20)).save(tmp_path / "run")
    npz = tmp_path / "run.npz"
    npz.write_bytes(npz.read_bytes()[:-9])
    with pytest.raises(FileError, match="cut short or changed"):
        Result.load(tmp_path / "run")
    npz.unlink()
    with pytest.raises(FileError, match="cannot be read"):
        Result.load(tmp_path / "run")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileError, match="no attack result of this version"):
        Result.load(tmp_path / "run")
