"""Projection: by search in a generator's code, by reconstruction, and what a defence makes of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.attacks import Linf, pgd
from psiphi.basis.errors import ArgumentError
from psiphi.defenses import purify
from psiphi.models import _generator, nearest_code

D, CODE, MEAN, UNIT = 6, 2, 3.0, 2.5


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def line(weight: torch.Tensor) -> nn.Module:
    network = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    network.weight.data.copy_(weight)
    return network


def generator(network: nn.Module, d: int, code: int, **more):
    """A generator of data with mean 3 and σ 2.5."""
    gan = pp.zoo.gan(d, latent_dim=code, hidden=(4,), generator=network, **more).double().eval()
    gan.statistics.mean.fill_(MEAN)
    gan.statistics.sigma.fill_(UNIT)
    return gan


def linear():
    weight = rand(D, CODE, seed=1)
    return generator(line(weight), D, CODE), weight @ torch.linalg.pinv(weight)


def test_a_linear_generator_projects_onto_its_span():
    gan, onto = linear()
    x = MEAN + UNIT * rand(20, D, seed=2)
    assert_close(gan.project(x), MEAN + (x - MEAN) @ onto, rtol=0, atol=1e-3)
    assert "project" in gan.can


class Searching(nn.Module):
    """A generator whose search is cut short."""

    def __init__(self, gan, **how):
        super().__init__()
        self.gan, self.how = gan, how

    def project(self, x):
        return self.gan.project(x, **self.how)


def test_the_gradient_through_the_search_is_that_of_the_projection():
    """dΠ(x)/dx is the orthogonal projector: what a defence hands to an attack."""
    gan, onto = linear()
    x = (MEAN + UNIT * rand(4, D, seed=3)).requires_grad_()
    net = nn.Linear(D, 3).double()
    net.weight.data.copy_(rand(3, D, seed=4))
    with torch.no_grad():
        assert_close(purify(net, gan)(x), net(gan.project(x)))
    (g,) = torch.autograd.grad(purify(net, Searching(gan, steps=120))(x)[:, 0].sum(), x)
    assert_close(g, (net.weight[0] @ onto).detach().expand(4, D), rtol=0, atol=0.05)


def test_the_gradient_of_a_curved_search_is_the_measured_one():
    gan = generator(nn.Sequential(nn.Linear(CODE, 8), nn.Tanh(), nn.Linear(8, D)), D, CODE)
    x, direction, w, h = MEAN + UNIT * rand(3, D, seed=5), rand(3, D, seed=6), rand(3, D, seed=7), 1e-6
    leaf = x.clone().requires_grad_()

    def at(x):
        return (gan.project(x, steps=15, restarts=2) * w).sum()

    (g,) = torch.autograd.grad(at(leaf), leaf)
    with torch.no_grad():
        measured = (at(x + h * direction) - at(x - h * direction)) / (2 * h)
    assert_close((g * direction).sum(), measured, rtol=1e-6, atol=1e-8)
    assert g.abs().max() > 0.01


class Circle(nn.Module):
    def forward(self, z):
        return torch.cat([z.cos(), z.sin()], 1)


def test_the_nearest_point_of_a_circle():
    """‖ψ(z) − x‖² has a maximum on the far side: starts that are near avoid it."""
    x = rand(30, 2, seed=8)
    found = nearest_code(Circle(), x, 2 * rand(64, 1, seed=9), restarts=2)
    norm = x.norm(dim=1)
    assert_close(found.point, x / norm[:, None], rtol=0, atol=1e-3)
    assert_close(found.distance, (norm - 1) ** 2, rtol=0, atol=1e-5)
    assert_close(Circle()(found.code), found.point)


class Lines(nn.Module):
    """ψ(z, y) = (z, 2y): parallel lines, one a label."""

    def forward(self, told):
        return torch.stack([told[:, 0], told[:, 1:] @ told.new_tensor([0.0, 2.0, 4.0])], 1)


def test_labels_compete_or_are_told():
    gan = generator(Lines(), 2, 1, classes=3)
    u = torch.stack([rand(12, seed=10), torch.tensor([0.3, 1.7, 3.5] * 4, dtype=torch.float64)], 1)
    x, free = MEAN + UNIT * u, torch.tensor([0.0, 2.0, 4.0] * 4, dtype=torch.float64)
    on = lambda height: MEAN + UNIT * torch.stack([u[:, 0], height], 1)  # noqa: E731
    assert_close(gan.project(x), on(free), rtol=0, atol=1e-3)
    y = torch.tensor([2, 0, 1, 1] * 3)
    assert_close(gan.project(x, y=y), on(2.0 * y.double()), rtol=0, atol=1e-3)
    assert_close(gan.project(x, y=2), on(torch.full_like(free, 4.0)), rtol=0, atol=1e-3)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(gan.project(leaf, y=1, steps=100).sum(), leaf)
    assert_close(g, torch.tensor([1.0, 0.0], dtype=torch.float64).expand(12, 2), rtol=0, atol=0.1)
    with pytest.raises(ArgumentError, match="labels run from 0 to 2"):
        gan.project(x, y=3)


def bumpy():
    """A generator with many nearly nearest points."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(CODE, 32), nn.Tanh(), nn.Linear(32, D))
    network[0].weight.data.mul_(6)
    return generator(network, D, CODE)


def test_rows_do_not_depend_on_each_other(monkeypatch):
    gan, x = bumpy(), MEAN + UNIT * rand(70, D, seed=11)
    whole = gan.project(x, steps=40)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    assert_close(gan.project(x[order], steps=40), whole[order], rtol=0, atol=1e-10)
    assert_close(gan.project(x[3:4], steps=40), whole[3:4], rtol=0, atol=1e-10)
    monkeypatch.setattr(_generator, "CHUNK_NUMBERS", 1)
    assert_close(gan.project(x, steps=40), whole, rtol=0, atol=1e-10)
    assert gan.project(x[:0]).shape == (0, D)


def test_more_starts_end_no_further_away():
    gan, x = bumpy(), MEAN + UNIT * rand(40, D, seed=12)
    gaps = [(gan.project(x, restarts=k) - x).square().sum(1) for k in (1, 8)]
    assert (gaps[1] <= gaps[0] + 1e-9).all()
    assert (gaps[1] < gaps[0] - 1e-3).any()


def test_an_attack_goes_through_the_search():
    """White-box PGD on the purified classifier lowers its own margin on every row."""
    gan, _ = linear()
    net = nn.Linear(D, 2).double()
    net.weight.data.copy_(rand(2, D, seed=13))
    x = torch.rand(4, D, generator=torch.Generator().manual_seed(14), dtype=torch.float64)
    safe = purify(net, Searching(gan, steps=30, restarts=1))
    y = safe(x).argmax(1)
    result = pgd(Linf(0.3), steps=3)(safe, x, y)
    before, after = ((logits := safe(at)).gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None])
                     for at in (x, result.x))  # fmt: skip
    assert (after < before - 0.01).all()
    assert (result.backwards > 0).all()


def test_autoencoders_reconstruct_once_and_denoisers_three_times():
    x = rand(5, D, seed=15).float()
    r = lambda model, n: model.reconstruct(r(model, n - 1)) if n else x  # noqa: E731
    for build, times in (
        (lambda: pp.zoo.ae(D, latent_dim=2, hidden=(8,)), 1),
        (lambda: pp.zoo.denoising_ae(D, latent_dim=2, hidden=(8,)), 3),
        (lambda: pp.zoo.denoising_ae(D, latent_dim=2, hidden=(8,), corruption="masking:0.2"), 3),
    ):
        model = build()
        assert_close(model.project(x), r(model, times))
        assert_close(model.project(x, steps=2), r(model, 2))
        with pytest.raises(ArgumentError):
            model.project(x, steps=0)


def test_bad_arguments_of_a_search_get_a_sentence():
    gan, x = linear()[0], rand(2, D)
    with pytest.raises(ArgumentError, match="knows no labels"):
        gan.project(x, y=1)
    for wrong in ({"steps": 0}, {"restarts": 0}, {"lr": 0.0}, {"lr": float("nan")}):
        with pytest.raises(ArgumentError):
            gan.project(x, **wrong)
