"""Classifiers that `torch.export.save` wrote. Such a file can run code, so it is read only where it is trusted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.basis.errors import AccessError, ArgumentError, FileError

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".pt2"
_PICKLES = (".pt", ".pth", ".pkl", ".ckpt", ".bin")
_HOW = "torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)), with x of two rows"


def refuse_pickle(path: Path) -> None:
    """A sentence for the files that only unpickling would read."""
    if path.suffix in _PICKLES:
        raise FileError(
            f"{path} looks like a pickle, which psiphi never reads: write the classifier with torch.export.save as "
            f"{path.with_suffix(SUFFIX).name}, or name a function of yours that builds it, as module:function."
        )


def open_exported(path: Path, trust: bool) -> nn.Module:
    """The program in a `.pt2` file as a module. Raises `ArgumentError` without trust, `FileError`, `AccessError`."""
    if not path.exists():
        raise FileError(f"there is no file {path}.")
    if not trust:
        raise ArgumentError(
            f"{path} is a torch.export file, and reading one can run code that is hidden in it: if you trust where "
            "it comes from, add --trust."
        )
    import torch

    try:
        with _silent("torch.export"):
            program = torch.export.load(path)
    except Exception as error:
        raise FileError(
            f"{path} is no torch.export file that this torch ({torch.__version__}) can read: it is cut short, "
            "corrupt, or of another version; write it again with torch.export.save."
        ) from error
    _check_batch(path, program)
    _check_mode(path, program)
    return program.module()


def _check_batch(path: Path, program: Any) -> None:
    """Refuse a program that was exported for batches of one size."""
    names = set(program.graph_signature.user_inputs)
    inputs = [node.meta.get("val") for node in program.graph.nodes if node.name in names]
    shapes = [tuple(value.shape) for value in inputs if hasattr(value, "shape")]
    if len(shapes) != 1 or len(shapes[0]) < 2:
        raise AccessError(
            f"{path} takes {len(inputs)} inputs; a classifier that takes one batch (B, ...) is needed: export a "
            "module that takes x alone."
        )
    if isinstance(rows := shapes[0][0], int):
        raise AccessError(
            f"{path} was exported for batches of exactly {rows} rows, and an attack sends batches of any size: "
            f"export it with a dynamic batch dimension, {_HOW}."
        )


def _check_mode(path: Path, program: Any) -> None:
    """Refuse a program whose dropout or batch norm was exported in train mode, which nothing can switch now."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or "aten::" not in schema.name:
            continue
        given = dict(zip((argument.name for argument in schema.arguments), node.args)) | node.kwargs
        if given.get("training", given.get("train")) is True:
            raise AccessError(
                f"{path} was exported in train mode ({schema.name.removeprefix('aten::')}), so its answers depend on "
                f"chance or on the rest of the batch: export it again, {_HOW}."
            )


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Without a library's log, which prints tracebacks of what becomes one sentence here."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
