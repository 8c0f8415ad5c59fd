"""The report's figures, from what was measured: pictures as small PNGs, charts as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.app import pictures, plots
from psiphi.app._story import Story
from psiphi.basis import files
from psiphi.training import fit
from psiphi.zoo import pca

POINTS = 1500
SHOWN = 12
STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Strip:
    """A picture for the page: its address as data, its words, and whether it is ink that turns white at night."""

    uri: str
    alt: str
    ink: bool
    width: int
    height: int


def strip(x: Tensor, columns: int, alt: str, story: Story) -> Strip:
    """Images in a grid of so many columns."""
    tiles = pictures.cells(x.clamp(*span(story)), *span(story))
    ink = tiles.shape[-1] == 1
    page = pictures.grid(pictures.as_ink(tiles) if ink else tiles, columns)
    return Strip(pictures.uri(pictures.png(page)), alt, ink, page.shape[1], page.shape[0])


def span(story: Story) -> tuple[float, float]:
    """Least and largest value of the data."""
    found = story.models["vae"].statistics
    return float(found.low), float(found.high)


@torch.no_grad()
def data_rows(story: Story, each: int = 3) -> Tensor:
    """`each` training images of every class, a class a column."""
    x, y = story.data.train
    chosen = [[int(i) for i in (y == k).nonzero().squeeze(1)[:each]] for k in range(len(story.data.classes))]
    return torch.as_tensor(x[torch.tensor([column[row] for row in range(each) for column in chosen])])


@torch.no_grad()
def reconstructions(story: Story) -> list[tuple[str, Strip]]:
    """The first test images and what each model makes of its code of them."""
    x = story.x[:SHOWN]
    rows = [("original", x), *((name, story.models[name].reconstruct(x)) for name in ("vae", "ae", "pca"))]
    names = {"original": "Test digits", "vae": "VAE", "ae": "Autoencoder", "pca": "PCA"}
    what = "the first 12 test digits" if len(x) == SHOWN else f"the first {len(x)} test digits"
    return [
        (
            names[key],
            strip(
                each, SHOWN, what if key == "original" else f"{names[key]}'s reconstruction of {what}", story
            ),
        )
        for key, each in rows
    ]


@torch.no_grad()
def traversals(story: Story) -> list[tuple[str, Strip]]:
    """The decoder along each code coordinate, widest first, from the most ordinary digit's code; in the codes' σ."""
    vae = story.models["vae"]
    codes = vae.encode(torch.as_tensor(story.data.train.x))
    mean, spread = codes.mean(0), codes.std(0)
    base = vae.encode(story.x[vae.anomaly_score(story.x).argmin()][None])
    rows = []
    for k in spread.argsort(descending=True).tolist():
        z = base.repeat(len(STEPS), 1)
        z[:, k] = mean[k] + torch.tensor(STEPS) * spread[k]
        alt = f"seven decoded digits as coordinate {k + 1} of the code goes from −3 to 3 standard deviations"
        rows.append((f"z{_sub(k + 1)}", strip(vae.decode(z), len(STEPS), alt, story)))
    return rows


def _sub(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


@torch.no_grad()
def strangest(story: Story, n: int = 10) -> tuple[Strip, Strip]:
    """The test images that fit the VAE worst, and best."""
    order = story.models["vae"].anomaly_score(story.x).argsort(descending=True)
    worst, best = story.x[order[:n]], story.x[order[-n:].flip(0)]
    return (
        strip(worst, n, f"the {n} test digits with the highest anomaly score", story),
        strip(best, n, f"the {n} test digits with the lowest anomaly score", story),
    )


@torch.no_grad()
def latent_map(story: Story) -> tuple[plots.Draw, str]:
    """Codes of the test split in their two widest directions, and the share of variance these hold."""
    codes = story.models["vae"].encode(story.x[:POINTS])
    share = 1.0
    if codes.shape[1] > 2:
        plane = pca((codes.shape[1],), 2)
        share = fit(plane, codes, quiet=True).last["explained"]
        codes = plane.encode(codes)
    labels = story.y[:POINTS].tolist()
    draw = plots.latent_map(
        codes.tolist(),
        labels,
        story.data.classes,
        "first principal direction of the codes",
        "second direction",
    )
    return draw, f"{share:.0%}"


def losses(story: Story) -> dict[str, tuple[plots.Draw, str]]:
    """Curves of training and validation: totals and parts, each with words for those who do not see it."""
    vae, ae, classifier = (story.histories[name] for name in ("vae", "ae", "classifier"))

    def lines(history: Any, columns: Sequence[tuple[str, str, str]]) -> list[Any]:
        found = []
        for column, name, colour in columns:
            for prefix, dashed in (("", False), ("validation_", True)):
                ys = history[prefix + column]
                found.append((name if not dashed else "", history["epoch"], ys, colour, dashed))
        return found

    def words(what: str, history: Any, column: str) -> str:
        first, last = history[column][0], history[column][-1]
        held = history[f"validation_{column}"][-1]
        return f"{what} falls from {first:.4g} to {last:.4g} in training, {held:.4g} on validation rows"

    total = plots.curves(lines(vae, [("loss", "", "vae")]), "epoch", "VAE: loss, nats a digit", room=0)
    parts = plots.curves(
        lines(vae, [("nll", "−ln p(x|z)", "vae"), ("rate", "KL", "bare")]),
        "epoch",
        "VAE: its two parts, nats",
        room=0.28,
    )
    error = plots.curves(
        lines(ae, [("loss", "", "ae")]), "epoch", "Autoencoder: squared error a digit", room=0
    )
    cross = plots.curves(
        lines(classifier, [("loss", "", "classifier")]), "epoch", "Classifier: cross-entropy, nats", room=0
    )
    return {
        "vae-loss": (total, words("The loss of the VAE", vae, "loss")),
        "vae-parts": (parts, f"Parts of the VAE's loss: at the end, KL is {vae['rate'][-1]:.3g} nats"),
        "ae-loss": (error, words("The squared error of the autoencoder", ae, "loss")),
        "classifier-loss": (cross, words("The classifier's cross-entropy", classifier, "loss")),
    }


def classes(story: Story) -> plots.Draw:
    """How often each class occurs in the data and among the samples."""
    y = story.y[story.y >= 0]
    wanted = torch.bincount(y, minlength=len(story.data.classes)).double()
    found = torch.tensor(story.samples.counts).double()
    shares = [(each / each.sum()).tolist() for each in (wanted, found)]
    return plots.paired_bars(story.data.classes, shares[0], shares[1], ("test digits", "samples"))


NAMES = {
    "clean": "no attack",
    "bare": "attacked, nothing in front",
    "gray": "the same images, purified",
    "white": "attacked through the purifier",
}


def accuracies(story: Story) -> list[tuple[str, Any, str]]:
    """The four conditions: name, share, colour."""
    a = story.assault
    return [
        (NAMES["clean"], a.clean, "classifier"),
        (NAMES["bare"], a.bare, "bare"),
        (NAMES["gray"], a.defended.gray, "gray"),
        (NAMES["white"], a.defended.white, "white"),
    ]


def spans(story: Story) -> plots.Draw:
    return plots.spans(
        [(name, share.value, share.interval, c) for name, share, c in accuracies(story)], "accuracy"
    )


def sweep(story: Story) -> plots.Draw:
    a = story.assault
    names = {"gray": "purified, gray-box", "bare": "bare", "white": "white-box"}
    series = [
        (names[key], [s.value for s in shares], [s.interval for s in shares], key)
        for key, shares in a.sweep.items()
    ]
    return plots.radii(a.radii, series, a.eps)


def hero(path: Path, story: Story, example: Any) -> None:
    """Digits, samples, and one digit clean, attacked and purified, side by side: the picture of the README."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    def sheet(x: Tensor, columns: int) -> np.ndarray:
        tiles = pictures.cells(x, *span(story))
        tiles = pictures.as_ink(tiles) if tiles.shape[-1] == 1 else tiles
        return pictures.on_paper(pictures.grid(tiles, columns))

    drawn = story.models["vae"].sample(25, seed=story.seed)
    panels = [
        (sheet(story.x[:25], 5), "digits that people wrote", ""),
        (sheet(drawn, 5), "digits that the model drew", ""),
    ]
    for cell, what in (
        (example.clean, "as written"),
        (example.adversarial, "attacked"),
        (example.purified, "purified"),
    ):
        panels.append((pictures.on_paper(cell.tile), what, f"read as {cell.label}"))
    figure = Figure(figsize=(12, 2.7), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.1))
    axes = figure.subplots(1, len(panels))
    for ax, (page, what, said) in zip(axes, panels):
        ax.imshow(page, interpolation="nearest")
        ax.set_title(what, fontsize=11)
        ax.set_xlabel(said, fontsize=11, color=plots.PLAIN["bare" if what == "attacked" else "ink"])
        ax.set(xticks=[], yticks=[])
        for side in ax.spines.values():
            side.set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    files.write(path, out.getvalue())
