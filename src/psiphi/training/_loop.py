"""The one loop: rounds of players' turns, a row of history an interval, best weights, checkpoints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, DataError, DivergedError
from psiphi.basis.noise import mix
from psiphi.data.streams import Indexed, Source
from psiphi.parts import Clock, adam
from psiphi.parts.clock import END
from psiphi.training import _checkpoint as checkpoint
from psiphi.training._callbacks import Callback, Moment, Monitor
from psiphi.training._feed import Feed
from psiphi.training._history import History, Row
from psiphi.training._meter import Meter
from psiphi.training._turn import Losses, Seat
from psiphi.training._world import World, reseed

LONGEST_ROW = 1000
GROWTH = 1e4


@dataclass(frozen=True)
class Plan:
    """What `fit` was asked to do."""

    epochs: int | None
    steps: int | None
    batch_size: int
    lr: float | None
    seed: int
    optimizer: adam | dict[str, Any] | None
    ema: float | None
    folder: Path | None
    resume: bool
    callbacks: tuple[Callback, ...]
    quiet: bool
    facts: dict[str, Any]
    checkpoint_every: float
    monitor: Monitor | None = None


class Loop:
    """Training of one model; `run` returns when it is done, stopped or interrupted."""

    def __init__(
        self, model: Any, source: Source, held: Source | None, world: World, plan: Plan, history: History
    ):
        self.model, self.held, self.world, self.plan, self.history = model, held, world, plan, history
        players = model.players()
        self.seats = [Seat(p, plan.lr, plan.optimizer, plan.ema, lone=len(players) == 1) for p in players]
        if not self.seats:
            raise ArgumentError(f"{model.title} has no players to train.")
        self.least = max(seat.player.least for seat in self.seats)
        self.feed = Feed(
            _on_device(source, world.device), plan.batch_size, plan.seed, world, model.dtype, self.least
        )
        widest = max(seat.player.steps for seat in self.seats)
        self.widest, self.epoch = widest, max(1, self.feed.per_epoch // widest)
        self.total = plan.steps or (plan.epochs or 30) * self.epoch
        self.every = min(self.epoch, LONGEST_ROW)
        self.done, self.best = 0, None
        self.meter = Meter()

    def run(self) -> None:
        if self.plan.resume and self.plan.folder is not None and checkpoint.exists(self.plan.folder):
            self._restore(self.plan.folder)
        for seat in self.seats:
            self.world.seat(seat)
        self.good = checkpoint.snapshot(self.model)
        self.model.train()
        bar = tqdm(
            total=self.total, initial=self.done, desc=self.model.title, unit="step", file=sys.stderr,
            disable=self.plan.quiet or self.world.rank > 0, leave=False, mininterval=0.2 if sys.stderr.isatty() else 10,
        )  # fmt: skip
        try:
            with bar:
                self._rounds(bar)
        except KeyboardInterrupt:
            self.history.stopped = "interrupted"
        self._finish()

    def _rounds(self, bar: Any) -> None:
        batches = self.feed.batches(self.done * self.widest)
        began = saved = time.monotonic()
        while self.done < self.total:
            clock = Clock(self.done, self.done / self.epoch, self.total)
            reseed(self.world.device, mix(self.plan.seed, "step", self.done, self.world.rank))
            taken = [next(batches) for _ in range(self.widest)]
            for seat in self.seats:
                for batch, weight in taken[: seat.player.steps]:
                    losses = seat.update(batch, clock, weight, self.world.backward)
                    self.meter.add(self._named(seat, losses), len(batch))
            self.done += 1
            bar.update()
            if self.done % self.every and self.done < self.total:
                continue
            row = self._row(time.monotonic() - began)
            began = time.monotonic()
            bar.set_postfix_str(_postfix(row))
            reasons = self._ask(row)
            self._log()  # after the callbacks, which may add columns
            if reasons or self.done == self.total or time.monotonic() - saved >= self.plan.checkpoint_every:
                self._save()
                saved = time.monotonic()
            if reasons:
                self.history.stopped = reasons[0]
                return

    def _named(self, seat: Seat, losses: Losses) -> Losses:
        if len(self.seats) == 1:
            return losses
        name = seat.player.name or type(seat.player.module).__name__.lower()
        return {f"{name}_{key}": value for key, value in losses.items()}

    def _row(self, seconds: float) -> Row:
        """Means since the last row; the weights are kept if they are good, restored if they are not."""
        means, culprits = self.meter.means(self.world)
        finite = torch.stack([p.detach().norm() for p in self.model.parameters()]).isfinite().all()
        first = self.history.rows[0] if self.history.rows else means
        grown = [k for k, v in means.items() if v > GROWTH * (1 + abs(first.get(k, v)))]
        if culprits or grown or not bool(finite):
            self._diverged(culprits or grown or ["the weights"], means)
        self.world.share_buffers(self.model)
        self.good = checkpoint.snapshot(self.model)
        row: Row = {"step": self.done, "epoch": self.done / self.epoch, **means}
        with self._final_weights():
            if self.held is not None:
                row |= {f"validation_{name}": value for name, value in self._validate(self.held).items()}
            self.history.rows.append({**row, "seconds": seconds})
            merit = self._merit(row)
            if merit is not None and (self.history.best is None or merit > self._merit(self.history.best)):
                self.history.best, self.best = row, checkpoint.snapshot(self.model)
        return row

    def _merit(self, row: Row) -> Any:
        """What chooses the weights, more is better; None where nothing does."""
        if self.plan.monitor is not None:
            return row[f"validation_{_name(self.plan.monitor)}"]
        loss = row.get("validation_loss")
        return None if loss is None else -loss

    def _diverged(self, culprits: list[str], means: dict[str, float]) -> None:
        self.model.load_state_dict(self.good)
        self.model.eval()
        numbers = ", ".join(f"{name} = {means[name]:g}" for name in culprits if name in means)
        where = " and ".join(culprits) + (f" ({numbers})" if numbers else "")
        last = f"step {int(self.history.last['step'])}" if self.history.rows else "the start"
        raise DivergedError(
            f"the loss diverged by step {self.done} in {where}; the model holds the weights of {last}: "
            f"try a lower learning rate, or a bound on the gradient (clip=1.0 in adam, --clip 1)."
        )

    @contextmanager
    def _final_weights(self) -> Iterator[None]:
        """Inside, the model holds the weights it would be returned with."""
        averages = [seat.average for seat in self.seats if seat.average is not None]
        for average in averages:
            average.swap()
        try:
            yield
        finally:
            for average in averages:
                average.swap()

    @torch.no_grad()
    def _validate(self, held: Source) -> dict[str, float]:
        """The players' losses on held-out rows, with final weights of the objective and the same noise each time.

        The monitor's mean is over the rows that it gives a number for. Raises `DataError` where there are none.
        """
        feed = Feed(
            held,
            self.plan.batch_size,
            mix(self.plan.seed, "validation"),
            self.world,
            self.model.dtype,
            self.least,
        )
        meter, batches, judged = Meter(), feed.batches(0), 0
        self.model.eval()
        for _ in range(feed.per_epoch):
            batch, _ = next(batches)
            for seat in self.seats:
                meter.add(self._named(seat, seat.player.loss(seat.player.module, batch, END)), len(batch))
            if self.plan.monitor is not None:
                found = torch.as_tensor(self.plan.monitor(self.model, batch)).to(self.model.dtype)
                rows = found.numel() if found.ndim else len(batch)
                meter.add({_name(self.plan.monitor): found.sum() / max(1, found.numel())}, rows)
                judged += rows
        if self.plan.monitor is not None and not self.world.sum(
            torch.tensor(judged, device=self.world.device)
        ):
            raise DataError(
                f"{_name(self.plan.monitor)} judged none of the validation rows: give some with labels."
            )
        self.model.train()
        means, _ = meter.means(self.world)
        return means  # of several players none is the loss by which to choose weights

    def _ask(self, row: Row) -> list[str]:
        with self._final_weights():
            moment = Moment(
                self.model, Clock(self.done, self.done / self.epoch, self.total), row, self.history
            )
            return [reason for reason in (callback(moment) for callback in self.plan.callbacks) if reason]

    def _log(self) -> None:
        if self.plan.folder is not None and self.world.rank == 0:
            files.append(
                self.plan.folder / "log.csv",
                self.history.csv() if len(self.history) == 1 else self.history.csv_last(),
            )

    def _save(self) -> None:
        if self.plan.folder is None or self.world.rank > 0:
            return
        record = {
            "facts": self.plan.facts, "step": self.done, "history": self.history.rows, "best": self.history.best,
        }  # fmt: skip
        checkpoint.write(self.plan.folder, self.model, self.seats, self.best, record)

    def _restore(self, folder: Path) -> None:
        record, self.best = checkpoint.read(folder, self.model, self.seats)
        for name, now in self.plan.facts.items():
            then = record.get("facts", {}).get(name)
            if then != now:
                raise ArgumentError(
                    f"the checkpoint in {folder} was made with {name} = {then!r}, this run has {now!r}: use the same, "
                    f"or another folder."
                )
        self.done = int(record["step"])
        self.history.rows, self.history.best = list(record["history"]), record["best"]
        if self.plan.folder is not None and self.world.rank == 0:
            files.write(self.plan.folder / "log.csv", self.history.csv())

    def _finish(self) -> None:
        """Give the model the weights it is returned with: the best, else the average, else the last."""
        for seat in self.seats:
            if seat.average is not None:
                seat.average.swap()
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.eval()


def _name(monitor: Monitor) -> str:
    return getattr(monitor, "__name__", type(monitor).__name__)


def _on_device(source: Source, device: torch.device) -> Source:
    """Rows in memory move to the device as a whole, in their own dtype."""
    if device.type == "cpu" or not isinstance(source, Indexed) or source.tensors is None:
        return source
    from psiphi.data.streams import as_source

    x, y = source.tensors
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 1 << 33
    if x.nbytes > free // 2:
        return source
    return as_source(x.to(device), None if y is None else y.to(device), check=False)


def _postfix(row: Row) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("step", "epoch"))
