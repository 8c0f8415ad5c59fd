"""The attack in pictures: clean, the change amplified, adversarial, purified, each with label and confidence."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psiphi.app import pictures
from psiphi.app._judge import labels_of
from psiphi.basis import files

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Cell:
    """One picture of the gallery: bytes (H, W, C), and what the classifier says of it."""

    tile: np.ndarray
    label: int | None = None
    confidence: float | None = None

    @property
    def uri(self) -> str:
        return pictures.uri(pictures.png(self.tile))

    @property
    def is_ink(self) -> bool:
        return self.tile.shape[-1] == 2


@dataclass(frozen=True)
class Example:
    """One row of the data: its number among the test rows, its true class, and its pictures."""

    row: int
    truth: int
    clean: Cell
    change: Cell
    adversarial: Cell
    purified: Cell | None
    amplified: float
    note: str = ""


def build(
    classifier: Any,
    purifier: Any,
    x: Tensor,
    y: Tensor,
    result: Any,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    most: int = 8,
    notes: Mapping[int, str] | None = None,
) -> list[Example]:
    """The first broken row of each class, at most `most`: chosen by rule, not by looks.

    `classifier` may be an access; the purifier's images are in the data's units. Of fewer than four
    classes, further broken rows are taken in their order. `notes`: a few words for a row, by its place.
    """
    broken = result.broken.cpu()
    rows: list[int] = []
    seen: set[int] = set()
    for row in broken.nonzero().squeeze(1).tolist():
        if int(y[row]) not in seen and len(rows) < most:
            seen.add(int(y[row]))
            rows.append(row)
    if len(rows) < 4:
        rest = (row for row in broken.nonzero().squeeze(1).tolist() if row not in rows)
        rows += [row for row, _ in zip(rest, range(4 - len(rows)))]
    if not rows:
        return []
    rows.sort(key=lambda row: int(y[row]))
    clean, bad = x[rows], result.x[rows]
    change = bad - clean
    largest = float(change.abs().max())
    room = (bounds[1] - bounds[0]) * (
        0.5 if change.ndim == 4 and change.shape[1] == 3 else 1
    )  # colours: about grey
    amplified = room / largest if largest else 1.0
    purified = None if purifier is None else purifier.project(bad).detach()
    tints = pictures.as_change(change, largest)
    cells = {
        "clean": read(classifier, clean, bounds),
        "adversarial": read(classifier, bad, bounds),
        "purified": [None] * len(rows) if purified is None else read(classifier, purified, bounds),
    }
    return [
        Example(
            int(result.row[row]),
            int(y[row]),
            cells["clean"][i],
            Cell(tints[i]),
            cells["adversarial"][i],
            cells["purified"][i],
            amplified,
            (notes or {}).get(row, ""),
        )
        for i, row in enumerate(rows)
    ]


def read(classifier: Any, x: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> list[Any]:
    """Each image with the label that the classifier gives it, and how sure it is."""
    label, confidence = labels_of(classifier, x)
    tiles = pictures.cells(x, *bounds)
    tiles = pictures.as_ink(tiles) if tiles.shape[-1] == 1 else tiles
    return [Cell(tile, int(k), float(p)) for tile, k, p in zip(tiles, label, confidence)]


def save(path: Path, examples: list[Example], classes: Sequence[str] = ()) -> None:
    """Write the gallery as one PNG; labels by their names where `classes` has them."""
    from matplotlib.figure import Figure

    names = ["clean", "change", "adversarial", *(["purified"] if examples[0].purified else [])]
    titles = {"change": f"change × {examples[0].amplified:.2g}"}
    figure = Figure(figsize=(1.25 * len(examples) + 0.6, 1.55 * len(names)), dpi=120, layout="constrained")
    axes = figure.subplots(len(names), len(examples), squeeze=False)
    for column, example in enumerate(examples):
        for row, name in enumerate(names):
            ax, cell = axes[row][column], getattr(example, name)
            ax.imshow(pictures.on_paper(cell.tile), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_color("#cccccc")
            if cell.label is not None:
                wrong = cell.label != example.truth
                ax.set_xlabel(_said(cell, classes), fontsize=9, color="#c4431f" if wrong else "#333333")
            if column == 0:
                ax.set_ylabel(titles.get(name, name), fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    files.write(path, out.getvalue())


def _said(cell: Cell, classes: Sequence[str]) -> str:
    name = classes[cell.label] if cell.label is not None and cell.label < len(classes) else str(cell.label)
    sure = "" if cell.confidence is None or isnan(cell.confidence) else f"  {cell.confidence:.0%}"
    return f"{name if len(name) <= 12 else name[:11] + '…'}{sure}"
