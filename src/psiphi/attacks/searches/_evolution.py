"""Differential evolution of a few pixels: where, and of what colour."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from psiphi.attacks._protocols import Answer, Needs, take
from psiphi.attacks.searches._palette import Colours, Swatches, check_colours, slices, swatches
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas import pixels
from psiphi.formulas.geometry import Box


class _Canvas(NamedTuple):
    """What genes mean, the same for every row: lo, hi are the walls (C, P)."""

    extents: tuple[int, ...]
    lo: Tensor
    hi: Tensor
    palette: Swatches | None

    def read(self, genes: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (n, k) in reading order and colours (n, k, C) of genes (n, k, D + C) in [0, 1]."""
        place = torch.zeros_like(genes[..., 0], dtype=torch.long)
        for axis, extent in enumerate(self.extents):
            place = place * extent + (genes[..., axis] * extent).long().clamp_(max=extent - 1)
        where, share = place.flatten(), genes[..., len(self.extents) :].flatten(0, 1)
        colour = torch.lerp(self.lo.T[where], self.hi.T[where], share)
        if self.palette is not None:
            colour = self.palette.nearest(colour, where)
        return place, colour.unflatten(0, place.shape)


@dataclass(frozen=True)
class _Population:
    """genes, trial: members and the candidates for their places, (b, N, k, D + C); score, tried: theirs, (b, N)."""

    x: Tensor
    genes: Tensor
    score: Tensor
    trial: Tensor
    tried: Tensor
    told: Tensor
    generation: Tensor
    canvas: _Canvas
    threat: Any
    noise: Noise


@dataclass(frozen=True)
class Evolution:
    """DE/rand/1 without crossover: g'_i = g_a + F (g_b − g_c), which takes the place of g_i where it scores no less.

    A member's genes are k positions and k colours, all as shares of their range in [0, 1]: positions uniform at first,
    colours from N(½, ¼) clipped. a, b, c are different members, none of them i. Positions beyond the image are folded
    back at its border, colours clipped.

    population, generations  N, and how many follow the first
    factor                   F
    palette                  colours are rounded to the nearest of these, as of `Palette`; None for any

    Asks `population` · (1 + `generations`) points a row at most.

    Source: Su, Vargas, Sakurai, "One pixel attack for fooling deep neural networks", 2019, sections III.B and III.C.
    """

    population: int = 400
    generations: int = 100
    factor: float = 0.5
    palette: Colours | None = None

    needs: ClassVar[Needs] = "scores"
    uses: ClassVar = ("paint",)

    def __post_init__(self) -> None:
        check_whole("population", self.population, 4)
        check_whole("generations", self.generations, 0)
        if not 0 < self.factor < inf:
            raise ArgumentError(f"factor is a finite number above 0; got {self.factor!r}.")
        if self.palette is not None:
            check_colours(self.palette)

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> _Population:
        (channels, extents), (lo, hi) = pixels.grid(x), pixels.walls(box, x)
        palette = None if self.palette is None else swatches(self.palette, x, box)
        told = torch.zeros(len(x), dtype=torch.long, device=x.device)
        slots = []
        for slot in range(max(1, threat.most)):  # a slot's genes do not depend on how many there are
            draw = noise.split(f"pixel {slot}")
            place = draw.split("place").each(told).uniform((self.population, len(extents)))
            colour = draw.split("colour").each(told).normal((self.population, channels))
            slots.append(torch.cat((place, colour.div_(2).add_(0.5).clamp_(0, 1)), 2))
        genes, score = torch.stack(slots, 2), x.new_full((len(x), self.population), -inf)
        canvas = _Canvas(extents, lo, hi, palette)
        return _Population(x, genes, score, genes, score, told, told, canvas, threat, noise)

    def ask(self, s: _Population, room: int) -> tuple[Tensor, Tensor]:
        owner, member = slices(s.told, torch.where(self.done(s), 0, self.population), room)
        place, colour = s.canvas.read(s.trial[owner, member])
        return take(s.threat, owner).paint(s.x[owner], place, colour), owner

    def tell(self, s: _Population, points: Tensor, owner: Tensor, answer: Answer) -> _Population:
        if not len(owner):
            return s
        fresh = owner.bincount(minlength=len(s.x))
        first = fresh.cumsum(0) - fresh
        member = s.told[owner] + torch.arange(len(owner), device=owner.device) - first[owner]
        s = replace(s, tried=s.tried.index_put((owner, member), answer.score), told=s.told + fresh)
        if not len(whole := (s.told == self.population).nonzero().squeeze(1)):
            return s
        old = take(s, whole)
        better = old.tried >= old.score
        genes = torch.where(better[:, :, None, None], old.trial, old.genes)
        score = torch.where(better, old.tried, old.score)
        trial = self._mutants(genes, old.noise.each(old.generation + 1), len(s.canvas.extents))
        return replace(
            s,
            genes=s.genes.index_copy(0, whole, genes),
            score=s.score.index_copy(0, whole, score),
            trial=s.trial.index_copy(0, whole, trial),
            told=s.told.index_fill(0, whole, 0),
            generation=s.generation.index_copy(0, whole, old.generation + 1),
        )

    def done(self, s: _Population) -> Tensor:
        return s.generation > self.generations

    def _mutants(self, genes: Tensor, draws: Any, axes: int) -> Tensor:
        """g_a + F (g_b − g_c) for each member; `axes` genes of a pixel say where it is."""
        n, rows = self.population, torch.arange(len(genes), device=genes.device)[:, None]
        own, (a, b, c) = torch.arange(n, device=genes.device), _others(n, draws)
        base, plus, minus = (genes[rows, (own + 1 + other) % n] for other in (a, b, c))
        trial = base + self.factor * (plus - minus)
        place = trial[..., :axes].remainder_(2)
        place.copy_(1 - (1 - place).abs())
        return trial.clamp_(0, 1)


def _others(n: int, draws: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Three different numbers of 0..n − 2 for each of n members, each (b, n)."""
    below = torch.tensor([n - 1, n - 2, n - 3])
    a, b, c = draws.integers(below.to(draws.noise.device), (n, 3)).unbind(2)
    b = b + (b >= a)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    c = c + (c >= low)
    return a, b, c + (c >= high)
