"""What the zoo's functions share: networks by name or of your own, and sizes that make sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.noise import forked
from psiphi.basis.shapes import Shape, show
from psiphi.models._base import evaluating
from psiphi.networks import MLP, ConvDecoder, ConvEncoder

Distortion = str | Callable[[Tensor, Tensor], Tensor]
ENCODERS: dict[str, Any] = {"mlp": MLP, "conv": ConvEncoder}
DECODERS: dict[str, Any] = {"mlp": MLP, "conv": ConvDecoder}
HIDDEN = {"mlp": (512,), "conv": (32, 64)}


def check_latent(latent_dim: int, shape: Shape, least: int = 1) -> None:
    if latent_dim < least:
        raise ArgumentError(f"latent_dim must be at least {least}; got {latent_dim}.")
    if latent_dim > prod(shape):
        raise ArgumentError(
            f"a latent of {latent_dim} is larger than the data ({prod(shape)} numbers, shape {show(shape)}): "
            f"nothing would be compressed; choose at most {prod(shape)}."
        )


def check_weights(**weights: Any) -> None:
    for name, value in weights.items():
        if not isinstance(value, int | float) or not 0 <= float(value) < inf:
            raise ArgumentError(f"{name} must be a number of at least 0; got {value!r}.")


def encoder_network(
    net: str, own: nn.Module | None, shape: Shape, out: int, hidden: Sequence[int] | None, seed: int
) -> nn.Module:
    """Your own module, or the named one: (B, *shape) -> (B, out)."""
    if own is not None:
        return probed(own, shape, (out,), "encoder")
    with forked(seed, "encoder"):
        return _named(ENCODERS, net)(shape, (out,), _widths(net, hidden))


def decoder_network(
    net: str, own: nn.Module | None, latent_dim: int, shape: Shape, hidden: Sequence[int] | None, seed: int
) -> nn.Module:
    """Your own module, or the named one mirrored: (B, latent_dim) -> (B, *shape)."""
    if own is not None:
        return probed(own, (latent_dim,), shape, "decoder")
    widths = _widths(net, hidden)
    with forked(seed, "decoder"):
        return _named(DECODERS, net)((latent_dim,), shape, widths[::-1] if net == "mlp" else widths)


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


def probed(module: nn.Module, shape_in: Shape, shape_out: Shape, what: str) -> nn.Module:
    """Run the module once on zeros and check what comes out."""
    first = next(module.parameters(), torch.empty(()))
    with torch.no_grad(), evaluating(module):
        try:
            found = tuple(module(torch.zeros(2, *shape_in, device=first.device, dtype=first.dtype)).shape)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ShapeError(f"your {what} cannot take {show((2, *shape_in))} ({error}).") from None
    if found != (2, *shape_out):
        raise ShapeError(
            f"your {what} gives {show(found)} for a batch of 2; {show((2, *shape_out))} is needed."
        )
    return module
