"""Data in: names, files, folders, arrays, hubs and distributions; splits, streams, statistics.

`load` gives a `Data` in three splits, `as_source` what training reads, `measure` the moments, `describe` what
would go wrong with which model. Nothing that is read is ever unpickled.
"""

from __future__ import annotations

from psiphi.data import toys
from psiphi.data._binarize import binarize
from psiphi.data._columns import Column, Columns
from psiphi.data._describe import Description, describe
from psiphi.data._fingerprint import fingerprint
from psiphi.data._labels import known, some_labels
from psiphi.data._load import load, names
from psiphi.data._mapped import Mapped
from psiphi.data._record import Data, Provenance, Split
from psiphi.data.statistics import Statistics, measure
from psiphi.data.streams import Indexed, Loader, Sampler, Source, as_source, check_finite

__all__ = [
    "Column",
    "Columns",
    "Data",
    "Description",
    "Indexed",
    "Loader",
    "Mapped",
    "Provenance",
    "Sampler",
    "Source",
    "Split",
    "Statistics",
    "as_source",
    "binarize",
    "check_finite",
    "describe",
    "fingerprint",
    "known",
    "load",
    "measure",
    "names",
    "some_labels",
    "toys",
]
