"""`load`: names, files, folders, arrays, data sets and samplers to three splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.basis.noise import Noise, generator
from psiphi.basis.shapes import show
from psiphi.data._arrays import open_npy, read_npy, read_npz
from psiphi.data._convert import check_rows, name_classes
from psiphi.data._fingerprint import fingerprint
from psiphi.data._guard import reading
from psiphi.data._hub import collect, from_splits, read_hub, read_torchvision
from psiphi.data._idx import is_idx, is_images, open_idx, read_idx, read_idx_folder
from psiphi.data._images import is_image, read_images
from psiphi.data._mapped import Mapped
from psiphi.data._raw import Raw, channels_first
from psiphi.data._record import Data, Provenance, Split
from psiphi.data._spec import check_options, parse
from psiphi.data._tables import is_frame, is_table, read_csv, read_frame, read_parquet
from psiphi.data.streams import Sampler, as_rows, as_source, is_array
from psiphi.data.toys import toys

TOY_ROWS = 10_000


def names() -> list[str]:
    """The data sets that `load` knows by name."""
    return ["digits", *sorted(entry.name for entry in toys)]


def load(
    what: Any,
    *,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.2,
    labels: Any = None,
    **options: Any,
) -> Data:
    """A data set in three disjoint splits; the same seed gives the same ones.

    what: `digits`, a toy (`ring`, `grid`, `moons`, `swiss_roll`, `gaussian`; n=10000 rows), a `.npy`, `.npz`,
    `.csv`, `.parquet` or idx file, a folder (of idx files, or of images, a class a sub-folder), `hub:NAME`,
    `torchvision:NAME`, an array, tensor, pair (x, y), data frame, data set, DataLoader, or sampler
    `(n, noise) -> batch`. Text may carry options: `ring:n=5000,modes=8`, `people.csv:labels=target,drop=id+name`.
    validation, test: shares of the rows, or counts; a test split of the data's own is kept, in its order.
    labels: one a row, a file of them, or the column or key that has them.
    options: n and a toy's own; size, channels (images); mapped (.npy: None maps files above 64 MB); config;
    categorical, drop, missing, separator (tables: see `_tables.read_csv`).
    Errors: `FileError`, `DataError`, `ArgumentError`, each a sentence.
    """
    if isinstance(what, Data):
        return what
    if isinstance(what, str):
        head, more = (what, {}) if os.path.exists(os.path.expanduser(what)) else parse(what)
        settings = {"seed": seed, "validation": validation, "test": test}
        settings |= {name: more.pop(name) for name in list(more) if name in settings}
        labels = str(more.pop("labels")) if "labels" in more else labels
        return _load(head, labels, {**more, **options}, **settings)
    return _load(what, labels, options, seed, validation, test)


def _load(what: Any, labels: Any, options: dict[str, Any], seed: int, validation: float, test: float) -> Data:
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ArgumentError(f"seed is {seed!r}; an integer is needed.")
    name, source, raw = _read(what, labels, options, seed)
    x = as_rows(raw.x)
    check_rows(x.shape)
    own = None if raw.test is None else (as_rows(raw.test[0]), raw.test[1])
    if own is not None and (len(own[0]) == 0 or own[0].shape[1:] != x.shape[1:]):
        raise DataError(
            f"{source} has training rows {show(x.shape[1:])} and test rows of shape {show(own[0].shape)}; at "
            "least one test row of the same shape is needed."
        )
    given = raw.y if labels is None or isinstance(labels, str | Path) else labels
    if isinstance(labels, str | Path) and os.path.isfile(labels):
        given = _label_file(Path(labels))
    y, y_test, classes = _label(given, len(x), own, raw.classes)
    digest = fingerprint(x, y)
    if own is not None:
        digest = hashlib.sha256((digest + fingerprint(own[0], y_test)).encode()).hexdigest()
    order = torch.randperm(len(x), generator=generator(seed, "split"))
    n_test = 0 if own is not None else _count(test, len(x), "test")
    n_validation = _count(validation, len(x), "validation")
    if n_test + n_validation >= len(x):
        raise ArgumentError(
            f"validation={validation} and test={test} take {n_validation} + {n_test} of {len(x)} rows and "
            "leave none to train on: give smaller ones."
        )
    parts = order.split([n_test, n_validation, len(x) - n_test - n_validation])
    held, tuned, train = (_split(x, y, part, raw.files[0]) for part in parts)
    if own is not None:
        held = _split(own[0], y_test, torch.arange(len(own[0])), raw.files[1])
    rows = {"train": len(train), "validation": len(tuned), "test": len(held)}
    origin = Provenance(source, digest, seed, rows, own is not None)
    return Data(name, train, tuned, held, classes, origin, raw.reference, raw.columns)


def _split(x: Tensor | Mapped, y: Tensor | None, part: Tensor, files: Sequence[str]) -> Split:
    named = tuple(files[int(i)] for i in part) if files else ()
    return Split(_take(x, part), None if y is None else y[part], None if named else part, named)


def _take(x: Tensor | Mapped, rows: Tensor) -> Tensor | Mapped:
    return x.subset(rows) if isinstance(x, Mapped) else x[rows.to(x.device)]


def _count(share: float, rows: int, what: str) -> int:
    """Rows of a split: a share in [0, 1), at least one row when above 0, or a count."""
    if isinstance(share, int) and not isinstance(share, bool) and share >= 0:
        return share
    if isinstance(share, float) and 0 <= share < 1:
        return max(1, round(share * rows)) if share > 0 and rows > 2 else round(share * rows)
    raise ArgumentError(f"{what} is {share!r}; a share in [0, 1) or a number of rows is needed.")


def _label(
    y: Any, rows: int, own: tuple[Any, Any] | None, classes: Any
) -> tuple[Tensor | None, Tensor | None, list[str]]:
    """Labels of the data and of its own test split, numbered alike, and the classes' names."""
    if y is None:
        return None, None, []
    if own is None or own[1] is None:
        numbers, found = name_classes(y, rows, classes)
        return numbers, None, found
    both = np.concatenate([np.asarray(y), np.asarray(own[1])])
    if len(y) != rows or len(own[1]) != len(own[0]):
        raise DataError(
            f"there are {len(y)} + {len(own[1])} labels for {rows} + {len(own[0])} rows; one a row is needed."
        )
    numbers, found = name_classes(both, len(both), classes)
    return numbers[:rows], numbers[rows:], found


def _label_file(path: Path) -> Any:
    return open_npy(path, mapped=False) if path.suffix == ".npy" else open_idx(path)


def _read(what: Any, labels: Any, options: dict[str, Any], seed: int) -> tuple[str, str, Raw]:
    """Name, source and content of whatever it is."""
    if isinstance(what, str | Path):
        return _read_text(what, labels, options, seed)
    if is_frame(what):
        reader = partial(read_frame, what, labels=labels if isinstance(labels, str) else None)
        check_options(reader, options, "a data frame")
        return "table", "data frame", reader(**options)
    if hasattr(what, "columns") and hasattr(what, "to_numpy") and isinstance(labels, str):
        _none(options, "a data frame")
        if labels not in what.columns:
            raise DataError(
                f"the data frame has no column {labels!r}; it has {', '.join(map(str, what.columns))}."
            )
        return "table", "data frame", Raw(what.drop(columns=labels), what[labels].to_numpy())
    kind = f"{type(what).__module__.split('.')[0]} {type(what).__name__}"
    if isinstance(what, Split) or (isinstance(what, tuple) and len(what) == 2):
        _none(options, "a pair (x, y)")
        return "array", kind, Raw(_rows(what[0] if isinstance(what, tuple) else what.x), tuple(what)[1])
    if is_array(what):
        _none(options, "an array")
        return "array", kind, Raw(_rows(what))
    if callable(what) and not hasattr(what, "__getitem__"):
        reader = partial(_draw, what, seed)
        check_options(reader, options, "a sampler")
        return (
            getattr(what, "name", None) or getattr(what, "__name__", "sampler"),
            repr(what),
            reader(**options),
        )
    _none(options, "a data set")
    if hasattr(what, "features") or hasattr(what, "classes"):
        return type(what).__name__, kind, from_splits(what, kind)
    return type(what).__name__, kind, Raw(*collect(what, kind))


def _rows(x: Any) -> Any:
    x = as_rows(x)
    return x if isinstance(x, Mapped) else channels_first(x)


def _read_text(what: str | Path, labels: Any, options: dict[str, Any], seed: int) -> tuple[str, str, Raw]:
    text = str(what)
    reader: Callable[..., Raw]
    if isinstance(what, str) and what == "digits":
        name, reader = what, _digits
    elif isinstance(what, str) and what in toys:
        build = toys[what].build
        own = {key: value for key, value in options.items() if key != "n"}
        check_options(build, own, what)
        options = {key: value for key, value in options.items() if key == "n"}
        name, reader = what, partial(_draw, build(**own), seed)
        text = repr(build(**own))
    elif text.startswith("hub:"):
        name, reader = text[4:], partial(read_hub, text[4:])
    elif text.startswith("torchvision:"):
        name, reader = text[12:], partial(read_torchvision, text[12:])
    else:
        path = Path(os.path.expanduser(text))
        with reading(path, "data"):
            reader = _path_reader(path, labels)
            check_options(reader, options, text)
            return path.name.split(".")[0], str(path), reader(**options)
    check_options(reader, options, text)
    return name, text, reader(**options)


def _path_reader(path: Path, labels: Any) -> Callable[..., Raw]:
    """The reader for a file or folder, by its name, else by its first bytes."""
    if os.path.isdir(path):
        return partial(read_idx_folder if any(map(is_images, path.iterdir())) else read_images, path)
    if not os.path.exists(path):
        near = get_close_matches(str(path), names(), n=1)
        known = ", ".join(names())
        hint = f"did you mean {near[0]}?" if near else f"give one of {known}, a file or a folder."
        raise FileError(f"{path} is neither a file nor a data set's name; {hint}")
    if not path.is_file():
        raise FileError(f"{path} is no regular file; a file or a folder is needed: copy it to one.")
    if path.suffix == ".npy":
        return partial(read_npy, path)
    key = labels if isinstance(labels, str) and not os.path.isfile(labels) else None
    if path.suffix == ".npz":
        return partial(read_npz, path, labels=key)
    if is_table(path):
        return partial(read_csv if path.suffix.lower() == ".csv" else read_parquet, path, labels=key)
    if is_images(path) or is_idx(path):
        return partial(read_idx, path)
    if is_image(path):
        raise DataError(f"{path} is one image; a folder of images is needed: name {path.parent}.")
    raise FileError(
        f"{path} is of no kind that psiphi reads; .npy, .npz, .csv, .parquet, idx (.gz) or a folder of images "
        "is needed: convert it with numpy.save."
    )


def _digits() -> Raw:
    """1797 handwritten digits of 8x8 pixels, embedded in scikit-learn: float32 in [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Raw((x / 16).astype(np.float32).reshape(-1, 1, 8, 8), y, classes=[str(k) for k in range(10)])


def _draw(sampler: Callable[..., Any], seed: int, *, n: int = TOY_ROWS) -> Raw:
    """n draws of a sampler, with the mode as label where it tells."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 2:
        raise ArgumentError(f"n is {n!r}; a number of rows of at least 2 is needed.")
    noise = Noise.of(seed, n).split("data")
    draw = getattr(sampler, "draw", None)
    source = as_source(sampler)
    if not isinstance(source, Sampler):
        raise DataError(f"{sampler!r} is no sampler (n, noise) -> batch.")
    x, y = draw(n, noise) if draw else source.draw(n, noise)
    return Raw(x, y, reference=sampler)


def _none(options: dict[str, Any], what: str) -> None:
    if options:
        raise ArgumentError(f"{what} takes no options; got {', '.join(options)}.")
