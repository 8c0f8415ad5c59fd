"""Changes measured by a network's features: what they are, and the network left as it was."""

from __future__ import annotations

import copy
import sys
import types

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.attacks._protocols import join, take
from psiphi.attacks.threats import L2, Features
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise
from psiphi.formulas import features
from psiphi.formulas.geometry import Box

BOX = Box(0.0, 1.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(54, 5)),
    )


def images(b: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    gen = torch.Generator().manual_seed(0)
    x = torch.rand(b, 2, 6, 6, generator=gen)
    return x, x + 0.3 * torch.randn(x.shape, generator=gen)


def by_hand(net: nn.Sequential, v: torch.Tensor, upto: int) -> torch.Tensor:
    return copy.deepcopy(net).eval()[: upto + 1](v)


def test_layers_are_the_outputs_of_the_modules_named():
    """The convolution's output is that before the activation in place which follows it."""
    net, (x, v) = network(), images()
    net[2].inplace = False
    expected = torch.cat([by_hand(net, x, i).flatten(1) for i in (1, 5)], 1)
    net[2].inplace = True
    assert_close(Features(net, ("1", "5")).features(x), expected)
    assert_close(Features(net).features(x), by_hand(net, x, 7))
    assert_close(
        Features(net, "5").distance(v, x), (by_hand(net, v, 5) - by_hand(net, x, 5)).flatten(1).norm(dim=1)
    )


def test_normalised_features_are_unit_vectors_of_channels():
    net, (x, v) = network(), images()
    threat = Features(net, ("2", "5"), normalise=True)
    square = 0
    for i in (2, 5):
        a, b = (by_hand(net, z, i) for z in (v, x))
        a, b = (each / (each.norm(dim=1, keepdim=True) + 1e-10) for each in (a, b))
        square = square + (a - b).square().sum(1).mean((1, 2))
    assert_close(threat.distance(v, x), square.sqrt())
    flat = features.normalised(torch.rand(3, 7))
    assert_close(flat.norm(dim=1), torch.ones(3))


def test_the_network_is_left_as_it_was():
    net, (x, v) = network(), images()
    net[0].weight.requires_grad_(False)
    net[4].eval()
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    flags = [p.requires_grad for p in net.parameters()]
    threat = Features(net, eps=0.1).expand(x)
    threat.project(v, x, BOX)
    threat.steepest(v, x, BOX)
    threat.slope(v, x)
    threat.start(x, BOX, Noise.of(0, len(x)))
    with pytest.raises(ArgumentError, match=r"fails on .* of shape \(8, 1, 6, 6\)"):
        threat.distance(v[:, :1], x[:, :1])
    assert [module.training for module in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_rows_are_taken_and_joined_with_their_radii():
    net, (x, v) = network(), images()
    threat = Features(net, "5", torch.linspace(0.1, 0.8, 8))
    some = take(threat, torch.tensor([6, 1]))
    assert some.network is net
    assert some.layers == ("5",)
    assert_close(some.eps, threat.eps[[6, 1]])
    both = join(some, take(threat, torch.tensor([2])))
    assert both.network is net
    assert len(both.eps) == 3
    whole = threat.project(v, x, BOX)
    assert_close(some.project(v[[6, 1]], x[[6, 1]], BOX), whole[[6, 1]], atol=1e-5, rtol=0)
    with pytest.raises(ShapeError):
        threat.expand(x[:3])


@pytest.mark.parametrize("normalise", [False, True])
def test_projection_goes_as_far_as_it_may(normalise):
    """Also where ReLU makes the direction of features jump."""
    net, (x, v) = network().double(), [z.double() for z in images(32)]
    threat = Features(net, ("2", "5"), 0.3, normalise=normalise).expand(x)
    inside = v.clamp(0, 1)
    u = threat.project(v, x, BOX)
    assert (threat.distance(u, x) <= 0.3 + 1e-12).all()
    t = (u - x).flatten(1).norm(dim=1) / (inside - x).flatten(1).norm(dim=1)
    active = threat.distance(inside, x) > 0.3
    assert active.sum() >= 10
    beyond = torch.lerp(x, inside, (t + 1e-8).view(-1, 1, 1, 1))
    assert (threat.distance(beyond, x) > 0.3)[active].all()
    assert torch.equal(u[~active], inside[~active])


def test_a_radius_of_zero_moves_nothing_and_of_infinity_the_box_limits():
    (x, v), net = images(), network()
    assert_close(Features(net, eps=0).project(v, x, BOX), x, atol=1e-5, rtol=0)
    assert torch.equal(Features(net).project(v, x, BOX), v.clamp(0, 1))
    with pytest.raises(ArgumentError, match=r"no radius.*random_start=False"):
        Features(net).start(x, BOX, Noise.of(0, len(x)))


def test_starts_fill_the_radius_and_belong_to_their_rows():
    (x, _), net = images(), network()
    x = x[:1].expand(400, *x.shape[1:])
    threat = Features(net, "5", eps=0.2)
    begun = threat.start(x, BOX, Noise.of(0, 400))
    share = threat.distance(begun, x) / 0.2
    # Uniform on (0, 1): mean ½ with a standard error of 1/√(12·400).
    assert abs(float(share.mean()) - 0.5) <= 4 / (12 * 400) ** 0.5
    assert share.max() <= 1 + 1e-5
    some = torch.tensor([300, 7])
    again = threat.start(x[some], BOX, Noise.of(0, 400).take(some))
    assert_close(again, begun[some], atol=1e-4, rtol=0)


def test_steepest_solves_for_the_least_feature_length():
    """All of it where J is square; and ‖J d‖ = 1, 0 at a wall that stops the step, 0 where the gradient is."""
    torch.manual_seed(0)
    net, x = nn.Linear(5, 5).double(), torch.rand(6, 5).double()
    with torch.no_grad():
        net.weight.copy_(torch.diag(torch.tensor([1.0, 1.2, 1.4, 1.6, 1.8]).double()))
    g = torch.randn(6, 5).double()
    g[5], x[0, 0], g[0, 0] = 0, 1.0, 2.0
    d = Features(net).steepest(g, x, BOX)
    a = g / net.weight.diag().square()
    a[0, 0] = 0
    expected = a / (a @ net.weight.T).norm(dim=1, keepdim=True)
    assert_close(d[:5], expected[:5], atol=5e-3, rtol=0)
    assert (d[5] == 0).all()
    assert d[0, 0] == 0
    assert_close((d[:5] @ net.weight.T).norm(dim=1), torch.ones(5).double())


def test_steepest_where_features_do_not_see():
    """A network that drops a coordinate: the step is finite."""
    net = nn.Linear(4, 2).double()
    d = Features(net).steepest(torch.randn(3, 4).double(), torch.rand(3, 4).double(), Box(-9.0, 9.0))
    assert d.isfinite().all()
    assert (d.abs().amax(1) > 0).all()


def test_slope_is_the_gradient_of_the_distance():
    net, (x, v) = network().double().eval(), [z.double() for z in images()]
    threat = Features(net, ("2", "5"))
    slope, step = threat.slope(v, x), 1e-6 * torch.randn(v.shape, dtype=torch.float64)
    moved = (threat.distance(v + step, x) - threat.distance(v - step, x)) / 2
    assert_close((slope * step).flatten(1).sum(1), moved, atol=1e-11, rtol=1e-4)
    assert (threat.slope(x, x) == 0).all()


def test_identity_is_l2_in_float32_too():
    (x, v), wide = images(), Box(-50.0, 50.0)
    for net in (nn.Identity(), nn.Flatten()):
        mine, theirs = Features(net, eps=0.7), L2(0.7)
        assert_close(mine.distance(v, x), theirs.distance(v, x))
        assert_close(mine.project(v, x, wide), theirs.project(v, x, wide), atol=2e-6, rtol=0)
        assert_close(mine.steepest(v, x, wide), theirs.steepest(v, x, wide))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Features(network(), ("1", "99")), "there is no '99'"),
        (lambda: Features(network(), ()), "no name at all"),
        (lambda: Features(lambda x: x), "needs a module"),
        (lambda: Features(network(), eps=-1), "at least 0"),
        (
            lambda: Features(nn.Sequential(nn.Flatten(0)))._differentiable(images()[0]),
            "one row for each input",
        ),
        (lambda: Features(Rounded()).slope(*images()), "differentiably"),
        (lambda: Features.vgg("weights.safetensors"), "torchvision"),
    ],
)
def test_what_has_no_meaning_says_so(make, says, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ArgumentError, match=says):
        make()


class Rounded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach().round()


def test_vgg_takes_local_weights_and_names_its_layers(monkeypatch, tmp_path):
    from safetensors.torch import save_file

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU()
            )

    torch.manual_seed(0)
    net, module = Net(), types.ModuleType("torchvision.models")
    module.vgg16 = lambda weights: Net()
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", module)
    save_file(net.state_dict(), tmp_path / "vgg.safetensors")
    x, mean, std = torch.rand(2, 3, 9, 9), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    threat = Features.vgg(
        tmp_path / "vgg.safetensors", layers=("1", "3"), mean=mean.tolist(), std=std.tolist(), normalise=False
    )
    scaled = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    expected = torch.cat([net.features[:2](scaled).flatten(1), net.features(scaled).flatten(1)], 1)
    assert_close(threat.features(x), expected)
    save_file({"other": torch.zeros(1)}, tmp_path / "vgg.safetensors")
    with pytest.raises(ArgumentError, match="no weights of VGG-16"):
        Features.vgg(tmp_path / "vgg.safetensors")


def test_names():
    assert repr(Features(nn.Identity())) == "Features(Identity)"
    said = repr(Features(network(), ["5"], 0.5, normalise=True))
    assert said == "Features(Sequential, layers=('5',), eps=0.5, normalise=True)"
