"""One item of a data set or loader, whatever its dress, as (x, y)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import DataError, ShapeError
from psiphi.basis.shapes import show
from psiphi.data._convert import as_tensor

X_KEYS = ("x", "X", "image", "images", "img", "data", "pixel_values", "features", "inputs")
Y_KEYS = ("y", "Y", "label", "labels", "target", "targets", "class", "fine_label")


def pick(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these names that the record has."""
    return next((name for name in names if name in record), None)


def pair(item: Any, where: str) -> tuple[Any, Any]:
    """An item as (x, y), y None when it has none: x, (x,), (x, y) or a dictionary."""
    if isinstance(item, Mapping):
        x = pick(item, X_KEYS)
        if x is None:
            raise DataError(
                f"{where} is a dictionary with the keys {', '.join(map(str, item))}; one of "
                f"{', '.join(X_KEYS)} is needed for x."
            )
        y = pick(item, Y_KEYS)
        return item[x], None if y is None else item[y]
    if isinstance(item, tuple | list) and not all(isinstance(part, int | float) for part in item):
        if len(item) not in (1, 2):
            raise DataError(f"{where} has {len(item)} parts; x or (x, y) is needed: wrap the data set.")
        return item[0], item[1] if len(item) == 2 else None
    return item, None


def as_sample(x: Any, where: str) -> Tensor:
    """One sample as a tensor; a Pillow image becomes uint8 (channels, height, width)."""
    if type(x).__module__.startswith("PIL."):
        pixels = np.asarray(x if x.mode in ("L", "RGB", "RGBA") else x.convert("RGB"))
        return torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()
    x = as_tensor(x, where)
    return x.reshape(1) if x.ndim == 0 else x


def stack(
    items: Sequence[Any], rows: Sequence[int], shape: Sequence[int] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Items as a batch (x, y), each checked against the shape (the first one's when None)."""
    xs, ys = [], []
    for row, item in zip(rows, items):
        x, y = pair(item, f"item {row}")
        x = as_sample(x, f"item {row}")
        shape = tuple(x.shape) if shape is None else tuple(shape)
        if tuple(x.shape) != shape:
            raise ShapeError(
                f"item {row} has shape {show(x.shape)}, the ones before {show(shape)}; one shape is needed: "
                f"resize or crop in the data set."
            )
        xs.append(x)
        ys.append(y)
    known = [y is not None for y in ys]
    if not any(known):
        return torch.stack(xs), None
    try:
        labels = torch.tensor([-1 if y is None else int(y) for y in ys], dtype=torch.int64)
    except (TypeError, ValueError):
        odd = next(y for y in ys if y is not None)
        raise DataError(f"items have labels such as {odd!r:.60}; one integer an item is needed.") from None
    return torch.stack(xs), labels
