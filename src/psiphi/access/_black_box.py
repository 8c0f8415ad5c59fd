"""The attacker asks and gets answers: no gradient, and no more questions than the budget allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from psiphi.access import _checks as checks
from psiphi.access._estimator import Estimator
from psiphi.access._frozen import frozen
from psiphi.access._ledger import Ledger
from psiphi.access._pipe import Bound, Pipe, Scale
from psiphi.access._protocol import Reply, Sees, Values
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import AccessError, ArgumentError, PsiphiError
from psiphi.basis.shapes import show
from psiphi.formulas.geometry import Box

Reveal = Literal["scores", "labels"]
_SEES: dict[str, frozenset[Sees]] = {
    "scores": frozenset({"labels", "scores"}),
    "labels": frozenset({"labels"}),
}


def black_box(
    model: Any,
    reveal: Reveal = "scores",
    budget: int | None = None,
    bounds: tuple[Bound, Bound] = (0.0, 1.0),
    mean: Scale = None,
    std: Scale = None,
    *,
    arrays: bool = False,
) -> BlackBox:
    """What `model` answers to points in `bounds`, and nothing else: scores (B, K), or labels (B,) of 0..K−1.

    A module or a function is given a tensor (B, *x), with `arrays` a NumPy array; it may return a tensor, an array or
    nested lists, so it may well call a web service. A fitted scikit-learn classifier is given arrays, flattened to
    (B, n_features_in_); its scores are `decision_function`, else `predict_proba`, its labels the places in `classes_`.

    Scores are logits. Rows in [0, 1] that sum to 1 within 0.01 in the whole first answer of a run are probabilities p,
    taken as ln max(p, tiny), which are logits. Where `reveal` is "labels" and scores come back, their argmax is shown.

    `budget` (at least 1) bounds the rows sent for each sample by one attack, the clean check included. The model is
    taken for deterministic: every answer stands, none is asked for twice. If it is random, `expectation(black_box(…))`
    judges it on fresh draws. `bounds`, `mean`, `std` as for `white_box`.

    Raises `AccessError` for whatever the model raises and for answers that are no scores or labels, `BudgetError`
    before a row too many is sent, `ArgumentError`.
    """
    if reveal not in _SEES:
        raise ArgumentError(f"reveal is 'scores' or 'labels'; got {reveal!r}.")
    if budget is not None:
        check_whole("budget", budget)
    if hasattr(model, "sees"):
        raise ArgumentError(f"{model!r} is an access already: give the classifier itself.")
    if not isinstance(model, nn.Module) and not callable(model) and hasattr(model, "predict"):
        model, arrays = Estimator(model, reveal), True
    return BlackBox(Pipe(model, bounds, mean, std), reveal, budget, arrays)


class BlackBox:
    """See `black_box`. `rows` counts every row that was sent to the model."""

    decides, recorded, judging = True, True, 1

    def __init__(self, pipe: Pipe, reveal: Reveal, budget: int | None, arrays: bool):
        self.pipe, self.reveal, self.budget, self.arrays = pipe, reveal, budget, arrays
        self.sees, self.ledger = _SEES[reveal], None
        self._probabilities: bool | None = None

    def __repr__(self) -> str:
        budget = "" if self.budget is None else f", budget={self.budget}"
        return f"black_box({self.pipe!r}, reveal={self.reveal!r}{budget})"

    @property
    def box(self) -> Box:
        return self.pipe.box

    @property
    def rows(self) -> int:
        return self.pipe.rows

    @property
    def refusal(self) -> int | None:
        return self.pipe.refusal

    def points(self, x: Any) -> Tensor:
        """`x` checked; a module's device and dtype."""
        return self.pipe.points(x)

    @contextmanager
    def session(self, x: Tensor, seed: int = 0) -> Iterator[Ledger]:
        """A module in eval mode, exactly as it was on the way out; a fresh budget."""
        self.ledger, self._probabilities = Ledger(len(x), x.device, self.budget), None
        try:
            with frozen(self.pipe.model):
                yield self.ledger
        finally:
            self.ledger, self._probabilities = None, None

    def look(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """Logits (1, n, K), or labels (1, n)."""
        if rows is not None and self.ledger is not None:
            self.ledger.charge(rows)
        scaled = self.pipe.scaled(points).detach().clone()  # the model may write into its own copy
        given: Any = scaled.cpu().numpy() if self.arrays else scaled
        try:
            with torch.no_grad():
                answer = self.pipe.model(given)
        except PsiphiError:
            raise
        except Exception as error:
            raise self.pipe.failed(points, error) from error
        said = _numbers(answer, points)
        return Reply(
            (self._labels if self.reveal == "labels" else self._scores)(said, len(points)).unsqueeze(0)
        )

    verdict = look

    def climb(self, points: Tensor, value: Values, rows: Tensor | None = None) -> Reply:
        """Refused: a black box has no gradient."""
        raise self._refusal()

    def slopes(self, points: Tensor, values: Values, rows: Tensor | None = None) -> Reply:
        """Refused: a black box has no gradient."""
        raise self._refusal()

    def inspect(self, x: Tensor, said: Tensor) -> None:
        """Nothing: each answer was checked as it came, and a second look would be counted."""

    def _refusal(self) -> AccessError:
        return AccessError(f"{self!r} shows no gradient: use an attack that asks for {self.reveal}.")

    def _scores(self, said: Tensor, n: int) -> Tensor:
        if said.ndim == 1:
            raise AccessError(
                f"the classifier returned one number a row, shape {show(said.shape)}; scores (B, K) are needed: of "
                "labels say reveal='labels', and for one logit z return (0, z)."
            )
        logits = checks.check_logits(said, n)
        if getattr(self.pipe.model, "unbounded", False):
            return logits
        known = self._probabilities
        if known is None and n:
            known = _inside(logits) and bool(((logits.sum(1) - 1).abs() <= 0.01).all())
            self._probabilities = None if self.ledger is None else known
        if not known:
            return logits
        if not _inside(logits):
            raise AccessError(
                "the classifier returned probabilities at first, and now rows that leave [0, 1]: scores must keep one "
                "scale; return logits, or probabilities for every row."
            )
        return logits.clamp_min(torch.finfo(logits.dtype).tiny).log()

    def _labels(self, said: Tensor, n: int) -> Tensor:
        if said.ndim == 2 and len(said) == n and said.shape[1] > 1:
            checks.check_numbers(said, "the classifier's output")
            return said.argmax(1)
        if tuple(said.shape) != (n,):
            raise AccessError(
                f"the classifier returned shape {show(said.shape)} for {n} rows; labels (B,) or scores (B, K) are "
                "needed, one row for each input."
            )
        if not (said == said.round()).all() or (said < 0).any():
            raise AccessError(
                "the classifier returned one number a row that is no label; labels are whole numbers of 0..K-1: return "
                "these, or scores (B, K)."
            )
        return said.long()


def _inside(scores: Tensor) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def _numbers(answer: Any, points: Tensor) -> Tensor:
    """An answer of any kind as numbers beside the points."""
    if not isinstance(answer, Tensor):
        try:
            answer = torch.as_tensor(np.asarray(answer))
        except (TypeError, ValueError, RuntimeError) as error:
            raise AccessError(
                f"the classifier returned {type(answer).__name__} that is no array of numbers ({error}): return a "
                "tensor, an array or nested lists of scores (B, K) or labels (B,)."
            ) from None
    if answer.is_complex():
        raise AccessError("the classifier returned complex numbers; scores are real: return logits.")
    return answer.detach().to(points)
