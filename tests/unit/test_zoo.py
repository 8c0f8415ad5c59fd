"""Arguments of the zoo's own; what all its models share is in tests/contracts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.networks import MLP, ConvDecoder, ConvEncoder


def linears(net: nn.Module) -> list[tuple[int, int]]:
    return [
        (layer.in_features, layer.out_features) for layer in net.modules() if isinstance(layer, nn.Linear)
    ]


def test_hidden_widths_are_mirrored():
    model = pp.zoo.vae((1, 8, 8), 3, hidden=(20, 10))
    assert linears(model.encoder) == [(64, 20), (20, 10), (10, 6)]
    assert linears(model.decoder) == [(3, 10), (10, 20), (20, 64)]
    affine = pp.zoo.ae(5, 3, hidden=())
    assert linears(affine.encoder) == [(5, 3)]
    assert linears(affine.decoder) == [(3, 5)]


def test_defaults_of_the_networks():
    assert linears(pp.zoo.ae((1, 8, 8), 3).encoder) == [(64, 512), (512, 3)]
    conv = pp.zoo.ae((2, 9, 7), 3, net="conv")
    assert isinstance(conv.encoder.network, ConvEncoder)
    assert isinstance(conv.decoder.network, ConvDecoder)
    assert [layer.out_channels for layer in conv.encoder.modules() if isinstance(layer, nn.Conv2d)] == [
        32,
        64,
    ]
    ups = [layer.out_channels for layer in conv.decoder.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert ups == [32, 2]
    assert isinstance(pp.zoo.classifier(5).network, MLP)
    assert linears(pp.zoo.classifier(5, 3, hidden=(7,))) == [(5, 7), (7, 3)]


@pytest.mark.parametrize("build", [pp.zoo.ae, pp.zoo.vae, pp.zoo.classifier])
def test_convolutions_need_images(build):
    with pytest.raises(ShapeError, match=r"needs images \(channels, height, width\); the data have \(64\)"):
        build(64, net="conv")


def test_shapes_may_be_numbers_lists_or_tuples():
    for shape in (12, [12], (12,), torch.Size([12])):
        assert pp.zoo.pca(shape, 2).shape == (12,)


def test_encoder_and_decoder_start_from_seeds_of_their_own():
    """The same seed with another decoder leaves the encoder as it was."""
    first, other = pp.zoo.ae(6, 2, seed=4), pp.zoo.ae(6, 2, seed=4, decoder=nn.Linear(2, 6))
    for mine, theirs in zip(first.encoder.parameters(), other.encoder.parameters()):
        assert_close(mine, theirs, rtol=0, atol=0)
    square = pp.zoo.ae(6, 6, seed=4, hidden=())
    assert not torch.equal(square.encoder.network.layers[0].weight, square.decoder.network.layers[0].weight)


def test_own_networks_in_double_precision_on_their_device():
    model = pp.zoo.ae(6, 2, encoder=nn.Linear(6, 2).double(), decoder=nn.Linear(2, 6).double()).double()
    assert model.reconstruct(torch.zeros(3, 6)).dtype == torch.float64


def test_registering_gives_the_builder_back():
    from psiphi.basis.registry import models

    def tiny(shape, *, seed: int = 0):
        """Tiny."""
        return pp.zoo.pca(shape, 1)

    try:
        built = pp.zoo.register(tiny)
        model = built(4)
        assert models["tiny"].build(4).title == "tiny"
        assert model.recipe == {"model": "tiny", "arguments": {"shape": 4, "seed": 0}}
    finally:
        del models._entries["tiny"]


@pytest.mark.parametrize("samples", [0, -1, 1.5, "x", None])
def test_a_number_of_draws_that_is_none_gets_a_sentence(samples):
    with pytest.raises(ArgumentError, match="number of samples must be an integer of at least 1"):
        pp.zoo.vae(5, 2, samples=samples)


@pytest.mark.parametrize("name", ["beta", "warmup", "free_bits"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "x", None])
def test_a_weight_that_is_none_gets_a_sentence(name, value):
    with pytest.raises(ArgumentError, match=f"{name} must be a number of at least 0; got"):
        pp.zoo.vae(5, 2, **{name: value})
