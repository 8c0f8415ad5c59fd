"""One pixel: exhaustive and evolutionary searches, the count of what they send, and that rows are on their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import black_box, white_box
from psiphi.attacks import Attack, Linf, one_pixel
from psiphi.attacks.searches import Evolution, Palette
from psiphi.attacks.searches._evolution import _Canvas, _others
from psiphi.attacks.threats import Pixels
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import pixels
from psiphi.formulas.geometry import Box
from psiphi.formulas.goals import margin


def images(b: int = 16, shape: tuple[int, ...] = (1, 5, 5), levels: int = 3) -> torch.Tensor:
    gen = torch.Generator().manual_seed(b)
    return torch.randint(levels, (b, *shape), generator=gen).double() / (levels - 1)


def network(d: int = 25, k: int = 4, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(d, 24), nn.Tanh(), nn.Linear(24, k)).double().eval()


class Asked(nn.Module):
    """A classifier that keeps what it was asked, batch by batch."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.batches = net, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(x.detach().clone())
        return self.net(x)


EVOLVE = {"search": "evolution", "population": 36, "generations": 4}
WAYS = [{}, EVOLVE, EVOLVE | {"palette": "corners"}, EVOLVE | {"pixels": 3}]


# ---------------------------------------------------------------------------------------------- both searches
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("target", [None, 2])
def test_results_do_not_depend_on_the_batch(how, target):
    net, x = network(), images()
    with torch.no_grad():
        y = net(x).argmax(1)
    y = torch.where(y == 2, 0, y) if target is not None else y
    whole = one_pixel(**how)(net, x, y, target=target, seed=3)
    assert 0 < int(whole.broken.sum()) < len(x)
    for size in (1, 70, 1000):
        other = one_pixel(**how)(net, x, y, target=target, seed=3, batch_size=size)
        for name in ("success", "forwards"):
            assert torch.equal(getattr(other, name), getattr(whole, name))
        assert_close(other.x, whole.x)
        assert_close(other.score, whole.score)
    some = torch.tensor([4, 11, 12])
    part = one_pixel(**how)(net, x[some], y[some], target=target, seed=3, rows=some)
    assert_close(part.x, whole.x[some])
    assert torch.equal(part.forwards, whole.forwards[some])


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 5, 5), (25,)])
def test_points_keep_to_the_threat_and_every_forward_counts(how, shape):
    net = Asked(network(75 if shape[0] == 3 else 25))
    x = images(12, shape)
    result = one_pixel(**how)(black_box(net), x, stop_early=False)
    most = how.get("pixels", 1)
    assert (result.distance <= most).all()
    assert ((result.x >= 0) & (result.x <= 1)).all()
    assert int(result.forwards.sum()) == sum(map(len, net.batches))
    assert (result.backwards == 0).all()
    again = margin(net.net(result.x), result.label)
    assert_close(again, result.score)
    assert torch.equal(result.success, again > 1e-9)
    if how:
        assert (result.forwards == 1 + 36 * 5).all()


@pytest.mark.parametrize("how", WAYS)
def test_two_classes_and_a_black_box_with_a_budget(how):
    net, x = network(k=2), images(16)
    whole = one_pixel(**how)(net, x, stop_early=False)
    assert whole.success.any()
    for budget in (2, 40, 100):
        model = Asked(net)
        access = black_box(model, budget=budget)
        result = one_pixel(**how)(access, x, stop_early=False)
        assert (result.forwards <= budget).all()
        assert int(result.forwards.sum()) == sum(map(len, model.batches))
        assert (result.score <= whole.score + 1e-12).all()


# ------------------------------------------------------------------------------------------------- exhaustive
def test_exhaustive_asks_each_distinct_point_once():
    net = Asked(network())
    x = images(3)
    one_pixel()(black_box(net), x, stop_early=False, batch_size=64)
    sent = torch.cat(net.batches)
    for row in x:
        differ = (sent != row).flatten(1).sum(1)
        mine = sent[differ == 1]
        grey = int(((row != 0) & (row != 1)).sum())
        assert len(mine.unique(dim=0)) == len(mine) == row.numel() + grey


def test_labels_are_enough():
    net, x = network(), images()
    scores, labels = (one_pixel()(black_box(net, reveal), x) for reveal in ("scores", "labels"))
    assert torch.equal(scores.success, labels.success)
    assert torch.equal(scores.forwards, labels.forwards)
    with pytest.raises(ArgumentError, match="needs scores"):
        one_pixel(search="evolution")(black_box(net, "labels"), x)


def test_large_changes_in_the_middle_come_first():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    net = Asked(network().float())
    one_pixel(palette=(0.25, 1.0))(black_box(net), x, stop_early=False)
    first = (net.batches[1] - x).flatten(1).abs().sum(1)
    assert first[:4].tolist() == [1, 1, 1, 1]
    place = (net.batches[1][:4] - x).flatten(1).abs().argmax(1)
    assert set(place.tolist()) == {7, 11, 13, 17}
    assert len(first) == 32
    assert sum(map(len, net.batches[1:])) == 2 * 24 + 1


def test_nothing_to_paint_costs_one_point():
    net = network()
    x = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    result = one_pixel(palette=(0.0,))(net, x, stop_early=False)
    assert torch.equal(result.x, x)
    assert (result.forwards == 2).all()
    assert torch.equal(
        one_pixel(palette=(0.0, 0.0, 1.0))(net, x, stop_early=False).forwards - 1 <= 26, x[:, 0, 0, 0] == 0
    )


def test_a_box_of_each_channel_has_its_own_corners():
    net, x = Asked(network(50)), torch.tensor([0.5, 1.0]).view(1, 2, 1, 1).expand(2, 2, 5, 5).double()
    one_pixel()(white_box(net, ((0, -1), (1, 3))), x, stop_early=False)
    sent = torch.cat(net.batches)
    painted = pixels.flat(sent)[
        pixels.changed(sent, x[:1].expand(len(sent), -1, -1, -1))[:, None].expand(-1, 2, -1)
    ]
    assert {tuple(each) for each in painted.view(-1, 2).tolist()} <= {(a, b) for a in (0, 1) for b in (-1, 3)}


def test_flat_data_with_walls_of_each_coordinate():
    net = network(6)
    lo, hi = (-1.0, 0, 0, 0, 2, 0), (0.0, 1, 1, 1, 5, 1)
    x = (torch.tensor(lo) + torch.tensor(hi)).double().expand(3, 6) / 2
    result = one_pixel()(white_box(net, (lo, hi)), x, stop_early=False)
    assert (result.distance == 1).all()
    assert (result.forwards == 1 + 12 + result.success).all()
    wall = (result.x == torch.tensor(lo)) | (result.x == torch.tensor(hi))
    assert torch.equal(wall, result.x != x)


# -------------------------------------------------------------------------------------------------- evolution
def test_three_others_are_different_and_uniform():
    n, rows = 7, 3000
    a, b, c = _others(n, Noise.of(0, rows).each(torch.zeros(rows).long()))
    triples = torch.stack((a, b, c), 2)
    assert triples.min() == 0
    assert triples.max() == n - 2
    assert (triples.sort(2).values.diff(dim=2) > 0).all()
    for numbers in (a, b, c):
        share = numbers.flatten().bincount() / numbers.numel()
        error = 4 * (1 / 6 * 5 / 6 / numbers.numel()) ** 0.5
        assert (share - 1 / 6).abs().max() < error


def test_one_generation_by_hand():
    """g_a + F (g_b − g_c) with positions folded back and colours clipped; the child stays where it scores no less."""
    n, factor = 9, 0.8
    search = Evolution(n, 3, factor)
    x, noise = torch.zeros(2, 2, 4, 4), Noise.of(5, 2)
    threat = Pixels(2).expand(x)
    s = search.start(x, torch.zeros(2).long(), threat, Box(0.0, 1.0), noise)
    assert s.genes.shape == (2, n, 2, 4)
    scores = torch.linspace(0, 1, 2 * n)[torch.randperm(2 * n, generator=torch.Generator().manual_seed(0))]
    for turn in range(2):
        before = s
        points, owner = search.ask(s, 1000)
        assert len(points) == 2 * n
        answer = type("Answer", (), {"score": scores + 0.2 * turn * (-1.0) ** torch.arange(2 * n)})()
        s = search.tell(s, points, owner, answer)
    better = answer.score.view(2, n) >= scores.view(2, n)
    assert better.any()
    assert not better.all()
    genes = torch.where(better[..., None, None], before.trial, before.genes)
    assert torch.equal(s.genes, genes)
    assert torch.equal(s.score, torch.maximum(answer.score, scores).view(2, n))
    a, b, c = _others(n, noise.each(s.generation))
    own = torch.arange(n)
    for row in range(2):
        for i in range(n):
            g, h, k = (genes[row, (own[i] + 1 + o[row, i]) % n] for o in (a, b, c))
            child = g + factor * (h - k)
            place = child[:, :2]
            place = torch.where(place < 0, -place, torch.where(place > 1, 2 - place, place))
            assert_close(s.trial[row, i, :, :2], place)
            assert_close(s.trial[row, i, :, 2:], child[:, 2:].clamp(0, 1))
    assert s.generation.tolist() == [2, 2]


def test_genes_of_the_first_generation():
    """Positions uniform, colours N(½, ¼) clipped: 0 and 1 with probability Φ(−1) each."""
    x = torch.zeros(40, 1, 4, 4)
    s = Evolution(100, 0).start(x, x, Pixels(1).expand(x), Box(0.0, 1.0), Noise.of(2, 40))
    place, colour = s.genes[..., :2].double(), s.genes[..., 2].double()
    assert abs(place.mean() - 0.5) < 4 / (12 * place.numel()) ** 0.5
    tail = 0.158655
    for wall in (0, 1):
        assert abs((colour == wall).double().mean() - tail) < 4 * (tail * (1 - tail) / colour.numel()) ** 0.5


def test_what_genes_mean():
    lo, hi = torch.zeros(1, 6), torch.full((1, 6), 2.0)
    canvas = _Canvas((2, 3), lo, hi, None)
    genes = torch.tensor([[[0.0, 0.0, 0.5]], [[0.49, 0.34, 1.0]], [[0.5, 0.99, 0.0]], [[1.0, 1.0, 0.25]]])
    place, colour = canvas.read(genes)
    assert place.flatten().tolist() == [0, 1, 5, 5]
    assert colour.flatten().tolist() == [1.0, 2.0, 0.0, 0.5]


def test_more_pixels_break_more():
    net, x = network(seed=1), images(30)
    shares = [
        one_pixel(k, search="evolution", population=32, generations=5)(net, x).success_rate for k in (1, 3)
    ]
    assert shares[1] > shares[0] > 0


def test_a_curve_over_the_number_of_pixels_equals_single_runs():
    net, x = network(), images(20)
    attack = one_pixel(2, search="evolution", population=16, generations=3)
    curve = attack.curve(net, x, eps=[1, 3], independent=True)
    for place, k in enumerate((1, 3)):
        single = one_pixel(k, search="evolution", population=16, generations=3)(net, x)
        assert torch.equal(curve.robust[:, place], single.robust)


# --------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: one_pixel(3, search="exhaustive"), "one pixel"),
        (lambda: one_pixel(0), "pixels"),
        (lambda: one_pixel(search="random"), "exhaustive"),
        (lambda: one_pixel(palette="rainbow"), "palette"),
        (lambda: one_pixel(palette=()), "palette"),
        (lambda: one_pixel(palette=(0.0, float("nan"))), "palette"),
        (lambda: Evolution(population=3), "population"),
        (lambda: Evolution(generations=-1), "generations"),
        (lambda: Evolution(factor=0), "factor"),
        (lambda: Attack(Linf(0.1), margin, Palette()), "pixels to paint"),
        (lambda: Attack(Linf(0.1), margin, Evolution()), "pixels to paint"),
    ],
)
def test_what_is_no_attack(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


@pytest.mark.parametrize(
    ("attack", "shape", "match"),
    [
        (Attack(Pixels(2), margin, Palette()), (1, 5, 5), "evolve"),
        (one_pixel(palette=((0.0, 1.0),)), (1, 5, 5), "2 channels"),
        (one_pixel(palette=(0.0, 255.0)), (1, 5, 5), "255"),
        (one_pixel(), (25, 1, 1), "name a palette"),
    ],
)
def test_what_does_not_fit_the_data(attack, shape, match):
    with pytest.raises(ArgumentError, match=match):
        attack(network(), images(4, shape), torch.zeros(4).long(), stop_early=False)
