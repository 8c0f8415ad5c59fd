"""Networks of denoisers: any shape, rows apart, told the noise level and the label, zero at the start."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import Noise, forked
from psiphi.networks import ConditionedMLP, Embedding, UNet
from psiphi.networks._unet import Attention

IMAGES = [
    (1, 8, 8), (3, 8, 8), (1, 28, 28), (1, 7, 5), (2, 5, 9), (1, 1, 1), (1, 1, 16), (4, 13, 1), (1, 2, 3), (3, 17, 31),
]  # fmt: skip
VECTORS = [(1,), (2,), (16,), (2, 3), (1, 8, 8)]
unet = partial(UNet, channels=(8, 12, 4))
mlp = partial(ConditionedMLP, hidden=(12, 12, 16))
CASES = [(unet, shape) for shape in IMAGES] + [(mlp, shape) for shape in VECTORS]
SMALL = [(unet, (2, 7, 5)), (mlp, (2,)), (mlp, (6,))]
every_case = pytest.mark.parametrize(
    ("make", "shape"), CASES, ids=lambda v: str(v) if isinstance(v, tuple) else v.func.__name__
)
small_cases = pytest.mark.parametrize(
    ("make", "shape"), SMALL, ids=lambda v: str(v) if isinstance(v, tuple) else v.func.__name__
)


def built(make, shape, **options) -> nn.Module:
    with forked(0):
        return make(shape, **options)


def awake(net: nn.Module) -> nn.Module:
    """Noise on every weight, so that nothing is zero, in float64."""
    net = net.double()
    for i, parameter in enumerate(net.parameters()):
        noise = Noise.of(i, parameter.numel(), dtype=torch.float64).normal().view_as(parameter)
        parameter.data += 0.1 * noise
    return net


def batch(shape, n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    noise = Noise.of(1, n, dtype=dtype)
    return noise.normal(shape), noise.split("c").normal(), torch.arange(n) % 4 - 1


@every_case
def test_zero_of_the_input_s_shape_at_the_start(make, shape):
    net = built(make, shape, classes=3)
    x, c, y = batch(shape, dtype=torch.float32)
    out = net(x, c, y)
    assert out.shape == x.shape
    assert (out == 0).all()


@every_case
def test_every_weight_and_every_pixel_takes_part_after_a_step(make, shape):
    """Residual branches start shut; one step of gradient descent opens them."""
    net = built(make, shape, classes=3).double()
    nn.init.normal_(net.last.weight, generator=torch.Generator().manual_seed(0))
    x, c, y = batch(shape)
    x.requires_grad_()
    probe = Noise.of(2, len(x), dtype=x.dtype).normal(shape)
    (net(x, c, y) * probe).sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    net.zero_grad()
    x.grad = None
    (net(x, c, y) * probe).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert (x.grad != 0).all()


@every_case
def test_rows_do_not_meet(make, shape):
    net = awake(built(make, shape, classes=3))
    x, c, y = batch(shape)
    whole = net(x, c, y)
    for rows in (slice(0, 1), slice(1, 3), torch.tensor([3, 0])):
        torch.testing.assert_close(net(x[rows], c[rows], y[rows]), whole[rows], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net(x[:1], c[:1]), net(x, c)[:1], rtol=1e-12, atol=1e-12)


@small_cases
def test_label_and_noise_level_are_heard(make, shape):
    net = awake(built(make, shape, classes=3))
    x, c, _ = batch(shape)

    def said(label: int) -> Tensor:
        return net(x, c, torch.full((len(x),), label))

    torch.testing.assert_close(net(x, c), said(-1), rtol=0, atol=0)
    answers = [said(label) for label in (-1, 0, 1, 2)]
    for i, first in enumerate(answers):
        for second in answers[:i]:
            assert ((first - second).flatten(1).abs().amax(1) > 1e-3).all()
    assert ((net(x, c + 0.1) - net(x, c)).flatten(1).abs().amax(1) > 1e-4).all()


@small_cases
def test_without_classes_labels_are_ignored(make, shape):
    net = awake(built(make, shape))
    x, c, y = batch(shape)
    torch.testing.assert_close(net(x, c, y), net(x, c), rtol=0, atol=0)


@small_cases
@pytest.mark.parametrize("level", [-10.0, 10.0])
def test_extreme_noise_levels_are_numbers(make, shape, level):
    net = awake(built(make, shape, classes=3)).float()
    x, _, y = batch(shape, dtype=torch.float32)
    assert net(x, torch.full((len(x),), level), y).isfinite().all()


@small_cases
def test_the_seed_is_the_network_and_eval_mode_changes_nothing(make, shape):
    """No running statistics: what an average of the weights does not hold, no buffer holds either."""
    net, again = built(make, shape, classes=3), built(make, shape, classes=3)
    with forked(1):
        other = make(shape, classes=3)
    state, same, different = net.state_dict(), again.state_dict(), other.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert not torch.equal(state["embedding.level.weight"], different["embedding.level.weight"])
    net = awake(net)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    x, c, y = batch(shape)
    torch.testing.assert_close(net.train()(x, c, y), net.eval()(x, c, y), rtol=0, atol=0)
    assert all(name.endswith("frequencies") for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    torch.testing.assert_close(copy.deepcopy(net)(x, c, y), net(x, c, y), rtol=0, atol=0)


def test_the_embedding_tells_noise_levels_apart_smoothly():
    """Its features have derivatives of at most 16, and no two levels of [-10, 10] share them."""
    embedding = built(Embedding, 8).double()
    c = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    angle = c[:, None] * embedding.frequencies
    features = torch.cat([angle.sin(), angle.cos()], 1)
    apart = torch.cdist(features, features) + 9 * torch.eye(len(c))
    assert apart.min() > 0.1
    torch.testing.assert_close(apart.min(), (features[1:] - features[:-1]).norm(dim=1).min())
    assert embedding.frequencies.max() == 16
    assert 20 * embedding.frequencies.min() < torch.pi  # the slowest wave alone does not turn back


@pytest.mark.parametrize("attention", [0, 4, 8])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (2, 3, 20), (1, 1, 1)], ids=str)
def test_pixels_look_at_each_other_only_where_there_are_few(shape, attention):
    net = built(UNet, shape, channels=(4, 4, 4), attention=attention)
    seen = []
    for module in net.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, given, out: seen.append(max(given[0].shape[2:])))
    x, c, _ = batch(shape, dtype=torch.float32)
    net(x, c)
    largest = -(-max(shape[1:]) // net.patch)
    sides = [largest, -(-largest // 2), -(-largest // 4)]
    few = [side for side in sides if 1 < side <= attention]
    assert sorted(seen) == sorted(few + [side for side in few if side != sides[-1]])


def test_attention_sees_the_other_end():
    """Of a row of eight pixels the last moves the first, through attention alone: the convolutions reach two far."""
    reached = []
    for attention in (0, 8):
        net = awake(built(UNet, (1, 1, 8), channels=(8,), attention=attention))
        nn.init.zeros_(net.middle.last.weight)
        for block in net.down[0].blocks:
            nn.init.zeros_(block.last.weight)
        net.norm = nn.Identity()  # the variance of a group of channels is of all pixels
        for module in net.modules():
            if isinstance(module, Attention):
                module.norm = nn.Identity()
        x, c, _ = batch((1, 1, 8), 1)
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(net(x, c)[0, 0, 0, 0], x)
        reached.append(bool(gradient[0, 0, 0, 7] != 0))
    assert reached == [False, True]


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("channels", [(4,), (5, 3), (8, 12, 4)], ids=str)
def test_patches_and_channels_of_any_number(channels, patch):
    net = awake(built(UNet, (2, 7, 5), channels=channels, patch=patch, blocks=2))
    x, c, _ = batch((2, 7, 5))
    x.requires_grad_()
    out = net(x, c)
    assert out.shape == x.shape
    (gradient,) = torch.autograd.grad((out * Noise.of(2, len(x), dtype=x.dtype).normal((2, 7, 5))).sum(), x)
    assert (gradient != 0).all()


@pytest.mark.parametrize("shape", [(8,), (8, 8), (1, 2, 8, 8)], ids=str)
def test_no_image_gets_a_sentence(shape):
    with pytest.raises(ShapeError, match=r"needs images .* use net='mlp' or reshape"):
        UNet(shape)


@pytest.mark.parametrize(
    "options", [{"channels": ()}, {"channels": (4, 0)}, {"blocks": 0}, {"patch": 0}], ids=str
)
def test_no_resolution_gets_a_sentence(options):
    with pytest.raises(ArgumentError, match=r"a U-Net needs .* got channels ="):
        UNet((1, 8, 8), **options)


def test_no_hidden_layer_gets_a_sentence():
    with pytest.raises(ArgumentError, match=r"at least one hidden layer"):
        ConditionedMLP((2,), hidden=())
