"""Columns of a data frame as numbers: float32, categories as their place 0..K−1, NaN where missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.data._columns import Column

MANY = 1000  # categories of a column at most
FEW = 100  # so many are never taken for identifiers, however few the rows


def pandas() -> Any:
    """The module, or one sentence that says how to get it."""
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError:
        raise ArgumentError("tables need pandas and pyarrow: pip install pandas pyarrow") from None
    return pandas


def coded(values: Any, forced: bool, what: Any) -> tuple[np.ndarray, Column]:
    """A column as float32, NaN where missing, and its schema."""
    name = str(values.name)
    if not values.notna().any():
        raise DataError(f"{what}: the column {name!r} has no value at all: drop it (drop={name}).")
    numbers = None if forced else _numbers(values, name, what)
    if numbers is None:
        codes, categories = _categories(values, name, what)
        return np.where(codes < 0, np.nan, codes).astype(np.float32), Column(name, "categorical", categories)
    return _finite(numbers, name, what), Column(name, "numeric")


def _finite(numbers: np.ndarray, name: str, what: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    endless = np.isinf(single)
    if endless.any():
        raise DataError(
            f"{what}: the column {name!r} has {endless.sum()} values beyond ±3.4e38 (row {endless.argmax()}): leave "
            "them empty, or rescale the column."
        )
    return single


def _numbers(values: Any, name: str, what: Any) -> np.ndarray | None:
    """The column as numbers; None where it has categories."""
    pd = pandas()
    types = pd.api.types
    if isinstance(values.dtype, pd.CategoricalDtype) or types.is_bool_dtype(values.dtype):
        return None
    if types.is_numeric_dtype(values.dtype) and not types.is_complex_dtype(values.dtype):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    there = values.dropna()
    if types.is_object_dtype(values.dtype) or types.is_string_dtype(values.dtype):
        if there.map(lambda value: isinstance(value, bool | np.bool_)).all():
            return None
        numbers = pd.to_numeric(there.map(str), errors="coerce")
        odd = there[numbers.isna()].map(str).unique()
        if len(odd) == 0:
            return pd.to_numeric(values.map(str, na_action="ignore")).to_numpy(np.float64, na_value=np.nan)
        if there.map(lambda value: isinstance(value, str | bool | np.bool_)).all():
            if numbers.notna().mean() < 0.5:
                return None
            raise DataError(
                f"{what}: the column {name!r} has numbers and {', '.join(map(repr, odd[:3]))}: leave those empty "
                f"(or name them, missing={odd[0]}), or say categorical={name}."
            )
    kind = type(there.iloc[0]).__name__ if types.is_object_dtype(values.dtype) else values.dtype
    raise DataError(
        f"{what}: the column {name!r} holds {kind}; numbers, text or booleans are needed: convert it, or drop it "
        f"(drop={name})."
    )


def _categories(values: Any, name: str, what: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes 0..K−1, −1 = missing, and the categories' names: in a declared order, else sorted."""
    pd = pandas()
    if isinstance(values.dtype, pd.CategoricalDtype):
        known = list(values.cat.categories)
        codes = values.cat.codes.to_numpy()
    else:
        there = values.notna()
        if not pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
            values = values.map(str, na_action="ignore")
        known = sorted(values[there].unique())
        codes = pd.Categorical(values, categories=known).codes
    if len(known) > MANY or len(known) > max(FEW, len(values) // 2):
        raise DataError(
            f"{what}: the column {name!r} takes {len(known)} values in {len(values)} rows, such as "
            f"{str(known[0])!r:.60}; that is no category: drop it (drop={name})."
        )
    return np.asarray(codes, np.int64), tuple(_text(value) for value in known)


def _text(value: Any) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def labels_of(values: Any, name: str, what: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The column of classes as numbers, −1 where unknown, and the names of text."""
    numbers = _numbers(values, name, what) if values.notna().any() else np.empty(0)
    if numbers is not None and len(numbers) == 0:
        raise DataError(f"{what}: the column {name!r} has no label at all: leave out labels={name}.")
    if numbers is None:
        return _categories(values, name, what)
    return np.where(np.isnan(numbers), -1, numbers), ()


def by_schema(values: Any, column: Column, what: Any) -> np.ndarray:
    if not values.notna().any():
        return np.full(len(values), np.nan, np.float32)
    if not column.size:
        numbers = _numbers(values, column.name, what)
        if numbers is None:
            raise DataError(
                f"{what}: the column {column.name!r} is no number; the model was trained on numbers."
            )
        return _finite(numbers, column.name, what)
    text = values.astype(object).map(_text, na_action="ignore")
    known = {name: code for code, name in enumerate(column.categories)}
    new = sorted(set(text.dropna()) - known.keys())
    if new:
        raise DataError(
            f"{what}: the column {column.name!r} has {new[0]!r}, which the model does not know; it was trained on "
            f"{', '.join(column.categories[:10])}: leave it empty."
        )
    return text.map(known, na_action="ignore").to_numpy(dtype=np.float32, na_value=np.nan)
