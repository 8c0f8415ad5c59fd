"""Attacks within a radius of features, in both forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import white_box
from psiphi.attacks import L2, Linf, perceptual, pgd
from psiphi.attacks.searches import Penalty
from psiphi.attacks.threats import Features
from psiphi.basis.errors import ArgumentError

FORMS = ["projected", "lagrangian"]


def classifier(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(150, 3)).eval()


def images(n: int = 20) -> torch.Tensor:
    return torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(1))


def phi() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stop_early", [True, False])
def test_never_leaves_and_tells_the_feature_distance(form, stop_early):
    net, x, threat = classifier(), images(), Features(phi(), ("1", "2"), 0.5)
    result = perceptual(threat, form, steps=10)(net, x, stop_early=stop_early)
    assert_close(result.distance, threat.distance(result.x, x))
    assert (result.distance <= 0.5 * (1 + 1e-5)).all()
    assert result.x.min() >= 0
    assert result.x.max() <= 1
    with torch.no_grad():
        assert torch.equal(result.success, net(result.x).argmax(1) != result.label)
    assert result.success.double().mean() >= 0.3


@pytest.mark.parametrize("form", FORMS)
def test_results_do_not_depend_on_the_batch(form):
    net, x, threat = classifier().double(), images().double(), Features(phi().double(), ("1", "2"), 0.5)
    one = perceptual(threat, form, steps=8)(net, x, batch_size=7)
    other = perceptual(threat, form, steps=8)(net, x, batch_size=20)
    assert_close(one.x, other.x, atol=1e-7, rtol=0)
    assert torch.equal(one.forwards, other.forwards)
    assert torch.equal(one.backwards, other.backwards)


@pytest.mark.parametrize("form", FORMS)
def test_the_optimum_of_a_linear_model_under_identity_features(form):
    """The best change is ε g/‖g‖₂, no wall near: the score gained is ε‖g‖₂."""
    torch.manual_seed(0)
    net, x, y = (
        nn.Sequential(nn.Flatten(), nn.Linear(25, 2)).double(),
        images().double(),
        torch.arange(20) % 2,
    )
    access = white_box(net, (-50, 50))
    threat = Features(nn.Identity(), eps=0.8)
    result = perceptual(threat, form, steps=80, step=0.4)(access, x, y, stop_early=False)
    w = net[1].weight.detach()
    start = (net(x) * torch.stack((2 * y - 1, 1 - 2 * y), 1)).sum(1).detach()
    most = 0.8 * (w[0] - w[1]).norm()
    assert_close(
        result.score - start, most.expand(20), atol=1e-6 if form == "projected" else 0.1 * float(most), rtol=0
    )
    assert result.provenance["attack"].startswith("perceptual(Features(Identity, eps=0.8)")


def test_projected_is_pgd_in_features():
    net, x, threat = classifier(), images(), Features(phi(), eps=0.3)
    mine = perceptual(threat, steps=6, goal="cross_entropy")(net, x, seed=4)
    assert_close(mine.x, pgd(threat, steps=6)(net, x, seed=4).x, atol=0, rtol=0)


def test_features_of_the_classifier_itself_and_a_target():
    net, x = classifier(), images()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    threat = Features(net, "1", 2.0)
    for form in FORMS:
        result = perceptual(threat, form, steps=10)(net, x, target="least-likely")
        assert (result.distance <= 2.0 * (1 + 1e-5)).all()
        assert result.success.any()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_larger_radius_breaks_no_fewer():
    net, x, threat = classifier(), images(), Features(phi(), eps=0.5)
    curve = perceptual(threat, steps=6).curve(net, x, eps=[1e-3, 0.05, 0.8], independent=True)
    assert curve.accuracy[0] >= curve.accuracy[-1] + 0.3


def test_the_lagrangian_form_ends_on_the_radius():
    """A price of next to nothing: the walk strays, and its last point is brought back as far as ε."""
    net, x, threat = classifier(), images(6), Features(nn.Identity(), eps=0.1)
    result = perceptual(threat, "lagrangian", steps=5, step=1.0, price=1e-9)(net, x, stop_early=False)
    assert_close(result.distance, torch.full((6,), 0.1), atol=1e-5, rtol=0)


def test_each_step_is_counted():
    net, x, threat = classifier(), images(4), Features(phi(), eps=1e-4)
    for form in FORMS:
        result = perceptual(threat, form, steps=5)(net, x)
        assert result.backwards.tolist() == [5] * 4
        assert result.forwards.tolist() == [7] * 4


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: perceptual(Features(phi(), eps=1.0), "other"), "projected"),
        (lambda: perceptual(Linf(0.1), "lagrangian"), "gradient of its distance"),
        (lambda: perceptual(L2(0.1), "lagrangian"), "gradient of its distance"),
        (lambda: perceptual(Features(phi()), "lagrangian")(classifier(), images()), "no radius"),
        (lambda: perceptual(Features(phi()))(classifier(), images()), "no radius"),
        (lambda: Penalty(price=0.0), "above 0"),
        (lambda: Penalty(steps=0), "steps"),
    ],
)
def test_what_has_no_meaning_says_so(make, says):
    with pytest.raises(ArgumentError, match=says):
        make()
