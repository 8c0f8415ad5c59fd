"""A watcher of samples that grow alike while a model trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, isfinite, nan
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.data.toys import Mixture
from psiphi.evaluation._collapse import CollapseWarning
from psiphi.evaluation._modes import is_mixture, mixture_of
from psiphi.evaluation._rows import rows_of
from psiphi.formulas.fidelity import neighbour_radii
from psiphi.formulas.modes import occupancy, reached
from psiphi.training import History, Moment

SPREAD, NEAREST, FOUND, HELD = "sample_spread", "sample_nearest", "modes_found", "modes_held"
TINY_SPREAD = 0.25  # of the data's total variance
ALIKE = 0.1  # of the distance to compare with
FAIR = 0.1  # of an even share of the samples: a mode that has less is not held
LOST = 0.9  # of the most modes held so far
SATURATED = 0.02  # nats
GRACE = 4  # patiences in which samples may still be on their way out
MANY = 16  # numbers a row from which distances need no data to compare with


class ModeCollapseWarning(CollapseWarning):
    """Samples of a model grow alike, or its critic has nothing left to teach."""


@dataclass(frozen=True)
class watch_modes:
    """A callback for `fit` that looks at n samples after each row of the history, and says when collapse begins.

    data: rows to compare with, or a mixture (a toy, or a pair (means, sigma)) whose modes are counted too; without it
    the mean and σ that the model holds of its data serve. patience: rows in a row with a sign before it speaks; stop:
    end training with that sentence, instead of one `ModeCollapseWarning` an onset. Signs, in the history's columns:

    - `sample_spread`, total variance of samples over the data's, below 1/4 after it was above, or after 4 patiences;
    - `sample_nearest`, median distance to the nearest other sample over √(the data's total variance), likewise below
      1/10 of that of as many rows of data; without data, of its highest so far, in 16 or more dimensions (in few,
      distances fall as modes sharpen);
    - `modes_held`, the modes that at least a tenth of an even share of samples is nearest to, below 9/10 of its highest
      so far, or below half of the modes after 4 patiences (`modes_found`, those with a sample within 3σ, stands beside
      it: early samples, everywhere and nowhere, find modes by chance);
    - a `…critic_loss`, less its penalty, within 0.02 nats of 0, so that hardly a gradient reaches the generator; one
      that has been negative (Wasserstein's) may well be 0.

    It remembers by the history alone, so that a resumed run stops where the whole one does.
    """

    data: Any = None
    n: int = 1000
    patience: int = 5
    stop: bool = False
    seed: int = 0

    def __call__(self, moment: Moment) -> str | None:
        model: Any = moment.model
        with torch.no_grad():
            x = _rows(model.sample(self.n, seed=self.seed, exact=True))
            real = self._real(model)
            total = float(model.statistics.sigma) ** 2 * x.shape[1] if real is None else _variance(real)
            row = moment.history.rows[-1]
            few = x if real is None else x[: len(real)]
            row |= {SPREAD: _variance(x) / total, NEAREST: _nearest(few) / total**0.5}
            if is_mixture(self.data):
                means, sigma = mixture_of(self.data)
                even = self.n / len(means)
                row[FOUND] = int(reached(x, means, sigma).sum())
                row[HELD] = int((occupancy(x, means, sigma, inf)[:-1] >= FAIR * even).sum())
            wanted = None if real is None else _nearest(real) / total**0.5
        seen = {said: _waited(flags) for said, flags in self._signs(moment.history, x.shape[1], wanted)}
        told = [
            said
            for said, waited in seen.items()
            if (waited >= self.patience if self.stop else waited == self.patience)
        ]
        if not told:
            return None
        sentence = f"collapse seen for {self.patience} rows: {'; '.join(told)}"
        if self.stop:
            return sentence
        if _speaks_elsewhere():
            return None
        warnings.warn(
            f"{sentence}. Try packing, R1 and R2 penalties together, or another balance of critic and generator steps.",
            ModeCollapseWarning,
            stacklevel=2,
        )
        return None

    def _real(self, model: Any) -> Tensor | None:
        """n rows of data, or fewer if there are fewer."""
        if self.data is None:
            return None
        if not is_mixture(self.data):
            return _rows(rows_of(self.data, model.shape, self.n, "data").x)
        means, sigma = mixture_of(self.data)
        return Mixture("target", means, sigma)(self.n, Noise.of(self.seed, self.n, dtype=torch.float64))

    def _signs(self, history: History, size: int, wanted: float | None) -> list[tuple[str, list[bool]]]:
        """What each sign says now, and whether each row has it: a function of the history's columns alone."""
        late = GRACE * self.patience
        spread, near = history[SPREAD], history[NEAREST]
        found = [
            (
                f"the samples' variance is {spread[-1]:.1%} of the data's",
                _below(spread, lambda best, i: _once(TINY_SPREAD, best, i >= late)),
            )
        ]
        if wanted is not None or size >= MANY:
            most = max((value for value in near if isfinite(value)), default=nan)
            least, whose = (most, "their largest so far") if wanted is None else (wanted, "the data's")
            share = near[-1] / least if least else nan
            found.append(
                (
                    f"samples are near-duplicates, the median distance to the next one is {share:.1%} of {whose}",
                    _below(
                        near,
                        lambda best, i: _once(ALIKE * (best if wanted is None else wanted), best, i >= late),
                    ),
                )
            )
        if is_mixture(self.data):
            k, counts = len(mixture_of(self.data)[0]), history[HELD]
            found.append(
                (
                    f"{counts[-1]:.0f} of {k} modes have samples, after {max(counts):.0f} at best",
                    _below(counts, lambda best, i: max(LOST * best, k / 2 if i >= late else 0)),
                )
            )
        for column in history.columns:
            if column.endswith("critic_loss") and not column.startswith("validation_"):
                losses = _unpenalised(history, column)
                least = accumulate(losses, min)
                flat = [abs(value) < SATURATED and low >= 0 for value, low in zip(losses, least)]
                found.append((f"the critic is saturated, {column} is {losses[-1]:.2g}", flat))
        return found


def _speaks_elsewhere() -> bool:
    """Whether this is one of several processes and not the first, which warns for all."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return several and torch.distributed.get_rank() > 0


def _unpenalised(history: History, column: str) -> list[float]:
    """A critic's loss in its game, without the penalty that it is trained with."""
    penalty = column.removesuffix("loss") + "penalty"
    losses = history[column]
    return [a - b for a, b in zip(losses, history[penalty])] if penalty in history.columns else losses


def _below(values: Sequence[float], bound: Callable[[float, int], float]) -> list[bool]:
    """Whether each value is below a bound that depends on the highest so far and on the row's number."""
    best, flags = -1.0, []
    for i, value in enumerate(values):
        best = max(best, value) if isfinite(value) else best
        flags.append(value < bound(best, i))
    return flags


def _once(bound: float, best: float, late: bool) -> float:
    """The bound, from when it has been reached, or from late on: samples first have to leave where they start."""
    return bound if best >= bound or late else -1.0


def _waited(flags: Sequence[bool]) -> int:
    """How many of the last flags are up, without a gap."""
    return next((i for i, flag in enumerate(reversed(flags)) if not flag), len(flags))


def _rows(x: Tensor) -> Tensor:
    return x.detach().flatten(1).cpu().double()


def _variance(x: Tensor) -> float:
    """E‖x − x̄‖²."""
    return float(x.var(0, correction=0).sum())


def _nearest(x: Tensor) -> float:
    """Median distance of a row to its nearest other row."""
    return float(neighbour_radii(x, 1).sqrt().median()) if len(x) > 1 and bool(x.isfinite().all()) else nan
