"""Data sets of other libraries: `hub:NAME`, `torchvision:NAME`, any data set or loader, read into memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.data._guard import check_size
from psiphi.data._items import Y_KEYS, pick
from psiphi.data._raw import Raw
from psiphi.data.streams import Indexed, Loader, as_source


def read_hub(name: str, *, config: str | None = None, cache: str | None = None) -> Raw:
    """A data set of the Hugging Face hub, or a folder that `datasets.save_to_disk` made."""
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ArgumentError(f"hub:{name} needs the package datasets: pip install psiphi[hub].") from None
    try:
        made = (
            datasets.load_from_disk(name)
            if Path(name).is_dir()
            else datasets.load_dataset(name, config, cache_dir=cache)
        )
    except Exception as error:  # the network, the hub and its scripts raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FileError(f"hub:{name} cannot be had ({why}): check the name and the network.") from None
    return from_splits(made, f"hub:{name}")


def from_splits(made: Any, what: str) -> Raw:
    """A dictionary of splits, or one data set, of items such as {"image": ..., "label": ...}."""
    if not isinstance(made, Mapping):
        return _with_names(Raw(*collect(made, what)), made)
    train = made.get("train")
    if train is None:
        raise DataError(f"{what} has the splits {', '.join(map(str, made))}; one called train is needed.")
    raw = Raw(*collect(train, what), collect(made["test"], what) if "test" in made else None)
    return _with_names(raw, train)


def _with_names(raw: Raw, table: Any) -> Raw:
    """Class names, where the table's features know them."""
    features = getattr(table, "features", None) or {}
    column = pick(features, Y_KEYS)
    names = getattr(features[column], "names", None) if column else None
    return Raw(raw.x, raw.y, raw.test, list(names or getattr(table, "classes", None) or ()))


def read_torchvision(name: str, *, root: str = "~/.cache/psiphi/torchvision", download: bool = True) -> Raw:
    """A data set of torchvision with `train=True/False`, downloaded by torchvision to `root`."""
    try:
        from torchvision import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ArgumentError(f"torchvision:{name} needs torchvision: pip install psiphi[vision].") from None
    build = getattr(datasets, name, None)
    if build is None:
        raise ArgumentError(f"torchvision has no data set {name!r}; e.g. torchvision:MNIST.")
    where = Path(root).expanduser()
    try:
        train, test = (build(where, train=part, download=download) for part in (True, False))
    except Exception as error:  # downloads and archives raise anything
        raise FileError(f"torchvision:{name} cannot be had ({type(error).__name__}: {error}).") from None
    return _with_names(Raw(*collect(train, name), collect(test, name)), train)


def collect(data: Any, what: str) -> tuple[Tensor, Tensor | None]:
    """All items of a data set or loader in memory; a `DataError` when they are too many."""
    source = as_source(
        DataLoader(data, batch_size=256) if isinstance(data, IterableDataset) else data, check=False
    )
    if isinstance(source, Indexed) and source.tensors is not None:
        return source.tensors
    if not isinstance(source, Indexed | Loader):
        raise DataError(f"{what} is no finite data set.")
    xs, ys, size = [], [], 0
    for x, y in source.chunks() if isinstance(source, Indexed) else source.batches():
        size += x.nbytes
        check_size(size, what, "train on it directly: fit(model, data) reads it batch by batch")
        xs.append(x)
        ys.append(torch.full((len(x),), -1) if y is None else y)
    y = torch.cat(ys)
    return torch.cat(xs), y if source.labelled else None
