"""One perturbation for all inputs, learnt by the loop that trains everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from math import inf
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, white_box
from psiphi.access import _checks as checks
from psiphi.access._refusal import check_answers
from psiphi.attacks import _rows
from psiphi.attacks._attack import _said as said_of
from psiphi.attacks._game import Game
from psiphi.attacks._perturbation import Perturbation, keys
from psiphi.attacks.threats import L1, L2, Linf, Patch
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.provenance import provenance
from psiphi.formulas import goals
from psiphi.formulas.goals import Goal
from psiphi.training import fit

_CHECKED, _CHUNK = 64, 512
Progress = Callable[[int, int], None]


def universal(
    threat: Any,
    goal: str | Goal = "cross_entropy",
    target: int | None = None,
    steps: int = 100,
    epochs: int | None = None,
    batch_size: int = 64,
    lr: float | None = None,
    momentum: float = 0.5,
    ceiling: float | None = 2.0,
    random_place: bool = False,
) -> Universal:
    """One change δ for all inputs: max_{δ ∈ threat} E min(score(f(clip(x + δ)), y), β), by steepest ascent on batches.

        m ← μ m + (1 − μ) ∇_δ mean score,   δ ← Π(δ + α d(m)),   α falling in a line from `lr` to 0

    threat        Linf, L2 or L1 with a radius: δ is added and the sum brought into the box. `Patch(size, place, eps=…)`
                  likewise within the window; without eps, what δ holds replaces the window
    goal          cross_entropy, margin or dlr by name, or a function (logits, y, target) -> scores (b,)
    target        the class that every input is to reach, instead of any but its own
    steps         of δ, each on a batch of `batch_size` rows; `epochs` says it in passes over the rows instead
    lr            α at first, in the data's units: by default the radius, of a patch without one half the box
    momentum      μ
    ceiling       β, the score of a row above which it pulls no more; 9 of the cross-entropy is published, where rows
                  that are fooled already pull longest
    random_place  of a Patch without eps: at a place of its own on every row, drawn anew at each step (printable)

    `universal(Linf(0.3)).fit(classifier, x, y)` gives a `Perturbation`. Costs each row of a batch one pass forward and
    one back, and where y is not given one forward more.

    Source: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial training", 2020, section 3; of
    the task, Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal adversarial perturbations", 2017.
    """
    return Universal(
        threat, goals.named(goal), target, steps, epochs, batch_size, lr, momentum, ceiling, random_place
    )


@dataclass(frozen=True, repr=False)
class Universal:
    """See `universal`."""

    threat: Any
    goal: Goal
    target: int | None
    steps: int
    epochs: int | None
    batch_size: int
    lr: float | None
    momentum: float
    ceiling: float | None
    random_place: bool

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "batch_size"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        if not isinstance(self.threat, (Linf, L2, L1, Patch)):
            raise ArgumentError(
                f"one change for all inputs is sought in Linf, L2, L1 or Patch, where it does not depend on the input; "
                f"got {self.threat!r}."
            )
        if isinstance(self.threat.eps, Tensor) and self.threat.eps.ndim:
            raise ArgumentError(f"one change for all inputs has one radius; got {self.threat!r}.")
        if self.threat.eps == inf and not isinstance(self.threat, Patch):
            raise ArgumentError(f"{self.threat!r} has no radius: give one, e.g. Linf(0.1).")
        if self.random_place and not self.replaces:
            raise ArgumentError(f"random_place is of a Patch without eps; got {self.threat!r}.")
        if isinstance(self.goal, goals.Relative):
            raise ArgumentError(f"a universal change raises a score of labels; got the goal {self.goal!r}.")
        if self.lr is not None and not 0 < self.lr < inf:
            raise ArgumentError(f"lr is a finite length above 0; got {self.lr!r}.")
        if not 0 <= self.momentum < 1:
            raise ArgumentError(f"momentum lies in [0, 1); got {self.momentum!r}.")

    @property
    def replaces(self) -> bool:
        """Whether δ takes the place of a window, instead of being added."""
        return isinstance(self.threat, Patch) and bool(self.threat.eps == inf)

    def __repr__(self) -> str:
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "threat"}
        rest = [f"{name}={said_of(value)}" for name, value in told.items() if value is not None]
        return f"universal({', '.join([repr(self.threat), *rest])})"

    def fit(
        self,
        classifier: Callable[[Tensor], Tensor] | Access,
        x: Any,
        y: Any = None,
        *,
        seed: int = 0,
        quiet: bool = True,
        on_progress: Progress | None = None,
        callbacks: Iterable[Any] = (),
    ) -> Perturbation:
        """Learn δ on the rows `x` (B, *x), an array, a tensor, a Split, or batches (x, y).

        `classifier` is an access that shows gradients, or a module or function that returns logits; it is left as it
        was found. `y` (B,) are the labels to leave, by default the classifier's own answers. `quiet=False` shows a bar;
        `on_progress(step, steps)` is called after each epoch, as are `callbacks` of `fit`.

        Raises `AccessError`, `DataError`, `ShapeError`, `ArgumentError`.
        """
        access, began = white_box(classifier), time.perf_counter()
        if "gradient" not in access.sees:
            raise ArgumentError(
                f"{self!r} needs gradients, which {access!r} does not show: fit it on a classifier of your own, and "
                "see how it transfers with fooling_rate(access, x)."
            )
        check_answers(access, "a universal change")
        x, y = _rows.gathered(x, y)
        x = access.points(x)
        if not len(x):
            raise DataError("x has no rows; one at least is needed.")
        y = None if y is None else checks.as_labels(y, len(x)).to(x.device)
        with access.session(x, seed) as ledger:
            y = self._checked(access, x, y)
            game = Game(self, access, x)
            history = fit(
                game, x, y, epochs=self.epochs, steps=None if self.epochs else self.steps, seed=seed, quiet=quiet,
                batch_size=min(self.batch_size, len(x)), device=x.device, callbacks=(*callbacks, *_told(on_progress)),
            )  # fmt: skip
        where = {"attack": repr(self), "access": repr(access), "seed": seed, "rows": len(x)}
        where |= {"data_sha256": history.provenance["data"], "forwards": int(ledger.forwards.sum())}
        seconds = round(time.perf_counter() - began, 3)
        return Perturbation(
            game.module.delta.detach().clone(), access.box, game.place, self.target, keys(x), history,
            provenance(**where, seconds=seconds),
        )  # fmt: skip

    def _checked(self, access: Access, x: Tensor, y: Tensor | None) -> Tensor:
        """The labels; by default the classifier's own answers."""
        ask = access.look if access.decides else access.verdict
        some = x if y is None else x[:_CHECKED]
        rows = torch.arange(len(some), device=x.device)
        said = torch.cat([ask(*part).said for part in zip(some.split(_CHUNK), rows.split(_CHUNK))], 1)
        access.inspect(x[:_CHECKED], said[:, :_CHECKED])
        own = said.mean(0).argmax(1)
        for what, labels in (("y", own if y is None else y), ("target", self.target)):
            if labels is not None:
                checks.check_classes(torch.as_tensor(labels).view(-1), said.shape[2], what)
        return own if y is None else y


def _told(on_progress: Progress | None) -> list[Callable[[Any], None]]:
    if on_progress is None:
        return []
    return [lambda moment: on_progress(int(moment.clock.step), int(moment.clock.steps))]
