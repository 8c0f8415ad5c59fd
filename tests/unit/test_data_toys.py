"""Toys against their own truth: shares, moments, densities, one row at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.data.toys import gaussian, grid, moons, ring, swiss_roll, toys

N = 40_000
ALL = [ring(), grid(), moons(), swiss_roll(), swiss_roll(3), gaussian(), gaussian(5)]


@pytest.mark.parametrize("toy", ALL, ids=repr)
def test_row_i_depends_on_i_alone(toy):
    whole = toy(300, Noise.of(3, 300))
    assert whole.shape == (300, *toy.shape)
    assert torch.equal(whole[:7], toy(7, Noise.of(3, 7)))
    index = torch.tensor([250, 3, 128])
    assert torch.equal(whole[index], toy(3, Noise.of(3, 300).take(index)))
    assert not torch.equal(whole, toy(300, Noise.of(4, 300)))
    assert toy(4, Noise.of(0, 4, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(ArgumentError, match="noise of 5 rows"):
        toy(4, Noise.of(0, 5))


@pytest.mark.parametrize("toy", [ring(), grid(), ring(5, 2.0, 0.3), grid(3, 1.0, 0.2)], ids=repr)
def test_modes(toy):
    x, mode = toy.draw(N, Noise.of(11, N, dtype=torch.float64))
    modes = len(toy.means)
    share = torch.bincount(mode, minlength=modes).double() / N
    p = 1 / modes
    assert bool(((share - p).abs() <= 4 * math.sqrt(p * (1 - p) / N)).all())
    near = (x - toy.means[mode]).norm(dim=1) <= 3 * toy.sigma
    ceiling = 1 - math.exp(-4.5)
    assert abs(float(near.double().mean()) - ceiling) <= 4 * math.sqrt(ceiling * (1 - ceiling) / N)


@pytest.mark.parametrize(
    "toy", [ring(), grid(), ring(5, 1.0, 0.5), gaussian(), gaussian(4, -0.5, 2.0, 1.0)], ids=repr
)
def test_covariance(toy):
    x = toy(N, Noise.of(12, N, dtype=torch.float64))
    centred = x - x.mean(0)
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(0) / math.sqrt(N)
    assert bool(((products.mean(0) - toy.covariance).abs() <= 4 * error).all())
    assert bool(((x.mean(0) - toy.means.mean(0)).abs() <= 4 * x.std(0) / math.sqrt(N)).all())


CASES = [
    (ring(sigma=0.1), 2, 0.04),
    (grid(3, 1.0, 0.2), 3, 0.08),
    (gaussian(), 9, 0.15),
    (gaussian(mean=0.5), 9, 0.15),
]


@pytest.mark.parametrize(("toy", "reach", "step"), CASES)
def test_density_integrates_to_one(toy, reach, step):
    """The trapezium rule converges faster than any power on smooth densities: 1e-9 at 2.5 steps a σ."""
    axis = torch.arange(-reach, reach + step, step, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    mass = toy.log_prob(points).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(mass) - 1) < 1e-9


def test_density_against_torch():
    x = torch.randn(50, 3, dtype=torch.float64)
    toy = gaussian(3, 0.4, 1.5, 0.2)
    reference = torch.distributions.MultivariateNormal(toy.mean, toy.covariance)
    assert torch.allclose(toy.log_prob(x), reference.log_prob(x))
    parts = torch.distributions.MultivariateNormal(ring().means, 1e-4 * torch.eye(2, dtype=torch.float64))
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(8)), parts)
    assert torch.allclose(ring().log_prob(x[:, :2]), mixture.log_prob(x[:, :2]))


def test_smoothed():
    assert ring().smoothed(0.3).sigma == pytest.approx(math.sqrt(0.01**2 + 0.3**2))
    assert torch.allclose(gaussian().smoothed(2.0).covariance, gaussian().covariance + 4 * torch.eye(2))


def test_exactly_as_in_the_protocol():
    assert torch.allclose(ring().means.norm(dim=1), torch.ones(8, dtype=torch.float64))
    assert ring().sigma == 0.01
    values = {tuple(point) for point in grid().means.tolist()}
    assert values == {(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)}
    assert grid().sigma == 0.05


def test_moons_lie_on_half_circles():
    x, moon = replace(moons(), sigma=0.0).draw(500, Noise.of(0, 500))
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[moon]
    assert torch.allclose((x - centre).norm(dim=1), torch.ones(500), atol=1e-5)
    assert bool(((x - centre)[:, 1] * (1 - 2 * moon) >= -1e-5).all())
    assert not hasattr(moons(), "log_prob")


def test_swiss_roll_is_a_spiral():
    x = replace(swiss_roll(), sigma=0.0)(500, Noise.of(0, 500, dtype=torch.float64))
    t = 10 * x.norm(dim=1)
    assert torch.allclose(x, torch.stack([t * t.cos(), t * t.sin()], 1) / 10)
    assert 1.5 * math.pi <= float(t.min()) <= float(t.max()) <= 4.5 * math.pi
    assert float(swiss_roll(3)(500, Noise.of(0, 500))[:, 1].abs().max()) < 1.2


def test_registry():
    assert {entry.name for entry in toys} == {"ring", "grid", "moons", "swiss_roll", "gaussian"}
    assert ring(5).recipe == {"toy data set": "ring", "arguments": {"modes": 5, "radius": 1.0, "sigma": 0.01}}
    for wrong in (
        lambda: ring(0),
        lambda: ring(2.5),
        lambda: swiss_roll(4),
        lambda: gaussian(0),
        lambda: grid(sigma=-1),
    ):
        with pytest.raises(ArgumentError):
            wrong()
