"""What the zoo's functions share: networks by name or of your own, and sizes that make sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf, prod
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import forked
from psiphi.basis.shapes import Shape, show
from psiphi.formulas import games
from psiphi.models._base import evaluating
from psiphi.networks import MLP, ConditionedMLP, ConvDecoder, ConvEncoder, Transposed, UNet
from psiphi.parts import Critic
from psiphi.parts import lipschitz as means

Distortion = str | Callable[[Tensor, Tensor], Tensor]
ENCODERS: dict[str, Any] = {"mlp": MLP, "conv": ConvEncoder}
DECODERS: dict[str, Any] = {"mlp": MLP, "conv": ConvDecoder}
DENOISERS: dict[str, Any] = {"mlp": ConditionedMLP, "unet": UNet}
HIDDEN = {"mlp": (512,), "conv": (32, 64)}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
}


def check_latent(latent_dim: int, shape: Shape | None, least: int = 1) -> None:
    """At least `least` numbers, and no more than the data have where a shape is given."""
    if latent_dim < least:
        raise ArgumentError(f"latent_dim must be at least {least}; got {latent_dim}.")
    if shape is not None and latent_dim > prod(shape):
        raise ArgumentError(
            f"a latent of {latent_dim} is larger than the data ({prod(shape)} numbers, shape {show(shape)}): "
            f"nothing would be compressed; choose at most {prod(shape)}."
        )


def check_sparsity(latent_dim: int, k: int, alpha: float) -> None:
    check_latent(latent_dim, None)
    if not (1 <= k <= latent_dim and round(alpha * k) >= 1):
        raise ArgumentError(
            f"a k-sparse code keeps k of its {latent_dim} numbers, 1 ≤ k ≤ {latent_dim}, and α k ≥ 1 outside "
            f"training; got k = {k}, alpha = {alpha:g}."
        )


def check_share(shares: tuple[float, ...]) -> tuple[float, ...]:
    if not all(0 < share < 1 for share in shares):
        raise ArgumentError(f"a mean activation to aim at lies between 0 and 1; got {shares}.")
    return shares


def check_classes(classes: int) -> int:
    if classes < 2:
        raise ArgumentError(f"labels need at least 2 classes; got {classes}.")
    return int(classes)


def check_weights(**weights: Any) -> None:
    for name, value in weights.items():
        if not isinstance(value, int | float) or not 0 <= float(value) < inf:
            raise ArgumentError(f"{name} must be a number of at least 0; got {value!r}.")


def positive(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < float(value) < inf:
        raise ArgumentError(f"{name} must be a number above 0; got {value!r}.")
    return float(value)


def check_ema(ema: Any) -> float | None:
    if ema is not None and not (isinstance(ema, float | int) and 0 <= ema < 1):
        raise ArgumentError(f"ema is the decay of an average, at least 0 and below 1, or None; got {ema!r}.")
    return ema


def encoder_network(
    net: str,
    own: nn.Module | None,
    shape: Shape,
    out: int,
    hidden: Sequence[int] | None,
    seed: int,
    activation: str = "relu",
) -> nn.Module:
    """Your own module, or the named one: (B, *shape) -> (B, out)."""
    if own is not None:
        return probed(own, shape, (out,), "encoder")
    with forked(seed, "encoder"):
        return _named(ENCODERS, net)(shape, (out,), _widths(net, hidden), _activation(activation))


def decoder_network(
    net: str,
    own: nn.Module | None,
    latent_dim: int,
    shape: Shape,
    hidden: Sequence[int] | None,
    seed: int,
    activation: str = "relu",
    what: str = "decoder",
) -> nn.Module:
    """Your own module, or the named one mirrored: (B, latent_dim) -> (B, *shape)."""
    if own is not None:
        return probed(own, (latent_dim,), shape, what)
    widths = _widths(net, hidden)
    with forked(seed, "decoder"):
        widths = widths[::-1] if net == "mlp" else widths
        return _named(DECODERS, net)((latent_dim,), shape, widths, _activation(activation))


def denoiser_network(
    net: str, own: nn.Module | None, shape: Shape, hidden: Sequence[int] | None, classes: int, seed: int
) -> nn.Module:
    """Your own module, or the named one: (B, *shape), (B,), (B,) or None -> (B, *shape)."""
    if own is not None:
        return probed(own, shape, shape, "network", torch.zeros(2), torch.full((2,), -1) if classes else None)
    with forked(seed, "denoiser"):
        widths = {} if hidden is None else {"hidden" if net == "mlp" else "channels": _widths(net, hidden)}
        return _named(DENOISERS, net)(shape, **widths, classes=classes)


def critic_network(
    net: str, own: nn.Module | None, shape: Shape, hidden: Sequence[int] | None, seed: int
) -> nn.Module:
    """Your own module, or the named one, an `nn.Sequential` with leaky units: (n, *shape) -> (n, 1)."""
    if own is not None:
        return probed(own, shape, (1,), "critic")
    with forked(seed, "critic"):
        built = _named(ENCODERS, net)(shape, (1,), _widths(net, hidden), _activation("leaky_relu"))
    return nn.Sequential(nn.Flatten(), *built.layers) if net == "mlp" else built.layers


def critic_of(
    net: str, own: nn.Module | None, shape: Shape, hidden: Sequence[int] | None, seed: int, game: str, lipschitz: Any,
    **more: Any,
) -> Critic:  # fmt: skip
    """A critic of samples of `shape`; lipschitz: by name or as a value; more: statistics, pack, classes of `Critic`.

    Labels are channels of an image; other shapes are flattened for them.
    """
    pack, classes = check_whole("pack", more.get("pack", 1)), more.get("classes", 0)
    if len(shape) == 3 or not classes:
        judged = (pack * (shape[0] + classes), *shape[1:])
    else:
        judged = (pack * (prod(shape) + classes),)
    if game not in games.GAMES:
        raise ArgumentError(f"no game is called {game!r}; use {', '.join(games.GAMES)}.")
    bounded = means(lipschitz) if isinstance(lipschitz, str) else lipschitz
    with forked(seed, "slope"):  # a spectral norm starts from random vectors
        return Critic(critic_network(net, own, judged, hidden, seed), games.GAMES[game], bounded, **more)


def networks(
    shape: Shape,
    latent_dim: int,
    outputs: int | None = None,
    *,
    net: str,
    hidden: Sequence[int] | None,
    encoder: nn.Module | None,
    decoder: nn.Module | None,
    seed: int,
    activation: str = "relu",
    tied: bool = False,
    told: Shape | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Encoder (B, *shape) -> (B, outputs) and decoder (B, latent_dim) -> (B, *shape); tied: Wᵀ in the decoder.

    told: what the decoder gives, where it is of another shape.
    """
    phi = encoder_network(
        net, encoder, shape, latent_dim if outputs is None else outputs, hidden, seed, activation
    )
    if not tied:
        return phi, decoder_network(net, decoder, latent_dim, told or shape, hidden, seed, activation)
    if not isinstance(phi, MLP) or decoder is not None:
        raise ArgumentError("tied weights need the net 'mlp' and no network of your own.")
    return phi, Transposed(phi)


def _activation(name: str) -> Callable[[], nn.Module]:
    if name not in ACTIVATIONS:
        raise ArgumentError(f"no activation is called {name!r}; use {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _named(nets: dict[str, Any], net: str) -> Any:
    if net not in nets:
        raise ArgumentError(
            f"no network is called {net!r}; use {' or '.join(nets)}, or pass a module of your own."
        )
    return nets[net]


def _widths(net: str, hidden: Sequence[int] | None) -> tuple[int, ...]:
    try:
        widths = tuple(index(n) for n in (HIDDEN.get(net, ()) if hidden is None else hidden))
    except TypeError:
        widths = (0,)
    if min(widths, default=1) < 1:
        raise ArgumentError(f"hidden is a list of widths of at least 1, e.g. (512,); got {hidden!r}.")
    return widths


def per_layer(values: float | Sequence[float], layers: int, what: str) -> tuple[float, ...]:
    """One number for each of the layers: a single one is for all."""
    given = (float(values),) * layers if isinstance(values, int | float) else tuple(float(v) for v in values)
    if len(given) != layers or min(given) < 0:
        raise ArgumentError(
            f"{what} is a number of at least 0, or one for each of the {layers} layers (the code last); got {values!r}."
        )
    return given


def probed(
    module: nn.Module, shape_in: Shape, shape_out: Shape, what: str, *more: Tensor | None
) -> nn.Module:
    """Run the module once on zeros, and what more it is given, and check what comes out."""
    first = next(module.parameters(), torch.empty(()))
    with torch.no_grad(), evaluating(module):
        try:
            x = torch.zeros(2, *shape_in, device=first.device, dtype=first.dtype)
            found = tuple(module(x, *(None if each is None else each.to(x.device) for each in more)).shape)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ShapeError(f"your {what} cannot take {show((2, *shape_in))} ({error}).") from None
    if found != (2, *shape_out):
        raise ShapeError(
            f"your {what} gives {show(found)} for a batch of 2; {show((2, *shape_out))} is needed."
        )
    return module
