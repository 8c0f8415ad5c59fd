"""Pictures from arrays: image grids as PNG, and scatter plots of points in the plane."""

from __future__ import annotations

import base64
import io
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psiphi.basis import files
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TILE = 12  # of 255: how much of an empty cell shows, so that its extent can be seen
WARM, COLD = (196, 67, 31), (38, 99, 158)  # more, less


def is_image(shape: Sequence[int]) -> bool:
    """Whether a sample is a picture: (H, W), or 1 or 3 channels first."""
    return (len(shape) == 3 and shape[0] in (1, 3)) or (len(shape) == 2 and min(shape) > 2)


def cells(x: Tensor, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """(n, H, W, C) bytes of images (n, C, H, W) or (n, H, W) whose values span [low, high]."""
    array = x.detach().float().cpu().numpy()
    array = array[:, None] if array.ndim == 3 else array
    scaled = np.clip((array - low) / max(high - low, 1e-12), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def as_ink(grey: np.ndarray) -> np.ndarray:
    """Grey cells (n, H, W, 1) as black ink, (n, H, W, 2): the page behind them shows through."""
    alpha = TILE + np.rint(grey[..., :1].astype(np.float32) * ((255 - TILE) / 255)).astype(np.uint8)
    return np.concatenate([np.zeros_like(alpha), alpha], axis=-1)


def as_change(change: Tensor, largest: float) -> np.ndarray:
    """Signed changes (n, C, H, W) as warm (more) and cold (less) tints, (n, H, W, 4), opaque at ±largest.

    Of three channels as colours about grey, (n, H, W, 3): their mean would hide a change of hue.
    """
    array = change.detach().float().cpu().numpy()
    if array.ndim == 4 and array.shape[1] == 3:
        bright = 0.5 + 0.5 * np.clip(array / max(largest, 1e-12), -1, 1)
        return np.rint(255 * bright).astype(np.uint8).transpose(0, 2, 3, 1)
    array = (array[:, None] if array.ndim == 3 else array).mean(1)
    strength = np.clip(np.abs(array) / max(largest, 1e-12), 0, 1)[..., None]
    colour = np.where(array[..., None] > 0, np.array(WARM), np.array(COLD))
    alpha = TILE + strength * (255 - TILE)
    return np.concatenate([np.where(strength > 0, colour, 0), alpha], axis=-1).astype(np.uint8)


def grid(tiles: np.ndarray, columns: int, gutter: int = 1) -> np.ndarray:
    """Tiles (n, H, W, C) in rows of `columns`, with a transparent (else white) gutter between them."""
    n, height, width, channels = tiles.shape
    rows = ceil(n / columns)
    fill = 0 if channels in (2, 4) else 255
    page = np.full(
        (rows * (height + gutter) - gutter, columns * (width + gutter) - gutter, channels),
        fill,
        dtype=np.uint8,
    )
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gutter), i % columns * (width + gutter)
        page[top : top + height, left : left + width] = tile
    return page


def png(page: np.ndarray, scale: int = 1) -> bytes:
    """A PNG of (H, W, C) bytes: grey, grey + alpha, RGB or RGBA; each pixel `scale` × `scale`."""
    from PIL import Image

    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    page = page.repeat(scale, 0).repeat(scale, 1)
    flat = np.ascontiguousarray(page[..., 0] if page.shape[-1] == 1 else page)
    out = io.BytesIO()
    Image.frombytes(modes[page.shape[-1]], (page.shape[1], page.shape[0]), flat.tobytes()).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def on_paper(page: np.ndarray) -> np.ndarray:
    """Grey + alpha or RGBA on white, as RGB: for files that stand alone."""
    if page.shape[-1] not in (2, 4):
        return page
    colour, alpha = page[..., :-1].astype(np.float32), page[..., -1:].astype(np.float32) / 255
    return np.rint(np.broadcast_to(colour * alpha + 255 * (1 - alpha), (*page.shape[:-1], 3))).astype(
        np.uint8
    )


def save_grid(
    path: str | Path, x: Tensor, *, low: float = 0.0, high: float = 1.0, columns: int | None = None
) -> None:
    """Write images (n, ...) as one PNG: black ink on white for grey ones, about 600 pixels wide at least."""
    tiles = cells(x, low, high)
    tiles = as_ink(tiles) if tiles.shape[-1] == 1 else tiles
    page = on_paper(grid(tiles, columns or ceil(sqrt(len(tiles)))))
    files.write(path, png(page, max(1, round(640 / page.shape[1]))))


def save_poisons(path: str | Path, base: Tensor, poison: Tensor, low: float = 0.0, high: float = 1.0) -> None:
    """Write bases, poisons and their differences, three rows of n images each, as one PNG."""
    import torch

    change = poison - base
    tint = on_paper(as_change(change, float(change.abs().max())))
    shown = cells(torch.cat([base, poison]), low, high)
    shown = on_paper(as_ink(shown)) if shown.shape[-1] == 1 else shown
    page = grid(np.concatenate([shown, tint]), len(base))
    files.write(path, png(page, max(1, round(640 / page.shape[1]))))


def save_scatter(path: str | Path, x: Tensor, *, title: str = "") -> None:
    """Write points (n, 2) as a scatter plot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    points = x.detach().cpu().numpy()
    figure = Figure(figsize=(5, 5), dpi=140, layout="constrained")
    ax = figure.add_subplot()
    ax.scatter(
        points[:, 0],
        points[:, 1],
        s=max(2.0, 60 / sqrt(len(points))),
        alpha=0.7,
        linewidths=0,
        color="#26639e",
    )
    ax.set_aspect("equal", "datalim")
    ax.set_title(title)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    files.write(path, out.getvalue())


def save(path: Path, x: Tensor, shape: Sequence[int], low: float, high: float) -> None:
    """Write samples in the kind that the name ends in: .png, .npy or .npz."""
    kind = path.suffix.lower()
    if kind == ".png" and is_image(shape):
        save_grid(path, x, low=low, high=high)
    elif kind == ".png" and tuple(shape) == (2,):
        save_scatter(path, x)
    elif kind == ".png":
        raise ArgumentError(
            f"samples of shape {tuple(shape)} make no picture: write numbers, e.g. --out {path.with_suffix('.npy')}"
        )
    elif kind in (".npy", ".npz"):
        _save_numbers(path, x)
    else:
        raise ArgumentError(f"{path.name} should end in .png, .npy or .npz; got {kind or 'no ending'}.")


def _save_numbers(path: Path, x: Any) -> None:
    out = io.BytesIO()
    array = x.detach().cpu().numpy()
    np.savez_compressed(out, x=array) if path.suffix.lower() == ".npz" else np.save(
        out, array, allow_pickle=False
    )
    files.write(path, out.getvalue())
