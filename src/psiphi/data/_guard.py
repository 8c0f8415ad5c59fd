"""Limits and translations for bytes from elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psiphi.basis.errors import DataError, FileError, PsiphiError

MAX_BYTES = 8 << 30  # what is read into memory as a whole
RATIO = 1032  # deflate never expands more than this


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Any failure of a decoder on this file as a `FileError` sentence.

    Decoders of corrupt bytes raise whatever their innards do (struct, zlib, tokenizer, index, memory, ...),
    so
    that a list of types would always lack one; errors of ours and interrupts pass.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PsiphiError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{error.filename or path} does not exist: check the path.") from None
    except PermissionError:
        raise FileError(f"{path} may not be read: give yourself permission to read it.") from None
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FileError(
            f"{path} cannot be read as {kind} ({why}): it is corrupt, cut short or of another kind."
        ) from None


def check_size(size: int, path: str | Path, advice: str) -> None:
    """A `DataError` when so many bytes are too many for memory."""
    if size > MAX_BYTES:
        raise DataError(
            f"{path} needs {size / 2**30:.1f} GiB in memory; at most {MAX_BYTES >> 30} GiB are read: "
            f"{advice}."
        )
