"""Fidelity, distances of features and memory, on sets small enough to count and on densities that are equal."""

from __future__ import annotations

import json
import warnings
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.basis.noise import generator
from psiphi.evaluation import (
    SmallSampleWarning,
    fidelity,
    frechet,
    kernel_distance,
    nearest_training,
    penultimate,
)
from psiphi.formulas import fidelity as formulas


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def normal(key: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(key), dtype=torch.float64)


# ------------------------------------------------------------------------------------------ fidelity


def test_balls_counted_by_hand():
    """Radii of the data at k = 1: 1, 1, 4; of the samples: 1.5, 0.5, 0.5."""
    found = fidelity(column(2.5, 1.0, 0.5), column(0.0, 1.0, 5.0), k=1)
    assert found.precision.hits == 3  # 2.5 lies in the ball of 5 alone
    assert found.recall.hits == 2  # 5 is 2.5 from the nearest sample, whose ball has 1.5
    assert found.density == pytest.approx((1 + 3 + 2) / 3)  # 1 lies in three balls, that of 5 by a tie
    assert found.coverage == 1.0
    assert (found.n, found.m, found.k, found.still, found.still_samples) == (3, 3, 1, 0, 0)


def test_a_distance_equal_to_the_radius_is_inside_whatever_the_units():
    for scale in (1e-3, 1 / 3, 1e4):
        data, samples = scale * column(0.1, 0.2, 0.3, 0.4), scale * column(0.0, 0.5)
        found = fidelity(samples + scale * 7, data + scale * 7, k=1)
        assert (found.precision.hits, found.coverage, found.density) == (2, 0.5, 1.0)


def test_equal_rows_make_balls_of_radius_zero_and_are_said():
    data = column(*[0.0] * 4, 10.0, 11.0, 12.0, 13.0) + 0.1
    found = fidelity(column(0.0, 1e-3, 11.5, 30.0) + 0.1, data, k=3)
    assert found.still == 4
    assert found.precision.hits == 2  # the equal one and 11.5; 0.001 is outside
    assert found.density == pytest.approx((4 + 4) / 3 / 4)
    assert found.coverage == 1.0
    assert "4 rows of data have 3 equals, so balls of radius 0" in str(found)
    assert "equals, so" not in str(fidelity(data, column(*range(8)), k=3).features)


def test_the_sets_against_themselves():
    x = normal(0, 50, 3)
    found = fidelity(x, x, k=4)
    assert (found.precision.value, found.recall.value, found.coverage) == (1.0, 1.0, 1.0)
    assert found.density == pytest.approx(5 / 4)  # each row, and the 4 of its ball
    away = fidelity(x + 100, x, k=4)
    assert (away.precision.value, away.recall.value, away.coverage, away.density) == (0, 0, 0, 0)


def test_blocks_make_no_difference(monkeypatch):
    x, y = normal(1, 70, 5), normal(2, 53, 5)
    whole = fidelity(y, x, k=3)
    near = formulas.nearest(y, x)
    monkeypatch.setattr(formulas, "NUMBERS", 200)
    assert fidelity(y, x, k=3) == whole
    parts = formulas.nearest(y, x)
    assert_close(parts, near)
    wanted, row = torch.cdist(y, x).min(1)
    assert_close(parts[0].sqrt(), wanted, atol=1e-9, rtol=0)
    assert parts[1].tolist() == row.tolist()


def test_equal_densities_have_the_expected_coverage_and_density():
    """Means over 100 pairs of sets, within four of their own standard errors."""
    pairs = [fidelity(normal(100 + i, 60, 2), normal(900 + i, 80, 2), k=3) for i in range(50)]
    for values, wanted in (
        ([each.coverage for each in pairs], pairs[0].expected_coverage),
        ([each.density for each in pairs], 1.0),
    ):
        values = torch.tensor(values, dtype=torch.float64)
        assert abs(float(values.mean()) - wanted) < 4 * float(values.std()) / 50**0.5


def test_the_expected_coverage_by_enumeration():
    """Which of the 5 neighbours of a centre are the 2 other data: empty if its 2 nearest are."""
    places = list(combinations(range(5), 2))
    covered = sum(set(place) != {0, 1} for place in places) / len(places)
    assert formulas.expected_coverage(samples=3, data=3, k=2) == pytest.approx(covered)
    assert formulas.expected_coverage(samples=1, data=2, k=1) == pytest.approx(1 / 2)


def test_too_few_rows_or_unlike_rows_are_refused():
    with pytest.raises(ArgumentError, match="5-th nearest other row needs more than 5 rows"):
        fidelity(normal(0, 5, 2), normal(0, 50, 2))
    with pytest.raises(ArgumentError, match="a k from 1 to 9"):
        fidelity(normal(0, 10, 2), normal(0, 50, 2), k=0)
    with pytest.raises(ShapeError, match=r"\(3\) and the data \(2\)"):
        fidelity(normal(0, 10, 3), normal(0, 50, 2))
    with pytest.raises(DataError, match="0 samples"):
        fidelity(normal(0, 0, 2), normal(0, 50, 2))
    with pytest.raises(DataError, match="samples has NaN"):
        fidelity(normal(0, 9, 2) / 0 * 0, normal(0, 50, 2))


# ------------------------------------------------------------------------------------------ features


def test_features_are_what_the_last_affine_layer_is_given():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.9), nn.ReLU(), nn.Linear(3, 2)).train()
    x = normal(3, 2000, 1, 2, 2).float()
    with torch.no_grad():
        wanted = net[1](x.flatten(1)).relu()
    assert_close(penultimate(net, x), wanted)
    assert net.training
    assert not any(module._forward_pre_hooks for module in net.modules())
    model = pp.zoo.classifier((1, 2, 2), 2, hidden=(7, 5))
    assert penultimate(model, x).shape == (2000, 5)
    convolutional = pp.zoo.classifier((1, 8, 8), 2, net="conv", hidden=(4,))
    assert penultimate(convolutional, normal(4, 3, 1, 8, 8).float()).shape == (3, 4 * 4 * 4)
    with pytest.raises(ArgumentError, match="no affine layer"):
        penultimate(nn.Flatten(), x)


def test_a_classifier_of_other_rows_is_refused():
    x, flat = normal(15, 50, 1, 2, 2).float(), normal(15, 50, 4).float()
    other, plain = (
        pp.zoo.classifier((1, 3, 3), 2, hidden=(5,)),
        nn.Sequential(nn.Linear(9, 3), nn.Linear(3, 2)),
    )
    for distance in (frechet, kernel_distance, fidelity):
        with pytest.raises(
            ShapeError, match=r"\(1, 2, 2\) are not what classifier takes, which is \(1, 3, 3\)"
        ):
            distance(x, x, features=other)
        with pytest.raises(ShapeError, match="what Sequential takes"):
            distance(flat, flat, features=plain)
    with pytest.raises(ShapeError, match="what classifier takes"):
        nearest_training(x, x, x, other)
    with pytest.raises(ShapeError, match=r"\(2\) are not what classifier takes"):
        pp.evaluation.samples(pp.zoo.vae(2, 1, hidden=(4,)), other, [0, 1], n=20)
    model = pp.zoo.classifier((1, 2, 2), 2, hidden=(5,))
    assert_close(penultimate(model, flat), penultimate(model, flat.view(-1, 1, 2, 2)))


def test_the_label_names_features_sizes_and_split():
    x, y = normal(5, 400, 1, 2, 2).float(), normal(6, 300, 1, 2, 2).float()
    model = pp.zoo.classifier((1, 2, 2), 2, hidden=(5,))
    said = "300 samples against 400 rows of test"
    assert f"{said}, k = 5, 4 pixels" in str(fidelity(y, x, split="test"))
    assert f"{said}, 5 features of the penultimate layer of classifier" in str(frechet(y, x, model, "test"))
    assert "4 numbers a row" in str(kernel_distance(y.flatten(1), x.flatten(1)))

    def halves(part):
        return part.flatten(1)[:, :2]

    assert "2 features by halves" in str(kernel_distance(y, x, halves))
    assert kernel_distance(y, x, halves).value == kernel_distance(halves(y), halves(x)).value
    for found in (fidelity(y, x), frechet(y, x), kernel_distance(y, x), nearest_training(y, x, x)):
        assert json.loads(json.dumps(found.as_dict()))["n"] == 300


# ---------------------------------------------------------------------------- Fréchet, kernel, memory


def test_the_frechet_distance_of_two_moments():
    """Against the form with a matrix root by another library; a shift adds its square."""
    from scipy.linalg import sqrtm

    x, y = normal(7, 300, 3), normal(8, 200, 3) @ torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 0, 3]]).double()
    one, two = x.T.cov(), y.T.cov()
    root = torch.as_tensor(sqrtm((one @ two).numpy()).real)
    wanted = (x.mean(0) - y.mean(0)).square().sum() + (one + two - 2 * root).trace()
    assert frechet(y, x).value == pytest.approx(float(wanted), rel=1e-9)
    shift = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    assert frechet(x + shift, x).value == pytest.approx(9.0, rel=1e-9)
    assert frechet(x[:, :1] * 3, x[:, :1]).value == pytest.approx(
        float(4 * x[:, 0].var() + 4 * x[:, 0].mean() ** 2)
    )


def test_small_samples_are_warned_of_and_their_bias_is_shown():
    x = normal(9, 100, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frechet(normal(10, 100, 10), x).halves > frechet(normal(10, 100, 10), x).value
    with pytest.warns(SmallSampleWarning, match="10 features from 99 rows"):
        frechet(normal(10, 99, 10), x)
    with pytest.raises(DataError, match="there are 1 and 100"):
        frechet(normal(10, 1, 10), x)


def test_the_kernel_distance_of_three_rows_by_hand():
    x = torch.cat([column(0.0, 1.0, 2.0), column(1.0, 0.0, 1.0)], 1)
    y = torch.cat([column(1.0, 1.0, 3.0), column(2.0, 1.0, 0.0)], 1)

    def mean(a, b, own):
        values = [
            (float(p @ q) / 2 + 1) ** 3
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (own and i == j)
        ]
        return sum(values) / len(values)

    wanted = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert kernel_distance(y, x).value == pytest.approx(wanted)
    with pytest.raises(DataError, match="at least 3 rows"):
        kernel_distance(y[:2], x)


def test_the_kernel_distance_is_unbiased_and_knows_its_error():
    """Over 50 pairs: equal normals have mean 0; of a shift by 1 on the line, E(xy + 1)³ gives 22."""
    equal = [kernel_distance(normal(2000 + i, 40, 2), normal(3000 + i, 30, 2)) for i in range(50)]
    values = torch.tensor([each.value for each in equal])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 50**0.5
    assert float(values.min()) < 0
    apart = [kernel_distance(normal(4000 + i, 40, 1) + 1, normal(5000 + i, 30, 1)) for i in range(50)]
    values = torch.tensor([each.value for each in apart])
    errors = torch.tensor([each.standard_error for each in apart])
    # Moments of N(1, 1): 1, 2, 4; of N(0, 1): 0, 1, 0. MMD² = 3·1² + 3·1² + 4² = 22.
    assert abs(float(values.mean()) - 22) < 4 * float(values.std()) / 50**0.5
    assert 0.8 < float(errors.square().mean().sqrt() / values.std()) < 1.5


def test_copies_are_told_from_draws():
    train, held = normal(11, 500, 6), normal(12, 500, 6)
    fresh = nearest_training(normal(13, 400, 6), train, held)
    copied = nearest_training(train[:400] + 0.01 * normal(14, 400, 6), train, held)
    assert fresh.held_out_median == pytest.approx(float(torch.cdist(held, train).amin(1).median()))
    assert fresh.ratio == pytest.approx(1, abs=0.1)
    assert fresh.copies.interval[0] < 0.03
    assert copied.ratio < 0.05
    assert copied.copies.value == 1.0
    assert copied.row.tolist() == list(range(400))
    exact = nearest_training(train[:3], train, held)
    assert exact.distance.tolist() == [0.0] * 3
    assert "3 samples, 500 training and 500 held-out rows" in str(exact)


@pytest.mark.slow
def test_more_rows_than_memory_for_all_distances():
    x, y = normal(15, 20_000, 64).float(), normal(16, 20_000, 64).float()
    found = fidelity(y, x)
    assert abs(found.coverage - found.expected_coverage) < 0.02
