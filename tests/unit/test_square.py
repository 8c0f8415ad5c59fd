"""Random search with windows: rows, shapes, counts, options. Its optimum, its table and its windows are law 19c."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box, white_box
from psiphi.attacks import L1, L2, Attack, Linf, square
from psiphi.attacks._protocols import Answer, take
from psiphi.attacks.searches import Squares
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.basis.registry import attacks
from psiphi.formulas import goals, windows
from psiphi.formulas.geometry import Box

BALLS = {"linf": Linf(0.2), "l2": L2(0.9), "l1": L1(2.5)}
EACH = pytest.mark.parametrize("ball", BALLS)


def network(shape: tuple[int, ...], k: int = 3) -> nn.Sequential:
    gen = torch.Generator().manual_seed(len(shape))
    d = torch.Size(shape).numel()
    net = nn.Sequential(nn.Flatten(), nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, k)).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=gen, dtype=p.dtype) / p.shape[-1] ** 0.5)
    return net


def data(n: int, *shape: int) -> torch.Tensor:
    """Rows of [0, 1] with a good part of their coordinates at the walls."""
    gen = torch.Generator().manual_seed(n)
    return (1.6 * torch.rand(n, *shape, dtype=torch.float64, generator=gen) - 0.3).clamp(0, 1)


def test_it_is_known_by_name_with_its_published_defaults():
    default = {name: p.default for name, p in attacks["square"].parameters.items()}
    assert (default["queries"], default["p_init"], default["restarts"], default["goal"]) == (
        5000,
        0.8,
        1,
        "margin",
    )
    attack = attacks["square"].build(Linf(0.1))
    assert repr(attack).startswith("square(Linf(0.1), queries=5000")
    assert attack.search == Squares()


@EACH
def test_rows_do_not_know_of_each_other(ball):
    """Rows that enter late, beside rows in the middle of their search, do as they do alone; some leave early."""
    net, x = network((1, 6, 6)), data(9, 1, 6, 6)
    attack = square(BALLS[ball], queries=12, restarts=2)
    whole = attack(net, x, seed=3)
    assert 0 < int(whole.success.sum()) < len(x)
    for size in (2, 5):
        part = attack(net, x, seed=3, batch_size=size)
        assert_close(part.x, whole.x, atol=0, rtol=0)
        assert torch.equal(part.forwards, whole.forwards)
    some = attack(net, x[5:], net(x[5:]).argmax(1), seed=3, rows=range(5, 9))
    assert_close(some.x, whole.x[5:], atol=0, rtol=0)
    other = attack(net, x, seed=4, stop_early=False)
    assert not torch.equal(other.x, attack(net, x, seed=3, stop_early=False).x)


@EACH
@pytest.mark.parametrize("shape", [(7,), (1,), (5, 6), (3, 4, 9), (2, 3, 4, 5)], ids=str)
def test_any_shape_is_searched(shape, ball):
    """Within ball and box, and the score rises in every row, on a box with walls of its own for each channel."""
    net, x = network(shape), data(6, *shape)
    across = (-1, *[1] * (len(shape) - 1))
    lo, hi = torch.linspace(-0.1, 0, shape[0]).double(), torch.linspace(1, 1.2, shape[0]).double()
    access = white_box(net, (lo, hi))
    lo, hi = lo.view(across), hi.view(across)
    y = net(x).argmax(1)
    result = square(BALLS[ball], queries=60)(access, x, y, stop_early=False)
    assert (result.distance <= BALLS[ball].eps * (1 + 1e-9)).all()
    assert ((result.x >= lo) & (result.x <= hi)).all()
    assert (result.score > goals.margin(net(x), y)).all()
    assert int(result.backwards.sum()) == 0


@EACH
def test_every_row_sent_counts(ball):
    net, x = network((1, 6, 6)), data(9, 1, 6, 6)
    hard = {"linf": Linf(0.01), "l2": L2(0.01), "l1": L1(0.01)}[ball]
    assert square(hard, queries=20)(black_box(net), x).forwards.tolist() == [21] * 9
    assert square(hard, queries=20, restarts=3)(black_box(net), x).forwards.tolist() == [61] * 9
    assert square(hard, queries=20)(black_box(net, budget=8), x).forwards.tolist() == [8] * 9


@EACH
def test_another_restart_is_another_search(ball):
    """Two restarts return the better of two runs, the first of which is that of one restart."""
    net, x = network((1, 6, 6)), data(8, 1, 6, 6)
    one, two = (
        square(BALLS[ball], queries=25, restarts=n)(black_box(net), x, seed=1, stop_early=False).score
        for n in (1, 2)
    )
    assert (two >= one).all()
    assert (two > one).any()
    assert (two == one).any()


def test_a_restart_begins_with_other_stripes():
    """The change is the same all along a column in the first point of each run, and in no other point."""
    net, x, sent = network((1, 6, 6)), data(8, 1, 6, 6) * 0.2 + 0.4, []

    def classifier(v: torch.Tensor) -> torch.Tensor:
        sent.append(v.clone())
        return net(v)

    square(Linf(0.05), queries=10, restarts=3)(black_box(classifier), x, stop_early=False)
    change = torch.stack(sent[1:]) - x
    striped = (change.amax(3) - change.amin(3) < 1e-9).all((2, 3)).all(1)
    assert striped.nonzero().flatten().tolist() == [0, 10, 20]
    assert not torch.equal(change[0], change[10])


@EACH
def test_targeted_and_untargeted_agree_for_two_classes(ball):
    net, x = network((1, 5, 5), k=2), data(10, 1, 5, 5)
    y = torch.arange(10) % 2
    away, towards = (square(BALLS[ball], queries=50)(net, x, y, target=t, seed=2) for t in (None, 1 - y))
    assert_close(away.x, towards.x, atol=0, rtol=0)


@pytest.mark.parametrize(("ball", "share"), [("linf", 0.9), ("l2", 0.5), ("l1", 0.3)])
def test_most_of_the_optimum_of_a_linear_score_is_reached(ball, share):
    """Of ε‖w‖_*, w smooth with a sign for each half; inside, so that no wall is near."""
    place = torch.linspace(-1, 1, 8, dtype=torch.float64)
    w = torch.outer(place.sign() * (1 - place.abs() / 2), 1 - place.abs() / 2).flatten()
    net = nn.Linear(64, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.stack((0 * w, w)))
        net.bias.copy_(torch.tensor([100.0, 0.0]))
    x, threat = data(5, 1, 8, 8) * 0.2 + 0.4, {"linf": Linf(0.1), "l2": L2(0.2), "l1": L1(0.3)}[ball]
    score = square(threat, queries=300)(nn.Sequential(nn.Flatten(), net), x).score
    gain = score - goals.margin(net(x.flatten(1)), torch.zeros(5).long())
    most = threat.eps * threat.dual(w[None])
    assert (gain >= share * most).all(), (gain / most).tolist()
    assert (gain <= most * (1 + 1e-9)).all()


@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 3), (4, 9), (7, 7), (6, 6)], ids=str)
def test_a_bump_is_a_pile_of_rectangles(shape, q):
    """Squares around the middle, cut off at the border, one pixel wider on each side and lower by 1/k^(4/q) each."""
    h, w = shape
    pile = torch.zeros(h, w, dtype=torch.float64)
    for k in range(max(h, w) // 2 + 1):
        top, left = max(h // 2 - k, 0), max(w // 2 - k, 0)
        pile[top : h // 2 + k + 1, left : w // 2 + k + 1] += (k + 1.0) ** (-4 // q)
    assert_close(windows.bump(h, w, q), pile / pile.abs().pow(q).sum() ** (1 / q))
    above, beside = windows.lobes(h, w, q)
    for each in (above, beside):
        assert_close(each.abs().pow(q).sum().item(), 1.0)
    assert (above[: h // 2] > 0).all()
    assert (above[h // 2 :] < 0).all()
    assert (beside[:, : w // 2] > 0).all()
    assert (beside[:, w // 2 :] < 0).all()


def test_windows_of_narrow_images_keep_their_share():
    assert windows.sides(0.8, 28, 28) == (25, 25)
    assert windows.sides(0.8, 1, 100) == (1, 80)
    assert windows.sides(0.8, 100, 1) == (80, 1)
    assert windows.sides(0.5, 4, 100) == (4, 50)
    assert windows.sides(0.01, 4, 100) == (2, 2)
    assert windows.sides(1e-4, 4, 100) == (1, 1)
    assert windows.sides(0.05, 28, 28, odd=True) == (7, 7)
    assert windows.sides(1e-4, 28, 28, odd=True) == (3, 3)
    assert windows.sides(0.8, 1, 1, odd=True) == (1, 1)


def test_it_says_what_it_needs():
    net, x = network((1, 6, 6)), data(3, 1, 6, 6)
    for ball in (Linf(), L2(), L1()):
        with pytest.raises(ArgumentError, match="no radius"):
            square(ball, queries=3)(net, x)
    for wrong in ({"queries": 0}, {"p_init": 0.0}, {"p_init": 1.2}, {"restarts": 0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            square(Linf(0.1), **wrong)

    class Other(Linf):
        norm = "other"

    with pytest.raises(ArgumentError, match="balls of Linf, L2, L1"):
        Attack(Other(0.1), goals.margin, Squares())


@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.9), L1(4.0)], ids=repr)
def test_asking_ahead_is_the_same_walk_and_does_not_know_the_batch(ball):
    """Each step's point is that of one query at a time; only what lies behind a success is sent for nothing."""
    net, x = network((1, 6, 6)).double(), data(7, 1, 6, 6).double()
    y = net(x).argmax(1)

    def score(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return goals.margin(net(points), labels)

    ends = []
    for ahead, room in ((1, 512), (16, 512), (16, 20)):
        search = Squares(150, restarts=2, ahead=ahead)
        threat, noise = ball.expand(x), Noise.of(3, len(x), dtype=x.dtype)
        s, turns = search.start(x, y, threat, Box(0, 1), noise), 0
        with torch.no_grad():
            while not search.done(s).all():
                left = (~search.done(s)).nonzero().squeeze(1)
                part = take(s, left)
                points, owner = search.ask(part, room)
                value = score(points, y[left][owner])
                told = search.tell(part, points, owner, Answer(value, value > 0))
                for name in ("best", "score", "step", "failed", "draws"):
                    getattr(s, name)[left] = getattr(told, name)
                turns += 1
        ends.append((s.best, s.score, turns))
    assert ends[1][2] < 0.8 * ends[0][2]
    for best, score_, _ in ends[1:]:
        assert_close(best, ends[0][0], atol=1e-12, rtol=0)
        assert_close(score_, ends[0][1], atol=1e-12, rtol=0)
    attack = square(ball, 120, ahead=16)
    whole = attack(net, x, stop_early=False)
    parts = attack(net, x, stop_early=False, batch_size=3)
    for name in ("x", "score", "forwards"):
        assert_close(getattr(parts, name), getattr(whole, name), atol=1e-12, rtol=0)
    box = black_box(net, "scores", budget=200)
    assert torch.equal(attack(box, x).forwards, square(ball, 120)(box, x).forwards)
