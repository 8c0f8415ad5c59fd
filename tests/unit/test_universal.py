"""One change for all inputs: what it may be, what it does to others, and on disk."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.access import black_box, expectation, white_box
from psiphi.attacks import L1, L2, Linf, Perturbation, universal
from psiphi.attacks._perturbation import keys
from psiphi.attacks.threats import Features, Patch
from psiphi.basis.errors import ArgumentError, DataError, FileError, ShapeError
from psiphi.formulas.intervals import wilson

SHAPE = (2, 6, 6)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Linear(16, 3)).eval()


def images(n: int = 96, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threat", [Linf(0.3), L2(2.0), L1(8.0), Patch(3, eps=0.5)], ids=str)
def test_it_stays_in_the_threat_and_the_box_and_fools_unseen_rows(threat):
    net, x = network(), images()
    u = universal(threat, steps=40).fit(net, x[:48])
    moved = u(x)
    zero = torch.zeros(1, *SHAPE)
    assert threat.distance(u.delta[None], zero) <= threat.eps * (1 + 1e-5)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert_close(moved, (x + u.delta).clamp(0, 1), atol=0, rtol=0)
    if isinstance(threat, Patch):
        assert (u.delta[:, ~threat.window(SHAPE)] == 0).all()
    plain = Perturbation(threat.project(torch.randn(1, *SHAPE), zero, pp.formulas.geometry.Box(-1, 1))[0])
    # An effect of a fifth of the rows: a random change of the same size does far less.
    assert u.fooling_rate(net, x[48:]).value >= plain.fooling_rate(net, x[48:]).value + 0.2


def test_a_target_is_reached():
    net, x = network(), images()
    for target in range(3):
        u = universal(Linf(0.4), target=target, steps=40).fit(net, x[:48])
        assert u.hit_rate(net, x[48:]).value >= 0.9
    with pytest.raises(ArgumentError, match="no target"):
        universal(Linf(0.4), steps=2).fit(net, x[:48]).hit_rate(net, x[48:])


@pytest.mark.parametrize("random_place", [False, True])
def test_a_patch_replaces_its_window(random_place):
    net, x = network(), images(40)
    u = universal(Patch((2, 3), (1, 2)), steps=10, random_place=random_place).fit(net, x[:20])
    assert tuple(u.delta.shape) == (2, 2, 3)
    assert u.delta.min() >= 0
    assert u.delta.max() <= 1
    moved = u(x, seed=3)
    changed = (moved != x).any(1)
    places = set()
    for row in range(len(x)):
        rows, columns = changed[row].nonzero().unbind(1)
        top, left = int(rows.min()), int(columns.min())
        places.add((top, left))
        assert_close(moved[row, :, top : top + 2, left : left + 3], u.delta, atol=0, rtol=0)
        moved[row, :, top : top + 2, left : left + 3] = x[row, :, top : top + 2, left : left + 3]
    assert torch.equal(moved, x)
    assert (len(places) > 10) if random_place else places == {(1, 2)}
    assert torch.equal(u(x, seed=3)[:7], u(x[:7], seed=3))


def test_a_patch_that_covers_the_image_reaches_its_target():
    net, x = network(), images(40)
    u = universal(Patch(6), target=1, steps=30).fit(net, x[:20])
    assert u.hit_rate(net, x[20:]).value == 1.0


def test_rates_are_counts_over_rows_not_used():
    net, x = network(), images(60)
    y = torch.arange(60) % 3
    u = universal(Linf(0.1), steps=10).fit(net, x[:40], y[:40])
    with torch.no_grad():
        clean, moved = net(x[40:]).argmax(1), net(u(x[40:])).argmax(1)
    fooled, wrong = u.fooling_rate(net, x), u.error(net, x, y)
    assert (fooled.hits, fooled.n) == (int((clean != moved).sum()), 20)
    assert (wrong.hits, wrong.n) == (int((moved != y[40:]).sum()), 20)
    assert fooled.interval == wilson(fooled.hits, 20)
    with pytest.raises(DataError, match="all 40 rows"):
        u.fooling_rate(net, x[:40])
    other = network(5)
    with torch.no_grad():
        transferred = int((other(x[40:]).argmax(1) != other(u(x[40:])).argmax(1)).sum())
    assert u.fooling_rate(other, x).hits == transferred
    assert u.fooling_rate(black_box(other, reveal="labels"), x).hits == transferred


def test_keys_tell_rows_apart():
    x = images(300)
    x[7], x[8, 0, 0, 0] = x[3], -0.0
    assert len(keys(x).unique()) == 299
    assert torch.equal(keys(x.double()), keys(x))
    assert torch.equal(keys(x[5:9]), keys(x)[5:9])
    x[8, 0, 0, 0] = 0.0
    assert keys(x)[8] == keys(torch.where(x == 0, -0.0, x))[8]


def test_the_classifier_and_the_random_state_are_left_as_they_were():
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    net[1].weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="train mode"):
        universal(Linf(0.1), steps=5).fit(net, images(30))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True, True, True]
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_seed_progress_and_provenance():
    net, x = network(), images(80)
    plan, seen = universal(L2(0.5), steps=12, batch_size=20), []
    u = plan.fit(net, x, seed=1, on_progress=lambda done, of: seen.append((done, of)))
    assert torch.equal(u.delta, plan.fit(net, x, seed=1).delta)
    assert not torch.equal(u.delta, plan.fit(net, x, seed=2).delta)
    assert seen == [(4, 12), (8, 12), (12, 12)]
    assert u.provenance["forwards"] == 80 + 12 * 20  # the classifier's own answers, and the steps
    assert u.provenance["seed"] == 1
    assert u.provenance["rows"] == 80
    assert "L2(0.5)" in repr(plan)
    assert "80 rows" in repr(u)
    assert len(universal(Linf(0.1), epochs=3, batch_size=20).fit(net, x).history) == 3


def test_normalisation_and_walls_are_the_accesss():
    net, x = network(), images(40)
    scaled = nn.Sequential(pp_scaled(255.0), net)
    u = universal(Linf(0.2), steps=10).fit(net, x)
    big = universal(Linf(0.2 * 255), steps=10).fit(white_box(net, (0, 255), mean=0.0, std=255.0), 255 * x)
    same = universal(Linf(0.2 * 255), steps=10).fit(white_box(scaled, (0, 255)), 255 * x)
    assert_close(big.delta, 255 * u.delta, atol=1e-2, rtol=1e-4)
    assert_close(big.delta, same.delta, atol=1e-2, rtol=1e-4)
    assert big(255 * x).max() <= 255
    assert big(255 * x).max() > 1


class pp_scaled(nn.Module):
    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.by


def test_a_random_classifier_is_fooled_on_average():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x + 0.01 * torch.randn_like(x))

    x = images()
    u = universal(Linf(0.3), steps=20).fit(expectation(Noisy(), draws=2), x[:48])
    assert u.fooling_rate(network(), x[48:]).value >= 0.5


def test_saved_and_loaded(tmp_path):
    net, x = network(), images(50)
    for plan in (universal(Linf(0.1), target=1, steps=3), universal(Patch(2, (0, 1)), steps=3)):
        u = plan.fit(white_box(net, ([0.0, 0.0], [1.0, 1.0])), x[:30])
        u.save(tmp_path / "u")
        again = Perturbation.load(tmp_path / "u")
        assert torch.equal(u(x), again(x))
        assert again.target == u.target
        assert again.provenance["seed"] == 0
        assert again.fooling_rate(net, x) == u.fooling_rate(net, x)
    (tmp_path / "u" / "perturbation.safetensors").write_bytes(b"no")
    with pytest.raises(FileError, match="SHA-256"):
        Perturbation.load(tmp_path / "u")
    pp.zoo.classifier((2,), 2).save(tmp_path / "model")
    with pytest.raises(FileError):
        Perturbation.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: universal(Linf()), "no radius"),
        (lambda: universal(Features(nn.Identity(), eps=1.0)), "does not depend on the input"),
        (lambda: universal(Linf(torch.ones(3))), "one radius"),
        (lambda: universal(Linf(0.1), random_place=True), "Patch without eps"),
        (lambda: universal(Linf(0.1), lr=0.0), "above 0"),
        (lambda: universal(Linf(0.1), momentum=1.0), r"\[0, 1\)"),
        (lambda: universal(Linf(0.1), steps=0), "steps"),
        (lambda: universal(Linf(0.1), goal="no"), "no goal"),
        (lambda: universal(Linf(0.1)).fit(black_box(network()), images(4)), "needs gradients"),
        (lambda: universal(Linf(0.1)).fit(network(), images(0)), "no rows"),
        (lambda: universal(Linf(0.1), target=3).fit(network(), images(4)), "3 classes"),
        (lambda: universal(Patch(9)).fit(network(), images(4)), "does not fit"),
        (lambda: Perturbation(torch.zeros(SHAPE))(torch.rand(3, 2, 5, 6)), "2 × 5 × 6|like those"),
    ],
)
def test_what_has_no_meaning_says_so(make, says):
    with pytest.raises((ArgumentError, DataError, ShapeError), match=says):
        make()


def test_loaders_splits_and_arrays():
    net, x = network(), images(40)
    y = torch.arange(40) % 3
    plan = universal(Linf(0.1), steps=5)
    delta = plan.fit(net, x, y).delta
    rows = torch.utils.data.TensorDataset(x, y)
    assert torch.equal(plan.fit(net, torch.utils.data.DataLoader(rows, batch_size=7)).delta, delta)
    assert torch.equal(plan.fit(net, pp.data.Split(x, y)).delta, delta)
    assert torch.equal(plan.fit(net, x.numpy(), y.numpy()).delta, delta)
    assert plan.fit(net, x, y)(x.numpy()).dtype == torch.float32


@pytest.mark.slow
def test_four_fifths_of_unseen_mnist(shared_data):
    """Linf(0.3), learnt on 1000 images: at least 0.8 of 1000 others, of a network of two convolutions."""
    data = pp.data.load(shared_data / "mnist")
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for rows in torch.arange(12_000).split(128):
        optimizer.zero_grad()
        x, y = data.train.x[rows].float() / 255, data.train.y[rows]
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    x = data.test.x[:2000].float() / 255
    u = universal(Linf(0.3)).fit(net.eval(), x[:1000])
    assert u.fooling_rate(net, x).n == 1000
    assert u.fooling_rate(net, x).value >= 0.8
