"""Keyed noise: row i of a stream depends on (key, i) alone, however the rows are asked for.

A stream is cut into blocks of 64 rows; each block has a generator of its own, seeded by the key and
the block's number. Samples are then independent of the batch size, attacks of compaction, shards of
each other, and a resumed run needs no generator state. The global random state is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import pi, prod
from operator import index
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError

BLOCK = 64
_MASK, _GAMMA = (1 << 64) - 1, 0x9E3779B97F4A7C15


def mix(*words: int | str) -> int:
    """A 64-bit key from integers and names: splitmix64 finaliser folded over the words.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    key = 0
    for word in words:
        value = int.from_bytes(word.encode()[:64], "little") if isinstance(word, str) else _integer(word)
        while True:
            key = _fold(key, value)
            value = value >> 64 if value >= 0 else 0
            if not value:
                break
    return key


def _fold(key: int, value: int) -> int:
    key = (key + (value & _MASK) + _GAMMA) & _MASK
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _MASK
    return key ^ (key >> 31)


def _integer(word: Any) -> int:
    try:
        return index(word)
    except TypeError:
        raise ArgumentError(f"a seed is a whole number; got {word!r}.") from None


def generator(*words: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for these words."""
    made = torch.Generator(device=device)
    made.manual_seed(mix(*words))
    return made


@dataclass(frozen=True)
class Noise:
    """The rows of one keyed stream.

    `Noise.of(seed, n)` is rows 0..n-1; `at(step)` and `split(name)` give independent streams on the
    same rows, `take(index)` the same stream on fewer rows.
    """

    key: int
    rows: range | Tensor
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @staticmethod
    def of(
        seed: int,
        rows: int | range | Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Noise:
        rows = range(rows) if isinstance(rows, int) else rows
        return Noise(mix(seed), rows, torch.device(device), dtype)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, step: int) -> Noise:
        return replace(self, key=mix(self.key, "step", step))

    def split(self, name: str) -> Noise:
        return replace(self, key=mix(self.key, name))

    def take(self, index: Tensor | slice) -> Noise:
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        rows = self.rows
        if isinstance(rows, range):
            rows = torch.arange(rows.start, rows.stop, rows.step)
        return replace(self, rows=rows[index.cpu()])

    def each(self, step: Tensor) -> Counted:
        """Streams of steps (rows,) that differ from row to row."""
        return Counted(self, step)

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal draws, (rows, *shape)."""
        return self._draw(torch.Tensor.normal_, tuple(shape))

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        """Draws from [0, 1), (rows, *shape)."""
        return self._draw(torch.Tensor.uniform_, tuple(shape))

    def integers(self, below: int, shape: Sequence[int] = ()) -> Tensor:
        """Draws from {0, …, below − 1}, all alike, (rows, *shape), int64."""
        return (self.uniform(shape) * below).long().clamp_(max=below - 1)  # u may be rounded to 1 on a device

    def _draw(self, fill: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        if prod(shape) == 0 or len(self.rows) == 0:
            return torch.empty(len(self.rows), *shape, device=self.device, dtype=self.dtype)
        gen, stream = torch.Generator(device=self.device), _fold(0, self.key)
        make: Any = dict(device=self.device, dtype=self.dtype)

        def block(number: int, out: Tensor) -> Tensor:
            gen.manual_seed(_fold(stream, number))  # mix(self.key, number)
            return fill(out, generator=gen)

        if isinstance(self.rows, range) and self.rows.step == 1:
            first, last = self.rows.start // BLOCK, (self.rows.stop - 1) // BLOCK
            out = torch.empty((last + 1 - first) * BLOCK, *shape, **make)
            for i, part in enumerate(out.split(BLOCK)):
                block(first + i, part)
            start = self.rows.start - first * BLOCK
            return out if len(out) == len(self.rows) else out[start : start + len(self.rows)]
        rows = torch.as_tensor(self.rows)
        numbers, place = (rows // BLOCK).unique(return_inverse=True)
        out = torch.empty(len(rows), *shape, **make)
        scratch = torch.empty(BLOCK, *shape, **make)
        for i, number in enumerate(numbers.tolist()):
            mine = (place == i).nonzero().squeeze(1)
            out[mine.to(self.device)] = block(number, scratch)[(rows[mine] % BLOCK).to(self.device)]
        return out


@dataclass(frozen=True)
class Counted:
    """Draws that are a hash of (key, row, step, place): as cheap for rows at steps of their own as for one row."""

    noise: Noise
    step: Tensor

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        """Draws from [0, 1), (rows, *shape)."""
        n, device = len(self.noise), self.noise.device
        row = torch.as_tensor(self.noise.rows, dtype=torch.long, device=device)
        start = _hashed(_hashed(row + _signed(self.noise.key)) + self.step.to(device))
        place = torch.arange(prod(shape), device=device) + 1
        bits = _hashed(start[:, None] + place * _signed(_GAMMA))
        fine = 53 if self.noise.dtype == torch.float64 else 24
        high = (bits >> (64 - fine)) & ((1 << fine) - 1)
        return high.to(self.noise.dtype).mul_(2.0**-fine).view(n, *shape)

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal draws, (rows, *shape), by Box and Muller."""
        half = (prod(shape) + 1) // 2
        radius, angle = self.uniform((2, half)).unbind(1)
        radius, angle = (-2 * torch.log1p(-radius)).sqrt_(), angle.mul(2 * pi)
        both = torch.stack((radius * angle.cos(), radius * angle.sin()), 2).flatten(1)
        return both[:, : prod(shape)].reshape(len(both), *shape)

    def integers(self, below: int | Tensor, shape: Sequence[int] = ()) -> Tensor:
        """Draws from {0, …, below − 1}, all alike, (rows, *shape), int64; `below` may be a tensor that broadcasts."""
        return (
            (self.uniform(shape) * below).long().minimum(torch.as_tensor(below, device=self.noise.device) - 1)
        )


def _signed(word: int) -> int:
    """The 64 bits of an unsigned number, read as a signed one."""
    return word - (1 << 64) if word >> 63 else word


def _hashed(z: Tensor) -> Tensor:
    """splitmix64's finaliser of int64 numbers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


@contextmanager
def forked(*words: int | str) -> Iterator[None]:
    """Run a block under a random state of its own, and leave the global one as it was.

    For code that reads the global state: weight initialisers, dropout, other people's networks.
    """
    with torch.random.fork_rng():
        torch.manual_seed(mix(*words))
        yield
