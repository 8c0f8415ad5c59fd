"""The report's figures of models and digits: pictures as small PNGs, charts as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.app import gallery, pictures, plots
from psiphi.app.tour._story import Story
from psiphi.basis import files
from psiphi.training import fit
from psiphi.zoo import pca

POINTS = 1500
SHOWN, DRAWN = 12, 24
STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
MAPPED = ("pca", "ae", "vae", "aae")

Span = tuple[float, float]


@dataclass(frozen=True)
class Strip:
    """A picture for the page: its address as data, its words, and whether it is ink that turns white at night."""

    uri: str
    alt: str
    ink: bool
    width: int
    height: int


def strip(x: Tensor, columns: int, alt: str, span: Span, gutter: int = 1) -> Strip:
    """Images whose values span these in a grid of so many columns."""
    tiles = pictures.cells(x.clamp(*span), *span)
    ink = tiles.shape[-1] == 1
    page = pictures.grid(pictures.as_ink(tiles) if ink else tiles, columns, gutter)
    return Strip(pictures.uri(pictures.png(page)), alt, ink, page.shape[1], page.shape[0])


@torch.no_grad()
def data_rows(story: Story, each: int = 3) -> Tensor:
    """`each` training images of every class, a class a column."""
    x, y = story.data.train
    chosen = [[int(i) for i in (y == k).nonzero().squeeze(1)[:each]] for k in range(len(story.data.classes))]
    return torch.as_tensor(x[torch.tensor([column[row] for row in range(each) for column in chosen])])


@torch.no_grad()
def reconstructions(story: Story) -> list[tuple[str, Strip]]:
    """The first test images and what each model that has codes makes of its code of them."""
    x = story.x[:SHOWN]
    what = f"the first {len(x)} test digits"
    rows = [("Test digits", strip(x, SHOWN, what, story.span))]
    for found in story.models.found:
        if found.reconstruction is not None:
            name = found.family.short
            again = found.model.reconstruct(x)
            rows.append((name, strip(again, SHOWN, f"{name}: reconstruction of {what}", story.span)))
    return rows


def samples(story: Story) -> list[tuple[str, Strip]]:
    """Test digits, then the first samples of each model that draws."""
    rows = [("Test digits", strip(story.x[:DRAWN], SHOWN, f"the first {DRAWN} test digits", story.span))]
    for found in story.models.found:
        if found.drawn is not None:
            name = found.family.short
            alt = f"the first {DRAWN} samples of {name}"
            rows.append((name, strip(found.drawn[:DRAWN], SHOWN, alt, story.span)))
    return rows


@torch.no_grad()
def traversals(story: Story) -> list[tuple[str, Strip]]:
    """The decoder along each code coordinate, widest first, from the most ordinary digit's code; in the codes' σ."""
    vae = story.vae
    codes = vae.encode(torch.as_tensor(story.data.train.x))
    mean, spread = codes.mean(0), codes.std(0)
    base = vae.encode(story.x[vae.anomaly_score(story.x).argmin()][None])
    rows = []
    for k in spread.argsort(descending=True).tolist():
        z = base.repeat(len(STEPS), 1)
        z[:, k] = mean[k] + torch.tensor(STEPS) * spread[k]
        alt = f"seven decoded digits as coordinate {k + 1} of the code goes from −3 to 3 standard deviations"
        rows.append((f"z{_sub(k + 1)}", strip(vae.decode(z), len(STEPS), alt, story.span)))
    return rows


def _sub(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


@torch.no_grad()
def strangest(story: Story, n: int = 12) -> tuple[Strip, Strip]:
    """The test images that fit the VAE worst, and best."""
    order = story.vae.anomaly_score(story.x).argsort(descending=True)
    worst, best = story.x[order[:n]], story.x[order[-n:].flip(0)]
    return (
        strip(worst, n, f"the {n} test digits with the highest anomaly score", story.span),
        strip(best, n, f"the {n} test digits with the lowest anomaly score", story.span),
    )


@dataclass(frozen=True)
class LatentMap:
    """Codes of one model in their two widest directions, which hold this share of their variance."""

    title: str
    draw: plots.Draw
    share: float

    @property
    def words(self) -> str:
        return (
            f"Codes of the test digits by {self.title}, each drawn as its class, in the two directions that hold "
            f"{self.share:.0%} of their variance"
        )


def latent_maps(story: Story) -> list[LatentMap]:
    """The test split by four of the models."""
    return [latent_map(story, name) for name in MAPPED]


@torch.no_grad()
def latent_map(story: Story, name: str) -> LatentMap:
    """The test split as one model's codes have it."""
    found = story.models[name]
    codes, share = found.model.encode(story.x[:POINTS]), 1.0
    if codes.shape[1] > 2:
        plane = pca((codes.shape[1],), 2)
        with torch.enable_grad():
            share = fit(plane, codes, quiet=True).last["explained"]
        codes = plane.encode(codes)
    title = found.family.short
    draw = plots.latent_map(
        codes.tolist(), story.y[:POINTS].tolist(), story.data.classes, f"{title}: {share:.0%} of the variance", ""
    )  # fmt: skip
    return LatentMap(title, draw, share)


def losses(story: Story) -> dict[str, tuple[plots.Draw, str]]:
    """Curves of training and validation: totals and parts, each with words for those who do not see it."""
    vae, classifier = story.histories["vae"], story.histories["classifier"]

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
        return f"{what} goes from {first:.4g} to {last:.4g} in training, {held:.4g} on validation rows"

    parts = plots.curves(
        lines(vae, [("nll", "−ln p(x|z)", "vae"), ("rate", "KL", "bare")]),
        "epoch",
        "VAE: the two parts of its loss, nats",
        room=0.28,
    )
    cross = plots.curves(
        lines(classifier, [("loss", "", "classifier")]), "epoch", "Classifier: cross-entropy, nats", room=0
    )
    return {
        "vae-parts": (parts, f"Parts of the VAE's loss: at the end, KL is {vae['rate'][-1]:.3g} nats"),
        "classifier-loss": (cross, words("The classifier's cross-entropy", classifier, "loss")),
    }


def classes(story: Story) -> plots.Draw:
    """How often each class occurs in the data and among the VAE's samples."""
    y = story.y[story.y >= 0]
    wanted = torch.bincount(y, minlength=len(story.data.classes)).double()
    found = torch.tensor(story.samples.counts).double()
    shares = [(each / each.sum()).tolist() for each in (wanted, found)]
    return plots.paired_bars(story.data.classes, shares[0], shares[1], ("test digits", "samples"))


def example(story: Story) -> gallery.Example | None:
    """The first test digit that the attack in the ball breaks, clean, attacked and purified by the VAE."""
    result = story.attacks["pgd"].result
    assert result is not None
    found = gallery.build(story.classifier, story.vae, story.x, story.y, result, most=1)
    return found[0] if found else None


def hero(path: Path, story: Story) -> None:
    """Digits, samples, and one digit clean, attacked and purified, side by side: the picture of the README."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = example(story)
    if shown is None or shown.purified is None:
        return

    def sheet(x: Tensor, columns: int) -> np.ndarray:
        tiles = pictures.cells(x, *story.span)
        tiles = pictures.as_ink(tiles) if tiles.shape[-1] == 1 else tiles
        return pictures.on_paper(pictures.grid(tiles, columns))

    drawn = story.vae.sample(25, seed=story.seed)
    panels = [
        (sheet(story.x[:25], 5), "digits that people wrote", ""),
        (sheet(drawn, 5), "digits that the model drew", ""),
    ]
    for cell, what in (
        (shown.clean, "as written"),
        (shown.adversarial, "attacked"),
        (shown.purified, "purified"),
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
