"""Tables of what points found on one classifier do to another."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from psiphi.access import black_box, expectation
from psiphi.attacks import L2, Battery, Linf, ddn, fgsm, pgd, transfer
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import generator
from psiphi.formulas.intervals import wilson


def data(n: int = 60) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, dtype=torch.float64, generator=generator("transfer", n))


def network(seed: int = 0, k: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, k)).double()


PGD = pgd(Linf(0.08), steps=4)


def test_the_diagonal_is_the_white_box_and_the_rest_is_what_each_target_says():
    nets, x = {"one": network(0), "two": network(1)}, data()
    y = nets["one"](x).argmax(1)
    table = transfer(PGD, nets, x, y)
    assert table.sources == ("clean", "noise", "one", "two")
    assert table.targets == ("one", "two")
    for i, source in enumerate(nets.values()):
        full = PGD(source, x, y, stop_early=False)
        assert table.accuracy[i + 2, i] == full.accuracy
        assert int(table.forwards[i + 2]) == int(full.forwards.sum())
        for j, target in enumerate(nets.values()):
            before, after = target(x).argmax(1), target(full.x).argmax(1)
            assert table.accuracy[i + 2, j] == (after == y).double().mean()
            assert table.fooling[i + 2, j] == (after != before).double().mean()
            assert table.accuracy[0, j] == (before == y).double().mean()
    assert (table.fooling[0] == 0).all()
    hits = int(table.right[2, 1].sum())
    assert table.accuracy_intervals[2, 1].tolist() == list(wilson(hits, 60))


def test_an_attack_transfers_fully_to_a_copy_and_not_at_all_to_an_independent_coordinate():
    """FGSM on a classifier of the first pixel leaves one of the last pixel alone; noise of its radius fools less."""
    first, last, copy_ = (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double() for _ in range(3))
    for net, place in ((first, 0), (copy_, 0), (last, 15)):
        for p in net.parameters():
            p.requires_grad_(False).zero_()
        net[1].weight[0, place], net[1].bias[0] = 1.0, -0.5
    x = data(400)
    table = transfer(fgsm(Linf(0.1)), {"first": first}, x, targets={"copy": copy_, "last": last})
    near = ((x[:, 0, 0, 0] - 0.5).abs() < 0.1).double().mean()
    assert abs(table.fooling[2, 0] - near) < 1e-12
    assert table.fooling[2, 1] == 0
    # uniform noise in [−0.1, 0.1] crosses from a distance uniform in [0, 0.1] with probability 1/2 · 1/2
    se = (near * 0.25 * 0.75 / 400).sqrt()
    assert (table.fooling[1] - near / 4).abs().max() <= 4 * se + 0.1 * 0.25
    assert (table.distance[1] <= 0.1).all()


def test_where_a_threat_has_no_radius_the_noise_is_as_far_as_the_points_found():
    nets, x = {"one": network(0), "two": network(1)}, data()
    table = transfer(ddn(steps=10), nets, x)
    assert (table.distance[1] <= table.distance[2:].amax(0) + 1e-9).all()
    assert (table.distance[1] > 0.5 * table.distance[2:].amax(0)).double().mean() > 0.5
    assert table.accuracy[2, 0] <= 0.1
    assert table.fooling[1, 0] < table.fooling[2, 0]


def test_targets_may_show_labels_only_or_draw():
    class Noisy(nn.Module):
        def forward(self, x):
            return network(1)(x + 0.2 * torch.randn_like(x))

    x = data()
    boxed = black_box(network(1), "labels")
    targets = {"labels": boxed, "draws": expectation(Noisy(), verify=100)}
    table = transfer(Battery([PGD, fgsm(Linf(0.08))]), {"one": network(0)}, x, targets=targets)
    assert boxed.rows == 3 * len(x)
    plain = transfer(PGD, {"one": network(0)}, x, targets={"open": network(1)})
    assert torch.equal(table.right[:2, 0], plain.right[:2, 0])
    assert ((table.right[:, 1] > 0) & (table.right[:, 1] < 1)).any()
    low, high = table.accuracy_intervals[0, 1].tolist()
    assert low < table.accuracy[0, 1] < high


def test_a_table_is_text_and_json_and_shows_its_progress():
    nets, x, seen = {"one": network(0), "two": network(1)}, data(20), []
    table = transfer(PGD, nets, x, on_progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (40, 40)
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["clean", "noise", "one", "two"]
    assert f"{table.accuracy[2, 1]:.1%} ({table.fooling[2, 1]:.1%})" in lines[3]
    told = json.loads(json.dumps(table.as_dict()))
    assert told["table"]["two"]["one"]["accuracy"] == table.accuracy[3, 0]
    assert told["rows"] == 20
    assert repr(table).startswith("Transfer of pgd(Linf(0.08)")
    assert torch.equal(transfer(PGD, nets, x, batch_size=3).right, table.right)
    assert transfer(PGD, nets, x[:0]).accuracy.isnan().all()
    for wrong, said in (
        (lambda: transfer(PGD, [network()], x), "sources are classifiers by name"),
        (lambda: transfer(PGD, {}, x), "sources are classifiers by name"),
        (lambda: transfer(PGD, nets, x, targets=network()), "targets are classifiers by name"),
        (lambda: transfer(PGD, {"noise": network()}, x), "noise is the name of a control"),
        (lambda: transfer(ddn(threat=L2(), steps=2), {"clean": network()}, x), "clean is the name"),
    ):
        with pytest.raises(ArgumentError, match=said):
            wrong()
