"""What a model is built around: samples of one kind of number, or the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from psiphi import parts
from psiphi.basis.errors import ArgumentError, ShapeError
from psiphi.basis.shapes import Shape, show
from psiphi.data import Columns
from psiphi.formulas.mixed import Sizes
from psiphi.parts import Statistics
from psiphi.parts.conditional import Decoder
from psiphi.parts.tables import MixedDecoder, TableInput, TableStatistics, seen_width, told_width
from psiphi.zoo._build import Distortion

Table = Columns | Sequence[Any] | None


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a shape; encoders' networks see them as they are, decoders' networks tell them as they are."""

    seen: Shape
    told: Shape
    statistics: Statistics

    def encoder(self, network: nn.Module) -> nn.Module:
        """The encoder's network, (B, *shape) -> (B, …), of one that takes (B, *seen)."""
        return network

    def decoder(self, likelihood: Distortion, network: nn.Module) -> Decoder:
        """p(x|z) of a network that gives (B, *told)."""
        return parts.likelihood(likelihood, network, self.told, self.statistics)


@dataclass(frozen=True, eq=False)
class Rows(Samples):
    """Rows of a table: networks see numbers, one-hot codes and what is there, and tell numbers and logits."""

    sizes: Sizes

    def encoder(self, network: nn.Module) -> nn.Module:
        return nn.Sequential(TableInput(self.sizes), network)

    def decoder(self, likelihood: Distortion, network: nn.Module) -> Decoder:
        if likelihood != "gaussian":
            raise ArgumentError(
                f"each column of a table has its own likelihood, learned; got likelihood={likelihood!r}: leave it out."
            )
        return MixedDecoder(network, self.sizes, self.statistics)


def data_of(shape: Shape, columns: Table = None, prior: str = "standard") -> Samples:
    """The samples of a shape, or with `columns` (what `Columns.of` takes) the rows of a table."""
    if columns is None:
        return Samples(shape, shape, Statistics(shape))
    sizes = Columns.of(columns).sizes
    if any(sizes) and prior.startswith("vamp"):
        raise ArgumentError(
            "a VampPrior learns inputs, and a category cannot be learnt like that: use another prior."
        )
    if shape != (len(sizes),):
        raise ShapeError(
            f"{len(sizes)} columns are given for samples of shape {show(shape)}; one each is needed."
        )
    return Rows((seen_width(sizes),), (told_width(sizes),), TableStatistics(sizes), sizes)
