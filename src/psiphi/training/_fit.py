"""`fit`: the front of training, which checks what it was given and hands over to the one loop."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from operator import index
from pathlib import Path
from typing import Any

import torch

from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, DataError, ShapeError
from psiphi.basis.noise import forked
from psiphi.basis.provenance import provenance
from psiphi.basis.shapes import as_float, show
from psiphi.data import fingerprint
from psiphi.data.statistics import measure
from psiphi.data.streams import Indexed, Sampler, Source, as_source, check_finite
from psiphi.parts import adam
from psiphi.training._callbacks import Callback, Monitor
from psiphi.training._history import History
from psiphi.training._loop import Loop, Plan
from psiphi.training._world import world

DEFAULT_EPOCHS = 30


def fit(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    validation: Any = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    devices: int = 1,
    precision: str = "32",
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
    quiet: bool = False,
    optimizer: adam | dict[str, Any] | None = None,
    ema: float | None = None,
    checkpoint_every: float = 10.0,
    monitor: Monitor | None = None,
) -> History:
    """Train the model in place and return the history; the model ends on the device it came from.

    x: array, tensor, `data.load` result, Split, Dataset, DataLoader, or a sampler `(n, noise) -> batch`; y: labels,
    −1 = unknown. validation: the same kinds (a `data.load` result brings its own); the weights best on it are kept,
    but for models that play against a critic, whose losses do not say which are. monitor: `(model, batch)` -> (B,) or
    (), of which more is better: its mean over the validation rows, the column `validation_<name>`, then chooses the
    weights, e.g. `defenses.robust_accuracy(attack)`.
    epochs or steps: how long (30 epochs unless given); batch_size: rows a process. lr, optimizer, ema: in place of
    the model's own; a dict such as {"clip": 1.0} changes each player's own optimiser. device: CUDA where there is one
    unless given; devices: processes, by the script launcher.
    out: a folder that gets the model, a checkpoint every `checkpoint_every` seconds and `log.csv`; resume: go on from
    its checkpoint, bit for bit. callbacks: functions `Moment -> sentence to stop with, or None`.

    Runs under a random state of its own. Ctrl-C ends cleanly with a usable model (`history.stopped`). Raises
    `DivergedError`, naming the term, with the last good weights in the model; `DataError`, `ArgumentError`,
    `LaunchError` before any step.
    """
    if hasattr(x, "train") and hasattr(x, "validation") and not isinstance(x, torch.nn.Module):
        validation = x.validation if validation is None and len(x.validation) > 1 else validation
        x = x.train
    _check_model(model)
    _check_numbers(epochs, steps, batch_size, seed, lr, checkpoint_every)
    epochs, steps = (None if n is None else int(n) for n in (epochs, steps))
    batch_size, seed = int(batch_size), index(seed)
    if resume and out is None:
        raise ArgumentError("resume=True needs out=, the folder that holds the checkpoint.")
    source = as_source(x, y, check=False)
    held = None if validation is None else as_source(validation, check=not _takes_missing(model))
    _check_shapes(model, source, held)
    if monitor is not None and held is None:
        raise ArgumentError("monitor= is measured on held-out rows: give some as validation=(x, y).")
    home = model.device
    if torch.is_inference_mode_enabled():
        raise ArgumentError("fit cannot train inside torch.inference_mode(): call it outside.")
    with forked(seed, "fit"), torch.enable_grad():
        here = world(_device(device, home), devices, precision)
        folder = None if out is None else Path(out)
        with ThreadPoolExecutor(1) as beside:  # both read all the data, each on one core
            digest = beside.submit(_hash, source)
            _look(model, source)
        facts = dict(
            seed=seed,
            data=digest.result(),
            batch_size=batch_size,
            processes=here.size,
            model=_jsonable(model.recipe),
        )
        history = History(provenance=provenance(**facts, epochs=epochs, steps=steps, lr=lr))
        try:
            model.to(here.device)
            plan = Plan(
                epochs=epochs, steps=steps, batch_size=batch_size, lr=lr, seed=seed, optimizer=optimizer, ema=ema,
                folder=folder, resume=resume, callbacks=tuple(callbacks), quiet=quiet, facts=facts,
                checkpoint_every=checkpoint_every, monitor=monitor,
            )  # fmt: skip
            if hasattr(model, "solve"):
                _solve(model, source, history)
            else:
                Loop(model, source, held, here, plan, history).run()
        finally:
            model.to(home)
    model.provenance = history.provenance
    if folder is not None and here.rank == 0:
        _save(model, history, folder)
    return history


def _save(model: Any, history: History, folder: Path) -> None:
    files.write(folder / "log.csv", history.csv())
    model.save(folder)


def _solve(model: Any, source: Source, history: History) -> None:
    if not isinstance(source, Indexed):
        raise DataError(
            "a model with a closed-form solution needs rows it can index: an array, a file or a data set."
        )
    gather = lambda rows: as_float(source.gather(rows)[0])  # noqa: E731
    history.rows.append(model.solve(len(source), gather))
    model.eval()


def _look(model: Any, source: Source) -> None:
    """Measure the data once, before step 0; refuse what the likelihood cannot take."""
    if bool(model.statistics.measured):
        if isinstance(source, Indexed):
            check_finite(source, missing=_takes_missing(model))
        return
    found = measure(source)
    if found.bad and _takes_missing(model):
        if isinstance(source, Indexed):
            check_finite(source, missing=True)
    elif found.bad:
        rows = ", ".join(str(row) for row in found.bad_rows) + (", …" if found.bad > 5 else "")
        raise DataError(
            f"x has NaN or infinity in {found.bad} of {found.count} rows (rows {rows}): remove or fill them."
        )
    model.check_data(found.low, found.high)
    getattr(model, "check_columns", lambda lows, highs: None)(found.lows, found.highs)
    model.statistics.load(found)


def _takes_missing(model: Any) -> bool:
    """Whether NaN in x is data that are missing, which the model's likelihood leaves out."""
    return bool(getattr(model, "takes_missing", False))


def _check_model(model: Any) -> None:
    if not (hasattr(model, "players") and hasattr(model, "statistics")):
        raise ArgumentError(
            f"fit trains psiphi models, and got a {type(model).__name__}: build one with pp.zoo, e.g. "
            f"pp.zoo.classifier(shape, classes, network=your_module)."
        )


def _check_numbers(
    epochs: int | None, steps: int | None, batch_size: int, seed: int, lr: float | None, every: float
) -> None:
    if epochs is not None and steps is not None:
        raise ArgumentError(f"give epochs or steps, not both (epochs={epochs}, steps={steps}).")
    for name, value in (("epochs", epochs), ("steps", steps), ("batch_size", batch_size)):
        if value is not None and (not isinstance(value, Integral) or value < 1):
            raise ArgumentError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if not isinstance(seed, Integral):
        raise ArgumentError(f"a seed is a whole number; got {seed!r}.")
    if lr is not None and not 0 < lr < float("inf"):
        raise ArgumentError(f"lr must be a positive number; got {lr!r}.")
    if every < 0:
        raise ArgumentError(f"checkpoint_every must be at least 0 seconds; got {every!r}.")


def _check_shapes(model: Any, *sources: Source | None) -> None:
    for source in sources:
        if source is not None and tuple(source.shape) != tuple(model.shape):
            raise ShapeError(
                f"the data have samples of shape {show(source.shape)}; the model was built for {show(model.shape)}: "
                f"reshape them, or build it with shape {show(source.shape)}."
            )


def _device(device: str | torch.device | None, home: torch.device) -> torch.device:
    if device is not None:
        try:
            found = torch.device(device)
            torch.empty(0, device=found)
        except (RuntimeError, AssertionError, NotImplementedError):
            here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
            able = " or ".join(["cpu", *(name for name, there in here.items() if there)])
            raise ArgumentError(f"there is no device {str(device)!r} here; use {able}.") from None
        return found
    return torch.device("cuda") if torch.cuda.is_available() else home


def _hash(source: Source) -> str:
    if isinstance(source, Sampler):
        return f"sampler {getattr(source.sampler, '__name__', repr(source.sampler))}"
    if isinstance(source, Indexed) and source.tensors is not None:
        return fingerprint(*source.tensors)
    return f"{type(source).__name__.lower()} of {source.length} rows"


def _jsonable(recipe: dict[str, Any]) -> Any:
    return json.loads(json.dumps(recipe, default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else type(value).__name__
