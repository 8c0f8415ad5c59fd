"""Opening what a verb names: saved models, code of one's own, data."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _exported
from psiphi.basis.errors import ArgumentError, DataError, FileError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from psiphi.data import Columns, Data
    from psiphi.models import Model

SPEC = "data_spec"
COLUMNS = "columns"
ALL = "all"  # of the splits, in the order of the file


def open_model(path: str | Path) -> Model:
    """A model that was saved in a folder."""
    import psiphi.zoo  # noqa: F401  registers the builders that files name
    from psiphi.formulas.schedules import ScheduleWarning
    from psiphi.models import load

    folder = Path(path)
    if folder.suffix == ".py":
        raise FileError(
            f"{folder} is code: name the function in it that returns the model, {folder.stem}:FUNCTION."
        )
    if not folder.exists():
        raise FileError(
            f"there is no run at {folder}: train one, e.g. psiphi train vae --data digits --out {folder}"
        )
    if not (folder / "model.json").exists():
        raise FileError(
            f"{folder} holds no saved model (model.json is missing): name a folder that psiphi train wrote."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleWarning)  # said when it was trained
        return load(folder)


def open_classifier(name: str, trust: bool = False) -> nn.Module:
    """A saved classifier, what `module:function` of the user's own code returns, or a trusted torch.export file."""
    from psiphi.models import Classifier

    module, colon, function = name.partition(":")
    if colon and not Path(name).exists():
        return _own(module, function)
    if Path(name).suffix == _exported.SUFFIX:
        return _exported.open_exported(Path(name), trust)
    _exported.refuse_pickle(Path(name))
    model = open_model(name)
    if not isinstance(model, Classifier):
        raise ArgumentError(
            f"{name} holds a {model.title}, which has no classes to confuse: name a classifier, e.g. one from "
            f"psiphi train classifier --data digits."
        )
    return model


def _own(module: str, function: str) -> nn.Module:
    from torch import nn

    sys.path.insert(0, "")  # the folder where psiphi was started
    try:
        made = getattr(importlib.import_module(module), function)()
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"there is no module {error.name!r} to import from this folder: write module:function."
        ) from None
    except AttributeError as error:
        raise ArgumentError(
            f"{module}:{function} cannot be called ({error}): name a function in {module}."
        ) from error
    except Exception as error:
        raise ArgumentError(f"{module}:{function} failed ({type(error).__name__}: {error}).") from error
    finally:
        sys.path.remove("")
    if not isinstance(made, nn.Module):
        raise ArgumentError(
            f"{module}:{function} returned a {type(made).__name__}; a torch.nn.Module is needed."
        )
    return made


def open_data(spec: str | None, model: Any = None) -> tuple[str, Data]:
    """The data named, by default those that the model was trained on, and their name."""
    from psiphi.data import load

    known = getattr(model, "provenance", {}).get(SPEC)
    spec = spec or known
    if not spec:
        raise ArgumentError("the model does not say which data it was trained on: name them with --data.")
    try:
        data = load(spec)
    except FileError as error:
        if spec == known:
            raise FileError(
                f"{error} (The model was trained on it; name the data's place now with --data.)"
            ) from None
        raise
    shape = getattr(model, "shape", data.shape)
    if tuple(shape) != tuple(data.shape):
        raise DataError(f"{spec} has samples of shape {data.shape}, the model was trained on {tuple(shape)}.")
    return spec, data


def columns_of(model: Any) -> Columns | None:
    """The columns of the table that the model was trained on, from its recipe, else its provenance."""
    from psiphi.data import Columns

    found = model.recipe.get("arguments", {}).get(COLUMNS) or model.provenance.get(COLUMNS)
    return None if found is None else Columns.of(found)


def held_out(data: Data, limit: int | None = None) -> tuple[Tensor, Tensor | None]:
    """The first `limit` rows of the test split, as floats, with their labels."""
    import torch

    from psiphi.basis.shapes import as_float

    if len(data.test) == 0:
        raise DataError(f"{data.name} has no test rows: leave test= at its default share.")
    stop = len(data.test) if limit is None else min(limit, len(data.test))
    if stop < 1:
        raise ArgumentError(f"a limit of {limit} rows leaves nothing; at least 1 is needed.")
    x, y = data.test.x[:stop], data.test.y
    return as_float(torch.as_tensor(x)), None if y is None else y[:stop]


def chosen(data: Data, split: str, limit: int | None = None) -> tuple[Tensor, list[str], str]:
    """Rows of a split, or of all in the order in which they were read; what names each, and what kind of name it is."""
    import torch

    from psiphi.basis.shapes import as_float

    if split not in (*data.splits, ALL):
        raise ArgumentError(f"no split is called {split!r}; use {', '.join(data.splits)} or {ALL}.")
    if split == "test":
        held_out(data, 1)
    if limit is not None and limit < 1:
        raise ArgumentError(f"a limit of {limit} rows leaves nothing; at least 1 is needed.")
    parts = list(data.splits.values()) if split == ALL else [data.splits[split]]
    stop = None if split == ALL else limit
    x = torch.cat([as_float(torch.as_tensor(part.x[: stop or len(part)])) for part in parts])
    if len(x) == 0:
        raise DataError(f"{data.name} has no {split} rows: choose another split.")
    if any(part.files for part in parts):
        files = [file for part in parts for file in part.files][: None if split == ALL else len(x)]
        order = sorted(range(len(x)), key=files.__getitem__) if split == ALL else range(len(x))
        return x[list(order)[:limit]], [files[i] for i in order][:limit], "file"
    rows = [
        (data.provenance.own_test and part is data.test, place)  # a test file of its own comes after
        for part in parts
        for place in ([] if part.rows is None else part.rows.tolist())
    ][: len(x)]
    order = sorted(range(len(x)), key=rows.__getitem__) if split == ALL else range(len(x))
    names = [f"test:{place}" if own and split == ALL else str(place) for own, place in rows]
    return x[list(order)[:limit]], [names[i] for i in order][:limit], "row"


def is_other(model: Any, data: Data) -> bool:
    """Whether these are not the rows that the model was trained on, as far as hashes can tell."""
    from psiphi.data import fingerprint

    trained = getattr(model, "provenance", {}).get("data")
    if not isinstance(trained, str) or len(trained) != 64:
        return False
    x, y = data.train
    return trained not in (fingerprint(x, y), fingerprint(x))


def odd_rows(
    odd: str | None, data: Data, x: Tensor, y: Tensor | None, model: Any
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Normal rows with their labels, and odd ones: a class of the data set apart, or the test rows of other data."""
    if odd is None:
        return x, y, None
    if odd not in data.classes:
        return x, y, held_out(open_data(odd, model)[1])[0]
    assert y is not None
    is_odd = y == data.classes.index(odd)
    if not bool(is_odd.any()) or bool(is_odd.all()):
        raise DataError(
            f"{int(is_odd.sum())} of {len(x)} test rows are of class {odd}; some of each are needed."
        )
    return x[~is_odd], y[~is_odd], x[is_odd]
