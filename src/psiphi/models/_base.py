"""What every model shares: verbs that run in eval mode, in chunks, on the model's device.

A verb is a method marked `@verb`. Where it depends on a slot, `@verb.when(reason)` gives a function
model -> sentence or None; a sentence makes the attribute raise `MissingVerb`, so `hasattr` is truthful.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager, suppress
from math import prod
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, MissingVerb, PsiphiError
from psiphi.basis.registry import models
from psiphi.basis.shapes import Shape, as_batch, check_finite
from psiphi.parts import Player, Statistics

VERBS = (
    "encode",
    "posterior",
    "decode",
    "reconstruct",
    "sample",
    "log_prob",
    "anomaly_score",
    "denoise",
    "score",
    "project",
    "impute",
    "predict",
)
CHUNK_NUMBERS = 1 << 21


class verb:
    """A method of a model that runs in eval mode and restores every mode; see the module's docstring."""

    def __init__(self, call: Callable[..., Any], missing: Callable[[Any], str | None] | None = None):
        self.call, self.missing = call, missing
        functools.update_wrapper(self, call)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def when(missing: Callable[[Any], str | None]) -> Callable[[Callable[..., Any]], verb]:
        return lambda call: verb(call, missing)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        if model is None:
            return self
        reason = self.missing(model) if self.missing else None
        if reason is not None:
            raise MissingVerb(model.title, self.name, reason, who_can)
        return functools.wraps(self.call)(functools.partial(self._run, model))

    def _run(self, model: Model, /, *args: Any, **kwargs: Any) -> Any:
        with evaluating(model):
            return self.call(model, *args, **kwargs)


@contextmanager
def evaluating(model: nn.Module):
    """Eval mode inside, every module's own mode restored after."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def steady(model: nn.Module, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`call` in the model's eval mode whenever it runs, as when a checkpoint runs it again in the backward pass."""

    def run(*given: Any) -> Tensor:
        with evaluating(model):
            return call(*given)

    return run


class Model(nn.Module):
    """A module with a sample shape, data statistics, a recipe and verbs.

    recipe: how the zoo built it; provenance: what it was trained on, with which seed and versions.
    """

    statistics: Statistics
    recipe: dict[str, Any]
    provenance: dict[str, Any]
    takes_missing = False  # whether NaN in x is read as missing
    lacks: ClassVar[dict[str, str]] = {}  # why a verb that no such model has is missing

    def __init__(self, statistics: Statistics):
        super().__init__()
        self.shape: Shape = statistics.shape
        self.statistics = statistics
        self.recipe, self.provenance = {}, {}

    @property
    def title(self) -> str:
        return self.recipe.get("model", type(self).__name__)

    @property
    def can(self) -> tuple[str, ...]:
        """The verbs this model has."""
        return tuple(name for name in VERBS if hasattr(self, name))

    @property
    def device(self) -> torch.device:
        return self.statistics.mean.device

    @property
    def dtype(self) -> torch.dtype:
        return self.statistics.mean.dtype

    def players(self) -> list[Player]:
        """Who trains, on what; a model without a gradient step has `solve` instead."""
        return []

    def check_data(self, low: float, high: float) -> None:
        """Raise where data of this range cannot be learnt."""

    def check_columns(self, lows: Tensor, highs: Tensor) -> None:
        """Raise where coordinates of these ranges, (*shape) each, cannot be learnt."""

    def check_rows(self, x: Tensor) -> None:
        """Raise where rows hold infinity, or NaN that the model does not read as missing."""
        x = x.detach()
        check_finite(torch.where(x.isnan(), 0, x) if self.takes_missing else x)

    def save(self, path: str | Path) -> None:
        """Write the model to the folder `path`; `pp.load(path)` reads it."""
        from psiphi.models._files import save

        save(self, path)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            mine = getattr(type(self), name, None)
            if name not in VERBS and not isinstance(mine, verb):
                raise
        reason = mine.missing(self) if isinstance(mine, verb) and mine.missing else self.lacks.get(name)
        raise MissingVerb(self.title, name, reason or "", who_can)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in VERBS or hasattr(self, name)]

    def _map(
        self, call: Callable[[Tensor], Tensor], x: Any, shape: Shape | None = None, what: str = "x"
    ) -> Tensor:
        """Apply `call` to rows of x in chunks, on the model's device and dtype; the answer goes where x was."""
        shape = self.shape if shape is None else shape
        x = as_batch(x, shape, what)
        self.check_rows(x) if what == "x" else check_finite(x.detach(), what)
        home, rows = x.device, max(64, CHUNK_NUMBERS // max(prod(shape), 1))
        parts = [call(part.to(self.device, self.dtype)).to(home) for part in x.split(rows)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def check_unlabelled(model: Model, y: Any) -> None:
    if y is not None:
        raise ArgumentError(
            f"{model.title} knows no labels: leave y out, or use a model that does, e.g. conditional_vae, or "
            f"ddpm(classes=…)."
        )


def one_each(y: Any, rows: int, classes: int) -> Tensor:
    """Labels (rows,) from one label for all, or one each; 0 to classes − 1."""
    y = torch.as_tensor(y)
    if y.is_floating_point() or y.ndim > 1 or (y.ndim == 1 and len(y) != rows):
        raise ArgumentError(
            f"y is one label, or one for each of the {rows} rows; got shape {tuple(y.shape)}."
        )
    if len(y.reshape(-1)) and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise ArgumentError(f"labels run from 0 to {classes - 1}; got {int(y.min())} to {int(y.max())}.")
    return y.expand(rows)


def slices(n: int, size: int) -> list[slice]:
    rows = max(64, (1 << 21) // size // 64 * 64)
    return [slice(i, min(n, i + rows)) for i in range(0, n, rows)]


def check_count(n: Any, what: str = "samples") -> int:
    if not isinstance(n, Integral) or n < 1:
        raise ArgumentError(f"the number of {what} must be an integer of at least 1; got {n!r}.")
    return int(n)


@functools.cache
def who_can(name: str) -> list[str]:
    """The zoo's models that have this verb with their default arguments."""
    able = []
    for entry in models:
        with suppress(TypeError, PsiphiError):  # a builder of yours may need more than the usual arguments
            if hasattr(example(entry.name), name):
                able.append(entry.name)
    return able


def example(name: str) -> Any:
    """The zoo's model of this name on 4 × 4 images with a code of two numbers."""
    entry = models[name]
    wanted: dict[str, Any] = {"shape": (1, 4, 4), "latent_dim": 2, "hidden": (8,), "classes": 2}
    return entry.build(**{key: value for key, value in wanted.items() if key in entry.parameters})
