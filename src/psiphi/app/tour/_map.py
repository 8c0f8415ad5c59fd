"""The tour's map: a VAE whose code has two numbers, so that the whole of its code space fits on a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from psiphi import zoo
from psiphi.app import pictures
from psiphi.app._judge import labels_of
from psiphi.app.tour import _figures as figures
from psiphi.app.tour._families import Family
from psiphi.evaluation import Reconstruction, Share, latents, reconstruction
from psiphi.training import fit

if TYPE_CHECKING:
    from psiphi.data import Data

PLANE = Family(
    "plane", "vae", "a VAE of two numbers", "VAE", "", "",
    {"latent_dim": 2, "likelihood": "gaussian", "hidden": (512,)},
    {"epochs": 80},
)  # fmt: skip
WIDEST, SIDE, SHEET = 3.0, 41, 15  # the square [−3, 3]², its places a side, and those of the still picture


@dataclass(frozen=True)
class Map:
    """Codes (n, 2) of test digits with their classes, and what is decoded, and read, at each place of a square.

    decoded: (side², *shape), by rows from the top, z₁ rising to the right; labels, sure: of a classifier; share: test
    digits whose code lies in the square.
    """

    family: Family
    model: Any
    codes: Tensor
    y: Tensor
    decoded: Tensor
    labels: Tensor
    sure: Tensor
    neighbours: Share
    reconstruction: Reconstruction
    inside: Share

    def as_dict(self) -> dict[str, Any]:
        """Plain values; the pictures are left out."""
        return {
            "arguments": self.model.recipe["arguments"],
            "neighbours": self.neighbours.as_dict(),
            "reconstruction": self.reconstruction.as_dict(),
            "inside": self.inside.as_dict(),
        }


@torch.no_grad()
def measure(
    classifier: Any,
    data: Data,
    x: Tensor,
    y: Tensor,
    shortened: dict[str, Any],
    seed: int,
    step: Callable[..., Any],
) -> Map:
    """Train it, and decode the square."""
    family = PLANE.shortened({name: value for name, value in shortened.items() if name != "latent_dim"})
    with step(
        f"Training {family.title}", "Two numbers are too few to draw well, but all of them fit on a page."
    ):
        model = family.build(zoo, data.shape, seed)
        with torch.enable_grad():
            fit(model, data, seed=seed, quiet=True, **family.training)
        codes = model.encode(x)
        decoded = model.decode(square(SIDE))
        label, sure = labels_of(classifier, decoded)
        near = latents(model, x, y, data.train, seed, parts=("labels",)).neighbours
        assert near is not None
        inside = Share(int((codes.abs() <= WIDEST).all(1).sum()), len(codes))
        error = reconstruction(model, x)
    return Map(family, model, codes, y, decoded, label, sure, near, error, inside)


def square(side: int) -> Tensor:
    """Places of the square by rows from the top, (side², 2)."""
    along = torch.linspace(-WIDEST, WIDEST, side)
    return torch.stack(torch.meshgrid(along, along.flip(0), indexing="xy"), -1).reshape(-1, 2)


def sheet(found: Map) -> Tensor:
    """Fewer places of the square, for a still picture: (sheet², *shape)."""
    kept = torch.linspace(0, SIDE - 1, SHEET).round().long()
    return found.decoded.unflatten(0, (SIDE, SIDE))[kept][:, kept].flatten(0, 1)


def drawn(found: Map, span: tuple[float, float], classes: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The page's pieces: dots of the map in percent of the square, the sprite of all places, the still picture."""
    share = (50 + 50 * found.codes / WIDEST).tolist()
    dots = [
        (x, 100 - y, int(k))
        for (x, y), k in zip(share, found.y.tolist(), strict=True)
        if 0 <= x <= 100 and 0 <= y <= 100
    ]
    tiles = pictures.cells(found.decoded, *span)
    ink = tiles.shape[-1] == 1
    page = pictures.grid(pictures.as_ink(tiles) if ink else tiles, SIDE, gutter=0)
    told = {
        "n": SIDE,
        "low": -WIDEST,
        "high": WIDEST,
        "names": list(classes),
        "labels": found.labels.tolist(),
        "sure": [round(100 * each) for each in found.sure.tolist()],
    }
    alt = (
        f"{SHEET} by {SHEET} decoded digits over the square of codes from −{WIDEST:g} to {WIDEST:g}, z₁ to the right "
        f"and z₂ upwards"
    )
    return {
        "dots": dots,
        "sprite": pictures.uri(pictures.png(page)),
        "sprite_ink": ink,
        "side": SIDE,
        "sheet_side": SHEET,
        "widest": WIDEST,
        "told": json.dumps(told, separators=(",", ":")).replace("<", "\\u003c"),
        "sheet": figures.strip(sheet(found), SHEET, alt, span, gutter=0),
    }
