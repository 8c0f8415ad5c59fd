"""Robust accuracy in one record: the worst of all for each row, parts equal to the whole, the lowest number on top."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from psiphi.access import expectation
from psiphi.attacks import L2, Linf, apgd, auto, ddn, fgsm, pgd, square
from psiphi.basis.errors import AccessError, ArgumentError, FileError
from psiphi.basis.noise import generator
from psiphi.defenses import purify
from psiphi.evaluation import Robustness, robustness
from psiphi.evaluation._robust._merge import entries_of, groups_of, merged

LINF, EUCLID = "Linf(0.08)", "L2(0.3)"


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 4)).double().eval()
    x = torch.rand(32, 1, 6, 6, dtype=torch.float64, generator=generator("robustness"))
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 4
    return net, x, y


@pytest.fixture(scope="module")
def attacks():
    return [fgsm(Linf(0.08)), pgd(Linf(0.08), 4), square(Linf(0.08), 15), apgd(L2(0.3), 4)]


@pytest.fixture(scope="module")
def whole(case, attacks):
    net, x, y = case
    how = {"surrogate": net, "queries": 3, "limit": 6, "eps": [0.04, 0.08, 0.16]}
    return robustness(net, x, y, attacks, rows=range(32), **how), how


def test_the_worst_case_is_that_of_each_row(whole, case, attacks):
    net, x, y = case
    found, _ = whole
    alone = [attack(net, x, y) for attack in attacks[:3]]
    stands = torch.stack([each.robust for each in alone]).all(0)
    assert (found.stands(LINF) <= stands).all()  # probes may break more
    for name, result in zip(found.attacks, alone):
        assert torch.equal(found.attacks[name].robust, result.robust)
    by = found.broken_by(LINF)
    names = list(found.attacks)[:3]
    for row, name in enumerate(by):
        if name in names:
            assert alone[names.index(name)].broken[row]
        elif not name:
            assert found.stands(LINF)[row] or row < 3
    assert found.clean_accuracy == pytest.approx(29 / 32)
    worst = found.worst[LINF]
    assert (net(worst.x).argmax(1)[worst.broken] != y[worst.broken]).all()
    assert ((worst.x - x).abs().amax((1, 2, 3)) <= 0.08 + 1e-12).all()


def test_the_headline_is_the_lowest_number_of_all(whole):
    found, _ = whole
    told = found.as_dict()
    lowest = min(each["accuracy"] for each in told["attacks"].values())
    assert found.headline.value <= lowest
    assert found.headline.value == min(each.value for each in found.worst_case.values())
    for threat, curve in found.curves.items():
        within = curve.eps <= found.provenance["radii"][threat]
        assert found.worst_case[threat].value <= curve.accuracy[within].min()
    low, high = found.headline.interval
    assert low < found.headline.value < high
    assert set(found.worst) == {LINF, EUCLID} == set(found.judged)
    assert str(found.headline) in str(found)
    assert "can it be trusted?" in str(found)


def test_what_the_curve_and_a_purifier_find_counts(whole):
    found, _ = whole
    curve, row = found.curves[LINF], int(found.stands(LINF).nonzero()[0])
    robust = curve.robust.clone()
    robust[row, 2] = False  # beyond the threat's own radius: another question
    assert replace(found, curves={LINF: replace(curve, robust=robust)}).stands(LINF)[row]
    robust[row, 0] = False
    less = replace(found, curves={LINF: replace(curve, robust=robust)})
    assert less.stands(LINF).sum() == found.stands(LINF).sum() - 1
    assert less.worst_case[LINF].value <= found.worst_case[LINF].value
    assert "curve" in less.broken_by(LINF)[row]


def test_what_probes_find_is_told_of_the_rows_that_were_probed(case):
    net, x, y = case
    blind = nn.Sequential(net, nn.Module())
    blind[1].forward = lambda z: 1e5 * z  # the loss saturates: PGD stands still, and another loss does not
    found = robustness(blind, x, y, pgd(Linf(0.08), 4), limit=12, queries=3, surrogate=net)
    assert found.attacks["pgd (cross_entropy)"].accuracy > 0.8
    assert found.headline.rows == 12
    assert found.headline.value == pytest.approx(float(found.stands(LINF)[:12].double().mean()))
    assert found.headline.value < 0.6
    assert "probed" in found.headline.by


def test_shards_merged_give_the_same_table(whole, case, attacks):
    net, x, y = case
    found, how = whole
    shards = range(20), range(20, 32)  # none of the latter's rows is probed
    parts = [robustness(net, x[list(rows)], y[list(rows)], attacks, rows=rows, **how) for rows in shards]
    merged = Robustness.cat(parts[::-1])
    told, same = found.as_dict(), merged.as_dict()
    for record in (told, same):
        record.pop("provenance")
    assert told == same
    assert merged.broken_by(LINF) == found.broken_by(LINF)
    assert [str(line) for line in str(merged).splitlines()] == str(found).splitlines()
    with pytest.raises(ArgumentError, match="two of the parts"):
        Robustness.cat([parts[0], parts[0]])
    with pytest.raises(ArgumentError, match="differ"):
        Robustness.cat([parts[0], replace(parts[1], threats={})])


def test_a_record_comes_back_from_its_files(whole, tmp_path):
    found, _ = whole
    found.save(tmp_path / "robust")
    back = Robustness.load(tmp_path / "robust.json")
    assert back.as_dict() == found.as_dict()
    assert torch.equal(back.worst[EUCLID].x, found.worst[EUCLID].x)
    (tmp_path / "robust.npz").write_bytes(b"no")
    with pytest.raises(FileError, match="SHA-256"):
        Robustness.load(tmp_path / "robust")
    with pytest.raises(FileError):
        Robustness.load(tmp_path / "missing")


def test_a_battery_is_one_entry_and_its_attacks_are_several(case):
    net, x, y = case
    battery = auto(Linf(0.08), steps=3, queries=10)
    one = robustness(net, x, y, battery, honesty=False)
    several = robustness(net, x, y, battery.attacks, honesty=False)
    assert list(one.attacks) == ["auto"]
    assert len(several.attacks) == 4
    assert torch.equal(one.stands(LINF), several.stands(LINF))
    assert one.forwards < several.forwards
    assert all(name.startswith("auto: ") for name in one.broken_by(LINF) if name)
    first, own = fgsm(Linf(0.08)), battery(net, x, y)
    both = robustness(net, x, y, [first, battery], honesty=False).broken_by(LINF)
    for row in (own.broken & ~first(net, x, y).broken).nonzero().squeeze(1).tolist():
        assert both[row] == f"auto: {battery.names[own.broken_by[row]]}"
    assert {"fgsm", ""} < set(both)
    assert one.honesty is None
    assert "Nobody asked" in one.summary()


def test_minimum_norm_attacks_without_a_radius(case):
    net, x, y = case
    found = robustness(net, x[:8], y[:8], {"nearest": ddn(steps=20)}, eps=[0.05, 0.5], limit=4)
    assert found.as_dict()["attacks"]["nearest"]["median_distance"] > 0
    assert found.curves["L2()"].accuracy[0] >= found.curves["L2()"].accuracy[1]


class Coin(nn.Module):
    """Errs in 3 draws of 10, whatever it sees."""

    def forward(self, x):
        wrong = (torch.rand(len(x), dtype=x.dtype) < 0.3).to(x)
        return 3 * torch.stack((1 - wrong, wrong), 1) + 0 * x.flatten(1).sum(1, keepdim=True)


def test_the_worst_of_several_is_not_the_unluckiest(case):
    _, x, _ = case
    access, y = expectation(Coin(), draws=1), torch.zeros(32, dtype=torch.long)
    entries = entries_of([fgsm(Linf(0.08))] * 9)
    one = entries["fgsm"](access, x, y)
    lucky = torch.rand(9, 32, 100, dtype=torch.float64, generator=generator("coins")) < 0.3
    found = {name: replace(one, share=share) for name, share in zip(entries, lucky.double().mean(2))}
    worst = merged(access, groups_of(entries)[LINF], found, seed=1)
    error = (0.3 * 0.7 / 3200) ** 0.5
    assert abs(worst.accuracy - 0.7) < 4 * error
    assert 1 - float(lucky.double().mean(2).amax(0).mean()) < 0.7 - 6 * error  # had the same draws judged
    whole = robustness(
        access,
        x,
        y,
        [fgsm(Linf(0.08)), square(Linf(0.08), 2)],
        limit=8,
        queries=2,
        surrogate=case[0],
        eps=[0.04, 0.08],
    )
    curve = whole.curves[LINF]
    unlucky = replace(whole, curves={LINF: replace(curve, share=curve.share + 0.02)})
    assert unlucky.headline.value == whole.headline.value == whole.worst[LINF].accuracy
    less = replace(whole, curves={LINF: replace(curve, share=curve.share + 0.2)})
    assert "curve" in less.headline.by
    assert abs(whole.headline.value - 0.7) < 4 * (0.3 * 0.7 / (whole.headline.rows * 100)) ** 0.5


def test_a_purifier_gets_its_lowest_level(case):
    net, x, y = case

    class Cell(nn.Module):
        def project(self, x):
            return (x * 8).round() / 8

    safe = purify(net, Cell())
    found = robustness(safe, x, y, [pgd(Linf(0.08), 5)], limit=32, queries=5, surrogate=net)
    alone = found.as_dict()["attacks"]["pgd (cross_entropy)"]["accuracy"]
    assert found.headline.value < alone - 0.1
    assert "purifier at every level" in {each.name for each in found.honesty.failed}
    assert "Not to be trusted" in found.summary()


def test_progress_rises_to_its_end_and_the_classifier_is_left_alone(case):
    net, x, y = case
    seen, mode = [], net.training
    weights = [p.clone() for p in net.parameters()]
    state = torch.get_rng_state()
    net.train()
    robustness(
        net,
        x,
        y,
        fgsm(Linf(0.08)),
        eps=[0.04],
        queries=3,
        limit=4,
        on_progress=lambda i, n: seen.append((i, n)),
    )
    assert net.training
    net.train(mode)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters()))
    assert torch.equal(state, torch.get_rng_state())
    done = [i for i, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[0][1] == 3 * 32


def test_errors_are_sentences(case):
    net, x, y = case
    with pytest.raises(ArgumentError, match="which the attacks name"):
        robustness(net, x, y)
    with pytest.raises(ArgumentError, match="no rows"):
        robustness(net, x[:0], y[:0], fgsm(Linf(0.08)))
    with pytest.raises(AccessError, match="random"):
        robustness(Coin(), x, torch.zeros(32, dtype=torch.long), fgsm(Linf(0.08)))
    with pytest.raises(ArgumentError, match="names 0 twice"):
        robustness(net, x, y, fgsm(Linf(0.08)), rows=torch.zeros(32, dtype=torch.long))
