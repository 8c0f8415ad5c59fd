"""What codes are worth, on codes whose worth is known."""

from __future__ import annotations

import json
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import digits
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb
from psiphi.basis.noise import Noise, generator
from psiphi.evaluation import atoms, latents, reconstruction
from psiphi.evaluation._manifold import cycle, gap_to, gaussian_codes, off_data
from psiphi.evaluation._probes import information
from psiphi.evaluation._units import units
from psiphi.formulas.information import (
    entropy,
    information_gap,
    miller_madow,
    mutual_information,
    rate_parts,
)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "latents"), dtype=torch.double)


class Affine:
    """x = W z + b with a square, invertible W: φ inverts ψ exactly."""

    def __init__(self, d: int = 3, shift: float = 0.0):
        self.weight, self.bias, self.shift = draws(d, d, seed=4), draws(d, seed=5), shift
        self.shape, self.title, self.dtype, self.device = (d,), "affine", torch.double, torch.device("cpu")

    def encode(self, x):
        return torch.linalg.solve(self.weight, (torch.as_tensor(x).double() - self.bias).T).T + self.shift

    def decode(self, z):
        return torch.as_tensor(z).double() @ self.weight.T + self.bias

    def reconstruct(self, x):
        return self.decode(self.encode(x))


# ------------------------------------------------------------------------------------- information


def test_entropy_of_counts_and_its_correction():
    assert entropy(torch.tensor([3, 3, 3])) == pytest.approx(log(3))
    assert miller_madow(torch.tensor([3, 3, 3, 0])) == pytest.approx(log(3) + 2 / 18)
    assert entropy(torch.tensor([0, 0])) == miller_madow(torch.tensor([0, 0])) == 0


def test_mutual_information_of_known_tables():
    assert mutual_information(torch.tensor([[5, 0], [0, 5]]), entropy) == pytest.approx(log(2))
    assert mutual_information(torch.tensor([[2, 6], [1, 3]]), entropy) == pytest.approx(0, abs=1e-12)
    joint = torch.tensor([[3.0, 1.0], [1.0, 3.0]])  # p = 3/8 and 1/8: ln 2 − H(¼)
    assert mutual_information(joint, entropy) == pytest.approx(log(2) + 0.75 * log(0.75) + 0.25 * log(0.25))


def test_the_correction_takes_off_the_bias_of_independence():
    """Of 200 independent pairs in 8 × 8 cells the plain estimate is about 49/400; a quarter of it may be left."""
    gen = generator(3, "independent")
    plain, corrected = [], []
    for _ in range(100):
        pairs = torch.randint(64, (200,), generator=gen)
        table = torch.bincount(pairs, minlength=64).view(8, 8)
        plain.append(mutual_information(table, entropy))
        corrected.append(miller_madow(table.sum(1)) + miller_madow(table.sum(0)) - miller_madow(table))
    assert sum(plain) / 100 > 0.1
    assert abs(sum(corrected)) < sum(plain) / 4


def test_the_information_gap_by_hand():
    nats = torch.tensor([[0.6, 0.1], [0.2, 0.1], [0.0, 0.0]])
    assert_close(information_gap(nats, torch.tensor([0.8, 0.2])), torch.tensor([0.5, 0.0]))
    assert_close(information_gap(nats[:1], torch.tensor([0.6, 0.2])), torch.tensor([1.0, 0.5]))


def test_mig_of_constructed_codes():
    """One unit a factor: 1. The factor in two units: 0. Half of its entropy in one unit alone: ½."""
    a, b = torch.arange(400) % 4, torch.arange(400) // 4 % 5
    factors = torch.stack([a, b], 1)
    alone = information(torch.stack([a, b, 0 * a], 1).double(), factors)
    assert alone.gap == pytest.approx(1, abs=0.01)
    assert alone.nats[0, 0] == pytest.approx(log(4), abs=0.01)
    assert alone.nats[1, 1] == pytest.approx(log(5), abs=0.01)
    assert float(alone.nats[0, 1]) == pytest.approx(0, abs=0.01)
    assert information(torch.stack([a, a], 1).double(), a).gap == 0
    assert information((a // 2).double()[:, None], a).gap == pytest.approx(0.5, abs=0.01)


def test_information_of_continuous_codes_is_that_of_their_bins():
    """A monotone function of the code tells the same; four equal bins of it tell ln 4 of four equal classes."""
    z = draws(2000, 1)
    y = (z[:, 0].argsort().argsort() // 500).long()
    found = information(z, y, bins=4)
    assert found.nats.item() == pytest.approx(log(4), abs=0.01)
    assert_close(information(z.exp(), y, bins=4).nats, found.nats)
    assert information(z, z[:, 0], bins=4).gap == pytest.approx(1, abs=0.01)


def test_a_gaussian_channel_of_known_capacity():
    """I(z; y) = −½ ln(1 − ρ²) for jointly normal numbers; twenty bins of 40 000 rows lose a few hundredths."""
    e, rho = draws(40_000, 2, seed=2), 0.8
    y = rho * e[:, 0] + (1 - rho**2) ** 0.5 * e[:, 1]
    assert information(e[:, :1], y, bins=20).nats.item() == pytest.approx(-0.5 * log(1 - rho**2), abs=0.04)


def test_rate_parts_add_up():
    log_q, aggregate, prior = (draws(7, seed=i) for i in (0, 1, 2))
    marginals = draws(7, 3, seed=3)
    parts = rate_parts(log_q, aggregate, marginals, prior)
    assert_close(sum(parts), log_q - prior)
    assert_close(parts.index_code, log_q - aggregate)
    assert_close(parts.total_correlation, aggregate - marginals.sum(1))


# ------------------------------------------------------------------------------------------- units


def test_units_by_hand():
    z = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 1.1], [-2.0, 5.0, 0.9]]).double()
    found = units(SimpleNamespace(posterior=None), z, top=2)
    assert_close(found.activity, torch.tensor([8 / 3, 0, 0.02 / 3]).double())
    assert found.active.tolist() == [True, False, False]
    assert (found.n_active, found.dead, found.threshold) == (1, [1, 2], 0.01)
    assert_close(found.usage, torch.tensor([2 / 3, 1, 1]).double())
    assert found.top_inputs[0].tolist() == [1, 0]
    assert found.top_inputs[2].tolist() == [1, 0]
    scaled = units(SimpleNamespace(), 1e-3 * z)  # without a posterior the scale of a code is arbitrary
    assert scaled.active.tolist() == [True, False, False]


def test_atoms_of_an_affine_decoder_are_its_columns():
    model, x = Affine(), draws(50, 3)
    assert_close(atoms(model, x), model.weight.T)
    ae = pp.zoo.ae((1, 8, 8), 5, hidden=()).double()
    x = digits()[0].double()
    pp.fit(ae, x, steps=5, quiet=True)
    weight = next(p for p in ae.decoder.parameters() if p.shape == (64, 5))
    assert_close(atoms(ae, x), (ae.statistics.sigma * weight.T).reshape(5, 1, 8, 8).detach())


def test_a_unit_that_never_moves_has_an_atom_too():
    model = Affine()
    assert_close(atoms(model, model.bias[None].repeat(4, 1)), model.weight.T)


# ---------------------------------------------------------------------------------------- manifold


def test_where_the_encoder_inverts_the_decoder_the_cycle_closes():
    model, z = Affine(), draws(40, 3)
    found = cycle(model, z)
    assert found.at_codes < 1e-12
    assert found.at_draws < 1e-12
    assert found.spread == pytest.approx(float((z - z.mean(0)).square().sum(1).mean()) ** 0.5)
    assert cycle(Affine(shift=0.5), z).at_codes == pytest.approx(0.5 * 3**0.5)


def test_pca_closes_the_cycle_and_is_trustworthy_in_full():
    x, y = digits()
    model = pp.zoo.pca((1, 8, 8), 6).double()
    pp.fit(model, x.double(), quiet=True)
    found = latents(model, x.double(), y, train=(x.double(), y))
    assert found.cycle is not None
    assert found.cycle.at_codes < 1e-12 * found.cycle.spread
    assert found.neighbours is not None
    assert found.neighbours.value == 1  # the nearest code of a row seen in training is its own


def test_trustworthiness_of_the_identity_is_one():
    x = draws(60, 3)
    same = SimpleNamespace(shape=(3,), title="identity", encode=lambda x: x)
    assert latents(same, x, train=x, parts=("trustworthiness",)).trustworthiness == 1
    folded = SimpleNamespace(shape=(3,), title="folded", encode=lambda x: x[:, :1].abs())
    assert latents(folded, x, train=x, parts=("trustworthiness",)).trustworthiness < 0.9


def test_gaussian_codes_have_the_mean_and_covariance_of_the_codes():
    z = draws(500, 2) @ torch.tensor([[2.0, 0.5], [0, 0.3]]).double() + 3
    drawn, covariance = gaussian_codes(z, 40_000, 1), z.T.cov(correction=0)
    assert_close(drawn[:64], gaussian_codes(z, 64, 1))  # row i whatever the number
    error = 4 * (covariance.diag() / 40_000).sqrt()
    assert bool(((drawn.mean(0) - z.mean(0)).abs() < error).all())
    variances = covariance.diag()
    slack = 4 * ((variances[:, None] * variances + covariance.square()) / 40_000).sqrt()
    assert bool(((drawn.T.cov() - covariance).abs() < slack).all())


def test_distances_to_the_nearest_row():
    seen, x = torch.tensor([[0.0, 0], [10, 0]]), torch.tensor([[3.0, 4], [9, 0], [10, 0]])
    assert_close(gap_to(seen, x), torch.tensor([5.0, 1, 0]).double())


def test_draws_off_the_data():
    """Gaussian codes decode onto Gaussian data, about 1% off; onto a far place, all are."""
    model, seen, x = Affine(), Affine().decode(draws(1000, 3)), Affine().decode(draws(500, 3, seed=1))
    share = off_data(model, x, seen, model.encode(seen))
    assert share.n == 500
    assert (
        share.value <= 0.01 + 4 * (0.01 * 0.99 * 2 / 500) ** 0.5
    )  # the quantile is as uncertain as the count
    assert off_data(model, x, seen, model.encode(seen) + 50).value == 1
    model.sample = lambda n, seed: model.decode(draws(n, 3, seed=9)) + 50
    assert off_data(model, x, seen, model.encode(seen)).value == 1


def test_corruption_moves_codes_by_what_it_adds():
    """T(x) = x + W c moves each code by c, as φ is affine; the probe on x is as good there if c is nothing."""
    model = Affine()
    z = torch.cat([draws(100, 3), draws(100, 3, seed=1) + 8])
    x, y = model.decode(z), torch.arange(200) // 100
    model.corruption = lambda x, noise: x + model.weight @ torch.tensor([3.0, 0, 4]).double()
    found = latents(model, x, y, train=(x, y), parts=("labels", "corruption"))
    assert found.steadiness is not None
    assert found.steadiness.shift == pytest.approx(5)
    assert found.probe is not None
    assert found.probe.value == 1
    assert found.steadiness.probe is not None
    noises = []
    model.corruption = lambda x, noise: noises.append(noise.normal((3,))) or x
    still = latents(model, x, y, train=(x, y), seed=3, parts=("labels", "corruption")).steadiness
    assert still.shift == 0
    assert still.probe.value == 1
    assert_close(noises[0], Noise.of(3, 200, dtype=torch.double).split("corruption").normal((3,)))


# ------------------------------------------------------------------------------------------ whole


def test_probes_of_separated_and_of_meaningless_codes():
    y = torch.arange(400) % 2
    same = SimpleNamespace(shape=(2,), title="identity", encode=lambda x: x)
    apart = draws(400, 2) + 20 * y[:, None]
    found = latents(same, apart, y, parts=("labels",))
    assert found.probe.hits == found.probe.n == found.neighbours.hits == 200  # half teaches, half is asked
    blind = latents(same, draws(400, 2), y, parts=("labels",))
    assert abs(blind.probe.value - 0.5) < 4 * (0.25 / 200) ** 0.5
    assert latents(same, apart, y, parts=("labels",)) == found


def test_unknown_labels_are_neither_learnt_nor_asked():
    y = torch.arange(400) % 2
    x = draws(400, 2) + 20 * y[:, None]
    y[:100] = -1
    same = SimpleNamespace(shape=(2,), title="identity", encode=lambda x: x)
    found = latents(same, x, y, train=(x, y), parts=("labels", "information"))
    assert found.probe.n == found.neighbours.n == 300
    assert found.probe.value == 1
    assert len(found.information.entropies) == 1
    assert float(found.information.entropies[0]) == pytest.approx(log(2), abs=0.01)


def test_what_cannot_be_measured_says_why():
    x = draws(400, 2)
    same = SimpleNamespace(shape=(2,), title="identity", encode=lambda x: x)
    found = latents(same, x, parts=("units", "labels", "corruption"))
    assert found.why == {"probe": "there are no labels", "steadiness": "the model corrupts nothing"}
    one = latents(same, x, torch.zeros(400, dtype=torch.long), parts=("labels",))
    assert "two classes" in one.why["probe"]
    factors = latents(same, x, x, train=(x, x), parts=("labels", "information"))
    assert "one label a row" in factors.why["probe"]
    assert factors.information.gap > 0.8
    few = latents(same, x[:8], train=x, parts=("trustworthiness",))
    assert "12 rows" in few.why["trustworthiness"]


def test_rows_with_gaps_have_codes_and_errors_but_no_distances():
    x = draws(100, 2)
    x[3, 0] = torch.nan
    filled = SimpleNamespace(
        shape=(2,),
        title="filled",
        encode=lambda x: x.nan_to_num(0),
        reconstruct=lambda x: x.nan_to_num(7) + 1,
    )
    found = latents(filled, x, train=x, parts=("units", "trustworthiness", "manifold"))
    assert found.units.n_active == 2
    assert set(found.why) == {"trustworthiness", "manifold"}
    assert reconstruction(filled, x).squared_error == pytest.approx(199 / 100)


def test_wrong_questions_get_a_sentence():
    same = SimpleNamespace(shape=(2,), title="identity", encode=lambda x: x)
    with pytest.raises(ArgumentError, match="no part 'probes'"):
        latents(same, draws(4, 2), parts=("probes",))
    with pytest.raises(DataError, match="4 rows and 3 labels"):
        latents(same, draws(4, 2), torch.zeros(3))
    with pytest.raises(DataError, match="no rows"):
        latents(same, draws(0, 2))
    with pytest.raises(DataError, match="codes of 0 numbers"):
        latents(pp.zoo.ae((1, 8, 8), 0), digits()[0])
    with pytest.raises(MissingVerb, match="cannot encode"):
        latents(pp.zoo.classifier((1, 8, 8)), digits()[0])


def test_the_whole_of_it_on_a_vae():
    x, y = digits()
    model = pp.zoo.vae((1, 8, 8), 4, hidden=(16,))
    pp.fit(model, x, steps=30, quiet=True)
    model.train()
    found = latents(model, x, y, train=pp.data.load("digits").train)
    assert model.training
    assert found.atoms.shape == (4, 1, 8, 8)
    assert found.information.nats.shape == (4, 1)
    assert found.units.top_inputs.shape == (4, 8)
    record = json.loads(json.dumps(found.as_dict()))
    assert record["probe"]["n"] == 64
    assert len(record["units"]["activity"]) == 4
    assert "linear probe" in str(found)
    assert all(p.grad is None for p in model.parameters())


def test_a_module_of_ones_own_is_probed_on_its_device_and_dtype():
    model = pp.zoo.ae(
        (1, 8, 8), 3, hidden=(8,), encoder=nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    ).double()
    x, y = digits()
    pp.fit(model, x, steps=3, quiet=True)
    assert latents(model, x, y, train=(x, y)).rows == 64
