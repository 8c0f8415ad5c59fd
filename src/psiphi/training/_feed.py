"""What training reads: batches in an order that depends on the seed and the place alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import prod

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, generator, mix
from psiphi.basis.shapes import as_float
from psiphi.data.streams import Indexed, Loader, Sampler
from psiphi.parts import Batch
from psiphi.training._world import World

GATHER_NUMBERS = 1 << 20
SAMPLER_EPOCH = 100


class Feed:
    """Batches of `size` rows a process, from any source; batch t is the same whenever it is asked for.

    Batch t of all processes together are rows t·G … of the epoch's permutation, G = size × processes; this
    process takes its share, and `weight` makes the mean over processes the mean over rows. A last batch of fewer
    than `least` rows a process is left out, where it is not the only one.
    """

    def __init__(
        self,
        source: Indexed | Loader | Sampler,
        size: int,
        seed: int,
        world: World,
        dtype: torch.dtype,
        least: int = 1,
    ):
        if isinstance(source, Loader) and world.size > 1:
            raise ArgumentError(
                f"a DataLoader has an order of its own, which {world.size} processes cannot share: pass its data set."
            )
        self.source, self.size, self.seed, self.world, self.dtype = source, size, seed, world, dtype
        self.together = size * world.size
        self.key = mix(seed, "noise")
        self.least = least * world.size if least > 1 else 1

    @property
    def per_epoch(self) -> int:
        """Batches an epoch; a sampler has no end, and counts 100."""
        if isinstance(self.source, Indexed):
            full, rest = divmod(len(self.source), self.together)
            return max(1, full + (rest >= self.least))
        if isinstance(self.source, Loader):
            return max(1, len(self.source.loader))
        return SAMPLER_EPOCH

    def batches(self, start: int) -> Iterator[tuple[Batch, float]]:
        """Batches `start`, `start + 1`, … without end, each with its weight."""
        if isinstance(self.source, Indexed):
            return self._indexed(self.source, start)
        return (
            self._loaded(self.source, start)
            if isinstance(self.source, Loader)
            else self._drawn(self.source, start)
        )

    def _batch(self, x: Tensor, y: Tensor | None, place: int, rows: range) -> Batch:
        device = self.world.device
        noise = Noise(mix(self.key, place), rows, device, self.dtype)
        x = as_float(x.to(device, non_blocking=True))
        return Batch(
            x if x.dtype == self.dtype else x.to(self.dtype), None if y is None else y.to(device), noise
        )

    def _share(self, rows: int) -> range:
        """This process's rows of a batch of `rows` rows; never none."""
        rank, size = self.world.rank, self.world.size
        if rows < size:
            return range(min(rank, rows - 1), min(rank, rows - 1) + 1)
        return range(rows * rank // size, rows * (rank + 1) // size)

    def _weight(self, mine: range, rows: int) -> float:
        if self.world.rank >= rows:
            return 0.0
        return len(mine) * self.world.size / rows

    def _indexed(self, source: Indexed, start: int) -> Iterator[tuple[Batch, float]]:
        rows, per_epoch = len(source), self.per_epoch
        at_once = max(1, GATHER_NUMBERS // (self.size * prod(source.shape)))
        for epoch in count(start // per_epoch):
            order = torch.randperm(rows, generator=generator(self.seed, "order", epoch))
            first = start % per_epoch if epoch == start // per_epoch else 0
            for begin in range(first, per_epoch, at_once):
                places = range(begin, min(begin + at_once, per_epoch))
                whole = [min(self.together, rows - i * self.together) for i in places]
                mine = [self._share(n) for n in whole]
                index = [
                    order[i * self.together + m.start : i * self.together + m.stop]
                    for i, m in zip(places, mine, strict=True)
                ]
                xs, ys = source.gather(torch.cat(index) if len(index) > 1 else index[0])
                xs = as_float(xs)
                sizes = [len(m) for m in mine]
                labels = [None] * len(sizes) if ys is None else list(ys.split(sizes))
                for place, x, y, m, n in zip(places, xs.split(sizes), labels, mine, whole, strict=True):
                    yield self._batch(x, y, epoch * per_epoch + place, m), self._weight(m, n)

    def _loaded(self, source: Loader, start: int) -> Iterator[tuple[Batch, float]]:
        place = start
        while True:
            for x, y in source.batches():
                yield self._batch(x, y, place, range(len(x))), 1.0
                place += 1

    def _drawn(self, source: Sampler, start: int) -> Iterator[tuple[Batch, float]]:
        mine = self._share(self.together)
        for place in count(start):
            noise = Noise(mix(self.key, "draw", place), mine, self.world.device, self.dtype)
            x, y = source.draw(len(mine), noise)
            yield self._batch(x, y, place, mine), 1.0
