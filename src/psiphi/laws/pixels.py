"""Laws of the attacks that change a few pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from psiphi.access import white_box
from psiphi.attacks import one_pixel
from psiphi.basis.noise import forked, generator
from psiphi.laws._law import Measured, at_most, law

_CORNERS = {1: [(0.0,), (1.0,)], 3: [(r, g, b) for r in (0.0, 1.0) for g in (0.0, 1.0) for b in (0.0, 1.0)]}
_ROWS = 24


class _Case(NamedTuple):
    """A classifier of images, and the colours that are tried."""

    name: str
    net: nn.Module
    x: Tensor
    colours: list[tuple[float, ...]]
    palette: str | tuple[tuple[float, ...], ...]


def _cases() -> list[_Case]:
    """Grey and in colour; the corners of the box and other colours; a dense network and a convolution."""
    with forked("law 25"):
        dense = nn.Sequential(nn.Flatten(), nn.Linear(25, 32), nn.Tanh(), nn.Linear(32, 4)).double()
        conv = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(128, 4)
        ).double()
    grey, colour = _images(1, 5), _images(3, 4)
    few = ((0.0, 0.5, 1.0), (1.0, 1.0, 0.25), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0))
    return [
        _Case("grey, corners", dense, grey, _CORNERS[1], "corners"),
        _Case(
            "grey, five levels", dense, grey, [(c / 4,) for c in range(5)], tuple((c / 4,) for c in range(5))
        ),
        _Case("colour, corners", conv, colour, _CORNERS[3], "corners"),
        _Case("colour, four colours", conv, colour, list(few), few),
    ]


def _images(channels: int, size: int) -> Tensor:
    """Images of five levels, so that many pixels have a colour of the palette already."""
    shape = (_ROWS, channels, size, size)
    return torch.randint(5, shape, generator=generator("law 25", channels)).double() / 4


def _by_hand(case: _Case) -> list[Tensor]:
    """Of each row, the logits of all points one pixel away, (points, K)."""
    every = []
    colours = [(colour, torch.tensor(colour).double()) for colour in case.colours]
    for image in case.x:
        points = []
        for i in range(image.shape[1]):
            for j in range(image.shape[2]):
                own = tuple(image[:, i, j].tolist())
                for name, colour in colours:
                    if own != name:
                        point = image.clone()
                        point[:, i, j] = colour
                        points.append(point)
        with torch.no_grad():
            every.append(case.net(torch.stack(points)))
    return every


def _best(logits: Tensor, wanted: int, targeted: bool) -> float:
    """The largest margin of any class but one, or of that one."""
    others = [k for k in range(logits.shape[1]) if k != wanted]
    gap = logits[:, others].amax(1) - logits[:, wanted]
    return float((-gap if targeted else gap).max())


@law("25", "one pixel: exhaustive search is brute force, and evolution finds nothing that it missed")
def one_pixel_attacks() -> list[Measured]:
    """Flips, margins and numbers of points, any class but the label and a target, against loops by hand."""
    measured = []
    for case in _cases():
        access = white_box(case.net)
        with torch.no_grad():
            y = case.net(case.x).argmax(1)
        every = _by_hand(case)
        number = torch.tensor([len(logits) for logits in every])
        for aim, target in (("", None), (", targeted", (y + 1) % 4)):
            name, how = case.name + aim, {"target": target, "batch_size": 4096}
            wanted = (y if target is None else target).tolist()
            best = [_best(logits, k, target is not None) for logits, k in zip(every, wanted)]
            best = torch.tensor(best, dtype=torch.float64)
            flips = best > 0
            tried = one_pixel(palette=case.palette)(access, case.x, y, stop_early=False, **how)
            early = one_pixel(palette=case.palette)(access, case.x, y, **how)
            search = one_pixel(search="evolution", palette=case.palette, population=48, generations=12)
            evolved = search(access, case.x, y, **how)
            wrong = (tried.success != flips) | (early.success != flips)
            spent = (tried.forwards - (number + 1 + flips)).abs().max()
            missed = (flips & ~evolved.success).sum() / flips.sum().clamp_min(1)
            alone, beyond = (evolved.success & ~flips).sum(), (evolved.score - best).max()
            off = (tried.score - best).abs().max()
            measured += [
                Measured(f"{name}: rows where brute force says otherwise", 0.0, float(wrong.sum()), 0.0),
                Measured(f"{name}: the best margin, off by", 0.0, float(off), 1e-12),
                Measured(f"{name}: forwards beyond the distinct points", 0.0, float(spent), 0.0),
                at_most(f"{name}: early, beyond those", 0.0, float((early.forwards - tried.forwards).max())),
                at_most(f"{name}: flips or stands, fewer than 3 of either", 0.0, 3.0 - _fewer(flips)),
                Measured(f"{name}: flips that evolution alone finds", 0.0, float(alone), 0.0),
                at_most(f"{name}: margin of evolution beyond brute force", 0.0, float(beyond), 1e-12),
                at_most(f"{name}: share of the flips that evolution misses", 0.1, float(missed)),
            ]
    return measured


def _fewer(flips: Tensor) -> float:
    return float(min(flips.sum(), (~flips).sum()))
