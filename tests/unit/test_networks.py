"""Networks fit any shape: sizes come out as asked, and every weight takes part."""

from __future__ import annotations

from math import ceil

import pytest
import torch
from torch import nn

from psiphi.basis.errors import ShapeError
from psiphi.networks import MLP, ConvDecoder, ConvEncoder

IMAGES = [
    (1, 8, 8), (3, 8, 8), (1, 7, 7), (1, 28, 28), (3, 32, 32), (2, 5, 9), (5, 9, 4), (1, 1, 1), (1, 1, 16), (4, 13, 1),
    (1, 2, 3), (7, 17, 31),
]  # fmt: skip
CHANNELS = [(4,), (4, 6), (3, 5, 2), ()]


def every_weight_takes_part(net: nn.Module, out: torch.Tensor) -> None:
    """A random linear function of the output has a gradient in every parameter, and in the input."""
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * probe).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def tanh(net: type, *args) -> nn.Module:
    """Smooth, so that no unit is dead whatever the seed."""
    torch.manual_seed(0)
    return net(*args, activation=nn.Tanh)


@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_convolutions_fit_any_image(shape, channels):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    encoder = tanh(ConvEncoder, shape, (5,), channels)
    decoder = tanh(ConvDecoder, (5,), shape, channels)
    z = encoder(x)
    assert z.shape == (3, 5)
    assert decoder(z).shape == (3, *shape)
    every_weight_takes_part(encoder, z)
    assert (x.grad.flatten(1).abs().max(1).values > 0).all()
    code = torch.randn(3, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    out = decoder(code)
    every_weight_takes_part(decoder, out)
    assert (code.grad.abs().max(1).values > 0).all()


@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_each_stage_halves_the_image(shape):
    sizes = [
        tuple(layer(torch.zeros(1, *shape)).shape[2:])
        for layer in (tanh(ConvEncoder, shape, (5,), (4,) * n).layers[: 2 * n] for n in (1, 2, 3))
    ]
    _, height, width = shape
    assert sizes == [(ceil(height / 2**n), ceil(width / 2**n)) for n in (1, 2, 3)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 5, 9)], ids=str)
def test_every_pixel_is_seen_and_every_pixel_is_made(shape):
    encoder, decoder = tanh(ConvEncoder, shape, (5,), (4, 6)), tanh(ConvDecoder, (5,), shape, (4, 6))
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    seen = torch.autograd.functional.jacobian(encoder, x).abs().amax((0, 1, 2))
    assert (seen > 0).all()
    made = torch.autograd.functional.jacobian(decoder, encoder(x).detach()).abs().amax((0, -2, -1))
    assert (made > 0).all()


def test_codes_may_have_any_shape():
    assert ConvEncoder((1, 8, 8), (2, 3), (4,))(torch.zeros(5, 1, 8, 8)).shape == (5, 2, 3)
    assert ConvDecoder((2, 3), (1, 8, 8), (4,))(torch.zeros(5, 2, 3)).shape == (5, 1, 8, 8)


@pytest.mark.parametrize("net", [ConvEncoder, ConvDecoder])
@pytest.mark.parametrize("shape", [(8,), (8, 8), (1, 2, 8, 8)], ids=str)
def test_convolutions_of_no_image_get_a_sentence(net, shape):
    ends = (shape, (5,)) if net is ConvEncoder else ((5,), shape)
    with pytest.raises(ShapeError, match=r"needs images .* use net='mlp' or reshape"):
        net(*ends)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 9, 3)], ids=str)
@pytest.mark.parametrize("shape_in", [(6,), (1, 4, 4), (2, 3)], ids=str)
@pytest.mark.parametrize("shape_out", [(5,), (3, 2), (1, 4, 4)], ids=str)
def test_a_perceptron_between_any_two_shapes(shape_in, shape_out, hidden):
    net = tanh(MLP, shape_in, shape_out, hidden)
    x = torch.randn(3, *shape_in, generator=torch.Generator().manual_seed(0))
    out = net(x)
    assert out.shape == (3, *shape_out)
    every_weight_takes_part(net, out)
    widths = [layer.out_features for layer in net.layers if isinstance(layer, nn.Linear)]
    assert widths[:-1] == list(hidden)
    assert sum(isinstance(layer, nn.Tanh) for layer in net.layers) == len(hidden)


def test_no_hidden_layer_is_an_affine_map():
    net = MLP((4,), (3,), ())
    x, y = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x + 2 * y), net(x) + 2 * (net(y) - net(0 * y)))


def test_the_decoder_ends_without_activation():
    """Means of a likelihood may be negative."""
    for net in (MLP((5,), (1, 8, 8), (9,)), ConvDecoder((5,), (1, 8, 8), (4, 6))):
        out = net(100 * torch.randn(50, 5, generator=torch.Generator().manual_seed(0)))
        assert out.min() < 0 < out.max()
