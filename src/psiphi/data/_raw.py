"""What a reader hands to `load`: rows, labels, and the test rows of the data set's own, if any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from psiphi.data._columns import Columns
from psiphi.data._mapped import Mapped


@dataclass(frozen=True, eq=False)
class Raw:
    """x (n, ...); y labels of any kind or None; test: (x, y) of its own split; classes: names, if known;
    columns: a table's schema; files: the file of each row, and of each test row, or nothing."""

    x: Tensor | Mapped | np.ndarray
    y: Any = None
    test: tuple[Any, Any] | None = None
    classes: Sequence[str] = ()
    reference: Callable[..., Any] | None = None
    columns: Columns | None = None
    files: tuple[Sequence[str], Sequence[str]] = ((), ())


def channels_first(x: Any) -> Any:
    """Grey images (n, h, w) as (n, 1, h, w), and images (n, h, w, c) with 1, 3 or 4 channels as (n, c, h, "
    "w)."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        return x.transpose(0, 3, 1, 2) if isinstance(x, np.ndarray) else x.permute(0, 3, 1, 2)
    return x
