"""The two sides of a divergence: densities that can be drawn from, or sets of samples."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.basis.shapes import as_float, check_finite, show
from psiphi.divergences._density import Density, density


def is_density(given: Any) -> bool:
    return hasattr(given, "log_prob") or hasattr(given, "rsample") or callable(given)


def densities(p: Any, q: Any) -> tuple[Density, Density]:
    """Both as densities over the same space, by the same measure."""
    one, other = density(p, "p"), density(q, "q")
    same_size(one.dimension, other.dimension)
    for each in (one, other):
        if each.log_prob is None:
            raise ArgumentError(f"{each.name} draws but has no log_prob; give samples of both sides.")
    if one.discrete != other.discrete:
        raise ArgumentError(
            f"p ({one.name}) is {'discrete' if one.discrete else 'continuous'} and q ({other.name}) is not: they "
            "share no measure, so their divergence is not defined; compare samples by mmd or wasserstein."
        )
    if (
        one.log_table is not None
        and other.log_table is not None
        and len(one.log_table) != len(other.log_table)
    ):
        raise ShapeError(
            f"p has {len(one.log_table)} categories and q {len(other.log_table)}: both need the same ones; give those "
            "that one of them lacks a probability of 0."
        )
    return one, other


def samples(given: Any, what: str = "x", least: int = 1) -> Tensor:
    """An array, list or tensor of rows as (n, D), detached; numbers alone are rows of one."""
    try:
        x = given.detach() if isinstance(given, Tensor) else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            f"{what} is a {type(given).__name__}; give samples (n, d) as an array or tensor, or a distribution."
        ) from None
    if x.ndim == 0 or x.is_complex():
        raise ShapeError(
            f"{what} has shape {show(x.shape)} and type {x.dtype}; give real samples (n, d) or (n,)."
        )
    if len(x) < least or x[:1].numel() == 0:
        raise DataError(
            f"{what} has shape {show(x.shape)}; at least {least} rows of a number each are needed."
        )
    x = as_float(x.reshape(len(x), -1))
    check_finite(x, what)
    return x


def pair(
    p: Any, q: Any, draws: int, seed: int, least: int = 1, names: tuple[str, str] = ("p", "q")
) -> tuple[Tensor, Tensor, str]:
    """Samples of both sides, of one type, and how they were come by; a density gives as many draws as are needed."""
    given = [None if is_density(side) else samples(side, name, least) for side, name in zip((p, q), names)]
    sizes = [len(x) for x in given if x is not None]
    note, both = "", []
    for x, side, name in zip(given, (p, q), names):
        if x is None:
            n = sizes[0] if sizes else draws
            if not isinstance(n, Integral) or n < least:
                raise ArgumentError(
                    f"{n!r} draws were asked for; a whole number of at least {least} is needed."
                )
            x, note = density(side, name).draws(n, seed, name), f", {count(n)} draws"
        both.append(x)
    x, y = both
    same_size(x.shape[1], y.shape[1])
    dtype = torch.promote_types(x.dtype, y.dtype)
    dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    return x.to(dtype), y.to(x.device, dtype), note


def same_size(one: int, other: int) -> None:
    if one != other:
        raise ShapeError(f"p has rows of {one} numbers and q of {other}: both must live in one space.")


def count(n: int) -> str:
    return f"{n:,}".replace(",", " ")
