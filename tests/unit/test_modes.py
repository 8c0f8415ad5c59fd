"""Modes of known mixtures, on points whose every number can be counted by hand."""

from __future__ import annotations

import json
from math import exp, inf, log

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb, ShapeError
from psiphi.data.toys import gaussian, grid, ring
from psiphi.evaluation import modes
from psiphi.evaluation._modes import is_mixture
from psiphi.formulas.modes import bin_kl, ceiling, occupancy, reached, separation, target_mass

CORNERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def test_points_go_to_the_nearest_mode_or_to_none():
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.01], [8.0, 0.0], [5.0, 5.0]], dtype=torch.float64)
    assert occupancy(x, CORNERS.double(), 1.0).tolist() == [2, 1, 0, 2]
    assert reached(x, CORNERS.double(), 1.0).tolist() == [True, True, False]
    assert occupancy(x, CORNERS.double(), 1.0, widths=1.0).tolist() == [1, 0, 0, 4]


@pytest.mark.parametrize(("dimension", "wanted"), [(1, 0.9973002), (2, 1 - exp(-4.5)), (3, 0.9707091)])
def test_the_ceiling_is_the_mass_within_three_sigma(dimension, wanted):
    assert ceiling(dimension) == pytest.approx(wanted, abs=1e-7)
    mass = target_mass(5, dimension)
    assert_close(mass[:5], torch.full((5,), wanted / 5, dtype=torch.float64), atol=1e-7, rtol=0)
    assert float(mass.sum()) == pytest.approx(1, abs=1e-15)


def test_the_divergence_of_bins():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert bin_kl(p, q) == pytest.approx(0.5 * log(2))
    assert bin_kl(q, p) == inf
    assert bin_kl(q, q) == 0


def test_the_record_of_points_given_by_hand():
    x = torch.cat([CORNERS[:1].repeat(6, 1), CORNERS[1:2].repeat(3, 1), torch.tensor([[50.0, 50.0]])])
    found = modes(x, (CORNERS, 1.0))
    assert (found.found, found.modes, found.counts, found.missed, found.n) == (2, 3, [6, 3, 0, 1], [2], 10)
    assert found.quality.value == 0.9
    assert found.apart == pytest.approx(10.0)
    inside, off = 1 - exp(-4.5), exp(-4.5)
    assert found.reverse_kl == pytest.approx(
        0.6 * log(1.8 / inside) + 0.3 * log(0.9 / inside) + 0.1 * log(0.1 / off)
    )
    assert found.forward_kl == inf
    assert str(found) == (
        "2 of 3 modes, 90.0% [59.6%, 98.2%] within 3σ (ceiling 98.9%), reverse KL 0.5509 nats, forward KL +inf "
        "(nothing at 2); 10 samples"
    )
    record = json.loads(json.dumps(found.as_dict()))
    assert record["quality"]["hits"] == 9
    assert record["empty"] == ["2"]


def test_a_mode_counts_from_a_single_point_on():
    x = torch.cat([CORNERS[:1].repeat(2499, 1), CORNERS[1:2] + 2.9 / 2**0.5])
    assert modes(x, (CORNERS, 1.0)).found == 2
    assert modes(torch.cat([x[:-1], x[-1:] + 0.2]), (CORNERS, 1.0)).found == 1


def test_modes_whose_balls_meet_are_said_to():
    near = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    found = modes(near, (near, 1.0))
    assert "only 4.0σ apart" in str(found)
    assert (
        modes(torch.tensor([[2.0, 0.0]]), (near, 1.0)).found == 2
    )  # within 3σ of both, though nearest to one
    assert "apart" not in str(modes(CORNERS, (CORNERS, 1.0)))
    assert separation(near[:1]) == inf


def test_models_and_samplers_are_drawn_from():
    toy = ring()
    model = pp.zoo.vae(2, 1, likelihood="gaussian:0.5", hidden=(8,))
    learnt, own = modes(model, toy, 1000, seed=2), modes(toy, toy, 1000, seed=2)
    assert learnt.n == own.n == 1000
    assert own.found == 8
    assert (
        modes(model.sample(1000, seed=2, exact=True), toy) == learnt != modes(model.sample(1000, seed=2), toy)
    )
    assert modes(model, toy, 1000, seed=3) != learnt
    assert modes(toy, toy, 1000, seed=2) == own


def test_distributions_of_torch_are_drawn_from():
    """Half of the mass at each of two corners, from a sampler that is not ours."""
    where = torch.distributions.Independent(torch.distributions.Normal(CORNERS[:2], 1.0), 1)
    both = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(2)), where)
    before = torch.random.get_rng_state()
    found = modes(both, (CORNERS, 1.0), 1000)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (found.found, found.missed, found.n) == (2, [2], 1000)
    assert abs(found.quality.value - ceiling(2)) < 4 * (ceiling(2) * (1 - ceiling(2)) / 1000) ** 0.5
    assert modes(both, (CORNERS, 1.0), 1000) == found != modes(both, (CORNERS, 1.0), 1000, seed=1)
    line = modes(torch.distributions.Normal(0.0, 1.0), (torch.zeros(1, 1), 1.0), 500)
    assert (line.found, line.n) == (1, 500)


@pytest.mark.parametrize("sigma", [np.float32(1), np.array(1.0), torch.tensor(1.0), 1])
def test_a_number_of_any_kind_is_a_sigma(sigma):
    assert modes(CORNERS, (CORNERS.numpy(), sigma)) == modes(CORNERS, (CORNERS, 1.0))
    assert not is_mixture((CORNERS, CORNERS[:, 0]))


def test_what_has_no_modes_is_refused():
    with pytest.raises(ArgumentError, match="a Linear, a module without `sample`"):
        modes(torch.nn.Linear(2, 2), grid())
    x = torch.zeros(4, 2)
    with pytest.raises(ArgumentError, match="a Gaussian is none"):
        modes(x, gaussian())
    with pytest.raises(ArgumentError, match="positive sigma"):
        modes(x, (CORNERS, 0.0))
    with pytest.raises(ArgumentError, match="means"):
        modes(x, (CORNERS[0], 1.0))
    with pytest.raises(ShapeError, match="the samples"):
        modes(torch.zeros(4, 3), grid())
    with pytest.raises(DataError, match="1 of 4 rows"):
        modes(torch.tensor([[0.0, 0], [1, 1], [float("nan"), 0], [0, 0]]), grid())
    with pytest.raises(DataError, match="no samples"):
        modes(torch.zeros(0, 2), grid())
    with pytest.raises(ArgumentError, match="at least 1"):
        modes(grid(), grid(), 0)
    with pytest.raises(MissingVerb, match="cannot sample"):
        modes(pp.zoo.ae(2, latent_dim=1), grid())
