"""Tables: `.csv`, `.parquet` and pandas data frames as numbers with a schema, and back again.

Numbers are float32, categories their place 0..K−1 in the schema, what is missing is NaN. pandas and pyarrow
(the extra `tables`) are imported only when a table is read or written.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.data._coding import by_schema, coded, labels_of, pandas
from psiphi.data._columns import Columns
from psiphi.data._guard import check_size, reading
from psiphi.data._raw import Raw

SUFFIXES = (".csv", ".parquet")
INDEX = "__index_level_"
SEPARATORS = {"tab": "\t", "\\t": "\t"}


def is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def is_frame(x: Any) -> bool:
    """Whether x is a pandas data frame; pandas is not imported to find out."""
    return type(x).__module__.partition(".")[0] == "pandas" and hasattr(x, "columns")


def read_csv(
    path: Path,
    *,
    labels: str | None = None,
    categorical: str | Sequence[str] = (),
    drop: str | Sequence[str] = (),
    missing: str | Sequence[str] = (),
    separator: str = ",",
) -> Raw:
    """A `.csv` file with a header of names, UTF-8.

    labels: the column of classes; categorical: columns of numbers that are categories (`a+b`, or a list), drop:
    columns to leave out; missing: marks of what is missing, besides an empty field, NA, NaN, null and None.
    Errors: `FileError`, `DataError`, with the line where the rows are ragged.
    """
    return read_frame(
        _csv(path, missing, separator), str(path), labels=labels, categorical=categorical, drop=drop
    )


def read_parquet(
    path: Path,
    *,
    labels: str | None = None,
    categorical: str | Sequence[str] = (),
    drop: str | Sequence[str] = (),
) -> Raw:
    """A `.parquet` file; options as for `read_csv`."""
    return read_frame(_parquet(path), str(path), labels=labels, categorical=categorical, drop=drop)


def read_frame(
    frame: Any,
    what: str = "the data frame",
    *,
    labels: str | None = None,
    categorical: str | Sequence[str] = (),
    drop: str | Sequence[str] = (),
) -> Raw:
    """A data frame, its columns coded; options as for `read_csv`."""
    frame = _named(frame, what)
    if len(frame) == 0:
        raise DataError(f"{what} has a header and no rows: at least two rows are needed.")
    forced = _chosen(categorical, frame, "categorical", what)
    y, classes = None, ()
    if labels is not None:
        (labels,) = _chosen([labels], frame, "labels", what)
        y, classes = labels_of(frame[labels], labels, what)
    left = _chosen(drop, frame, "drop", what) + ([] if labels is None else [labels])
    frame = frame.drop(columns=left)
    if frame.shape[1] == 0:
        raise DataError(f"{what} has no column left for x: drop fewer, or add columns.")
    found = [coded(frame[name], name in forced, what) for name in frame.columns]
    x = np.stack([values for values, _ in found], 1)
    return Raw(x, y, classes=classes, columns=Columns(column for _, column in found))


def read_rows(path: Path, columns: Columns, **options: Any) -> tuple[Tensor, Any]:
    """Rows of a table in the file's order, coded by a known schema, and the data frame they came from.

    Columns that the schema lacks are left out of x. Errors: `DataError` where one is missing, or has a category
    that the schema lacks.
    """
    with reading(path, "a table"):
        frame = _named(_parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, **options), path)
    lacking = [name for name in columns.names if name not in frame.columns]
    if lacking:
        raise DataError(
            f"{path} has no column {', '.join(map(repr, lacking[:5]))}; the model was trained on "
            f"{', '.join(columns.names)}."
        )
    if len(frame) == 0:
        raise DataError(f"{path} has a header and no rows: there is nothing to do.")
    found = [by_schema(frame[column.name], column, path) for column in columns]
    return torch.from_numpy(np.stack(found, 1)), frame


def as_frame(x: Tensor, columns: Columns) -> Any:
    """Rows (n, D) as a data frame with the columns' names and the nearest categories; NaN is missing."""
    values = x.detach().float().cpu().numpy()
    named = {}
    for place, column in enumerate(columns):
        found = values[:, place]
        if column.size:
            names = np.array([*column.categories, None], dtype=object)
            near = found.round().clip(0, column.size - 1)
            named[column.name] = names[np.where(np.isnan(found), column.size, near).astype(int)]
        else:
            named[column.name] = found.astype(str).astype(np.float64)  # 0.1, not 0.10000000149
    return pandas().DataFrame(named)


def fill_gaps(frame: Any, filled: Any) -> Any:
    """The frame with its gaps, and only those, taken from `filled`, a frame with some of its columns."""
    out = frame.copy()
    for name in filled.columns:
        gaps = out[name].isna()
        if gaps.any():
            out[name] = out[name].convert_dtypes().astype(object).mask(gaps, filled[name].astype(object))
    return out


def write_table(path: Path, frame: Any) -> None:
    """A data frame as `.csv` or `.parquet`, whole or not at all."""
    if path.suffix.lower() == ".parquet":
        files.write(path, frame.infer_objects().to_parquet(index=False))
    elif path.suffix.lower() == ".csv":
        files.write(path, frame.to_csv(index=False))
    else:
        raise ArgumentError(f"{path} is no name for a table; .csv or .parquet is needed.")


# ------------------------------------------------------------------------------------------------ files
def _csv(path: Path, missing: str | Sequence[str] = (), separator: str = ",") -> Any:
    separator = SEPARATORS.get(str(separator), str(separator))
    if len(separator) != 1:
        raise ArgumentError(f"separator is {separator!r}; one character, or tab, is needed.")
    load = pandas().read_csv
    check_size(path.stat().st_size, path, "save it as .parquet in parts, or as .npy, which is mapped")
    try:
        _check_csv(path, separator)
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8.") from None
    return load(
        path,
        sep=separator,
        encoding="utf-8-sig",
        na_values=_several(missing),
        skipinitialspace=True,
        index_col=False,
        low_memory=False,
    )


def _check_csv(path: Path, separator: str) -> None:
    """Errors that pandas passes over: short rows, repeated names, no header, another separator."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
        header = next((row for row in rows if not _blank(row)), None)
        if header is None:
            raise FileError(f"{path} is empty; a header of names and at least two rows are needed.")
        _check_header([name.strip() for name in header], path, separator)
        for row in rows:
            if len(row) != len(header) and not _blank(row):
                raise DataError(
                    f"{path}, line {rows.line_num}, has {len(row)} fields, and the header {len(header)}: put "
                    f"fields that contain {separator!r} in quotes, and leave missing ones empty."
                )


def _blank(row: Sequence[str]) -> bool:
    return len(row) <= 1 and not "".join(row).strip()


def _check_header(names: list[str], path: Path, separator: str) -> None:
    if len(names) == 1:
        for other, called in ((";", ";"), ("\t", "tab"), (",", ",")):
            if other != separator and other in names[0]:
                raise DataError(
                    f"{path} has one column, {names[0]!r:.80}: it is separated by {called!r}, so give "
                    f"separator={called}."
                )
    if all(map(_is_number, names)) and names != [str(place) for place in range(len(names))]:
        raise DataError(
            f"{path} begins with numbers ({', '.join(names[:5])}); a first line with the columns' names is needed."
        )
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name; give it one (a frame's row numbers are left out "
            "by to_csv(index=False))."
        )
    _check_names(names, path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(path: Path) -> Any:
    pandas()
    from pyarrow import parquet

    if path.stat().st_size == 0:
        raise FileError(f"{path} is empty; a table of at least two rows is needed.")
    with parquet.ParquetFile(path, memory_map=False) as file:
        size = file.metadata.num_rows * file.metadata.num_columns * 8
        check_size(size, path, "read it in parts")
        table = file.read(use_threads=False)
    _check_names(table.column_names, path)
    table = table.drop_columns([name for name in table.column_names if name.startswith(INDEX)])
    return table.to_pandas(ignore_metadata=True, use_threads=False)


def _named(frame: Any, what: Any) -> Any:
    """The frame with names of text, none twice."""
    names = [str(name).strip() for name in frame.columns]
    _check_names(names, what)
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def _check_names(names: Sequence[str], what: Any) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{what} has the column {twice[0]!r} more than once: rename one of them.")


def _several(names: Any) -> list[str]:
    several = names if isinstance(names, list | tuple) else str(names).split("+")
    return [str(name) for name in several if str(name)]


def _chosen(names: Any, frame: Any, option: str, what: Any) -> list[str]:
    """Names that an option gives, each a column of the frame."""
    held = list(frame.columns)
    chosen = _several(names)
    for name in chosen:
        if name not in held:
            near = get_close_matches(name, held, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(held)}."
            raise DataError(f"{option}: {what} has no column {name!r}; {hint}")
    return chosen
