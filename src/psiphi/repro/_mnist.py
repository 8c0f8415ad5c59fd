from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.basis.shapes import as_float
from psiphi.data import load
from psiphi.repro._recipe import Job


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in memory with their labels: x (n, ...) float, y (n,) int64."""

    x: Tensor
    y: Tensor


def mnist(job: Job) -> tuple[Rows, Rows]:
    """MNIST's own training and test rows, x (n, 1, 28, 28) in k/255. Errors: `DataError` where files lack."""
    data = load(job.folder, validation=0)
    y, y_test = data.train.y, data.test.y
    if y is None or y_test is None or not data.provenance.own_test:
        raise DataError(f"{job.folder} lacks MNIST's labels or its test images: all four files are needed.")
    job.log(f"MNIST from {job.folder}: {len(y)} training and {len(y_test)} test images.")
    x, x_test = (as_float(torch.as_tensor(part.x)) for part in (data.train, data.test))
    return Rows(x, y), Rows(x_test, y_test)
