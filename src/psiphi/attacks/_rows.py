"""Rows however they come: an array, a split, a data set, a loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError

CHUNK = 1024


def streamed(x: Any) -> bool:
    """Whether the rows come batch by batch."""
    if hasattr(x, "x") and hasattr(x, "y"):
        return False
    return not isinstance(x, (Tensor, np.ndarray, list, tuple, str)) and (
        isinstance(x, (Iterable, torch.utils.data.Dataset))
    )


def chunks(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """`x` and `y` in parts: an array in one, batches (x, y) of a loader joined to at least 1024 rows."""
    if hasattr(x, "x") and hasattr(x, "y"):
        x, y = x.x, x.y if y is None else y
    if not streamed(x):
        yield x, y
        return
    if isinstance(x, torch.utils.data.Dataset):
        x = torch.utils.data.DataLoader(x, batch_size=CHUNK)
    if y is not None:
        raise ArgumentError("y comes with the batches (x, y) of a loader; leave it out.")
    held: list[tuple[Tensor, Tensor | None]] = []
    empty = True
    for batch in x:
        held.append(_pair(batch))
        empty = False
        if sum(len(part) for part, _ in held) >= CHUNK:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)
    if empty:
        raise DataError("the loader gave no batch; one at least is needed.")


def gathered(x: Any, y: Any) -> tuple[Any, Any]:
    """All rows at once."""
    parts = list(chunks(x, y))
    if len(parts) > 1:
        return _joined(parts)
    x, y = parts[0]
    return (x if isinstance(x, Tensor) else torch.as_tensor(x)), (None if y is None else torch.as_tensor(y))


def _pair(batch: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
        return torch.as_tensor(batch[0]), torch.as_tensor(batch[1]) if len(batch) == 2 else None
    if isinstance(batch, (Tensor, np.ndarray)):
        return torch.as_tensor(batch), None
    raise DataError(f"a loader gives x, or pairs (x, y); this one gave {type(batch).__name__}.")


def _joined(parts: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor | None]:
    labels = [y for _, y in parts]
    return torch.cat([x for x, _ in parts]), None if any(y is None for y in labels) else torch.cat(labels)


def check_length(name: str, given: Any, n: int) -> None:
    """Refuse what is one a row, but not for n rows."""
    many = len(given) if isinstance(given, range) or (isinstance(given, Tensor) and given.ndim) else n
    if many != n:
        raise ArgumentError(f"{name} has {many} entries, but the loader gave {n} rows.")


def in_order(rows: Sequence[Tensor], what: str) -> Tensor:
    """What puts the rows of several parts, one after the other, into the order of their numbers.

    Raises `ArgumentError` for a row in two parts of one `what`.
    """
    row = torch.cat(list(rows))
    order = row.argsort()
    if (row[order].diff() == 0).any():
        raise ArgumentError(f"some rows are in two of the parts: these are not the parts of one {what}.")
    return order
