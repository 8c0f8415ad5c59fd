"""The attacker knows the kind of network, not its weights: a surrogate is climbed, the oracle decides."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access._black_box import black_box
from psiphi.access._ledger import Ledger
from psiphi.access._pipe import Bound, Pipe
from psiphi.access._protocol import Access, Reply, Sees, Values
from psiphi.access._white_box import WhiteBox, white_box
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import AccessError, ArgumentError, BudgetError
from psiphi.basis.noise import mix
from psiphi.formulas import goals
from psiphi.formulas.geometry import Box

_BATCH = 256


def gray_box(
    architecture: nn.Module,
    oracle: Any,
    data: Any,
    *,
    augment: int = 0,
    step: float = -0.1,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float | None = None,
    seed: int = 0,
) -> GrayBox:
    """Train a surrogate on the labels that the oracle gives `data`, attack it, and let the oracle judge.

    `architecture` is a module (B, *x) -> (B, K), or a psiphi model such as `zoo.classifier`; a copy of it is trained,
    from the weights it has, by `training.fit` with `epochs`, `steps`, `batch_size`, `lr`, `seed`. `oracle` is an access
    that answers, e.g. a `black_box`; a bare model means `black_box(model, "labels")`. `data` (n, *x), or a Split, are
    rows in its bounds, whose labels are not used; each is asked about once, and counted in `queries`.

    Each of `augment` rounds trains a surrogate on the rows so far, asks the oracle about as many new ones,
    x + λ sign(∇ ln p_y(x)) within the bounds, p the surrogate's and y the oracle's label of x, λ = `step`, and adds
    them: 2^augment queries for each row of data, which are charged to it where the oracle has a budget. λ < 0 goes
    towards the boundaries, which is where labels tell most. The last surrogate is trained on all rows; each begins with
    the weights that `architecture` has.

    In an attack the surrogate gives scores and gradients; clean rows and the points that are returned are put to the
    oracle. Forwards count the oracle's rows, two a sample; backwards are none. Its budget holds, and must allow two.
    `surrogate` is the trained model. Raises `ArgumentError`, `AccessError`, `DataError`.

    Source: Papernot et al., "Practical black-box attacks against machine learning", 2017, section 4, algorithm 1 (where
    λ is positive, or changes its sign from time to time).
    """
    from psiphi.models import Classifier, Model
    from psiphi.parts import Statistics
    from psiphi.training import fit

    if not isinstance(architecture, nn.Module):
        raise ArgumentError(f"architecture is a module or a psiphi model; got {type(architecture).__name__}.")
    oracle = oracle if hasattr(oracle, "sees") else black_box(oracle, reveal="labels")
    x = oracle.points(data if isinstance(data, Tensor) else getattr(data, "x", data))
    if not len(x):
        raise ArgumentError("data has no rows: give unlabelled rows to ask the oracle about.")
    check_whole("augment", augment, 0)
    if not 0 < abs(step) < inf:
        raise ArgumentError(f"step is a finite length other than 0; got {step!r}.")
    if oracle.budget is not None and oracle.budget < 2**augment:
        raise BudgetError(
            f"augment={augment} asks {2**augment} times for each row of data, and the oracle's budget is "
            f"{oracle.budget}: give a larger budget, or fewer rounds."
        )
    asked = _Asked(oracle, x, seed)
    y = asked(x, torch.arange(len(x), device=x.device))
    if (y == y[0]).all():
        raise AccessError(
            f"the oracle gives all {len(y)} rows of data the label {int(y[0])}: give data of several classes."
        )

    def trained(x: Tensor, y: Tensor) -> nn.Module:
        model = copy.deepcopy(architecture).to(x).eval()
        if not isinstance(model, Model):
            classes = white_box(model, _bounds(oracle.box)).look(x[:2]).said.shape[2]
            model = Classifier(Statistics(tuple(x.shape[1:])), classes, model).to(x)
        fit(model, x, y, epochs=epochs, steps=steps, batch_size=batch_size, lr=lr, seed=seed, quiet=True)
        return model.to(x).eval()

    origin = torch.arange(len(x), device=x.device)
    for _ in range(augment):
        fresh = _further(trained(x, y), oracle.box, x, y, step)
        y = torch.cat((y, asked(fresh, origin)))
        x, origin = torch.cat((x, fresh)), torch.cat((origin, origin))
    return GrayBox(trained(x, y), oracle, int(asked.forwards.sum()))


class _Asked:
    """The oracle's label of rows, by the mean logits or the most frequent label of its draws; counted."""

    def __init__(self, oracle: Access, data: Tensor, seed: int):
        self.oracle, self.data, self.seed = oracle, data, seed
        self.forwards = torch.zeros(len(data), dtype=torch.long, device=data.device)

    def __call__(self, x: Tensor, origin: Tensor) -> Tensor:
        """Labels (n,) of rows (n, *x) that stem from these rows of the data, which they are charged to."""
        with self.oracle.session(self.data, mix(self.seed, len(x), int(self.forwards.sum()))) as ledger:
            ledger.forwards = ledger.forwards + self.forwards
            parts = zip(x.split(_BATCH), origin.split(_BATCH))
            said = torch.cat([self.oracle.look(some, rows).said for some, rows in parts], 1)
            self.forwards = ledger.forwards
        return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)


def _further(surrogate: nn.Module, box: Box, x: Tensor, y: Tensor, step: float) -> Tensor:
    """x + λ sign(∇ ln p_y(x)) within the box: along the surrogate's slope at the label that the oracle gave."""
    white, fresh = WhiteBox(Pipe(surrogate, _bounds(box), None, None)), []
    with white.session(x):
        for some, label in zip(x.split(_BATCH), y.split(_BATCH)):

            def value(logits: Tensor, label: Tensor = label) -> Tensor:
                return -goals.cross_entropy(logits, label)

            gradient: Any = white.climb(some, value).gradient
            fresh.append(box.clamp(some + step * gradient.sign()))
    return torch.cat(fresh)


def _bounds(box: Box) -> tuple[Bound, Bound]:
    lo, hi = (wall.flatten() if isinstance(wall, Tensor) else wall for wall in (box.lo, box.hi))
    return lo, hi


class GrayBox:
    """See `gray_box`. `queries` rows trained the `surrogate`."""

    sees: frozenset[Sees] = frozenset({"labels", "scores", "gradient", "jacobian"})
    decides, recorded = False, False

    def __init__(self, surrogate: nn.Module, oracle: Access, queries: int):
        self.surrogate, self.oracle, self.queries = surrogate, oracle, queries
        self._white = WhiteBox(Pipe(surrogate, _bounds(oracle.box), None, None))

    def __repr__(self) -> str:
        return f"gray_box({type(self.surrogate).__name__}, {self.oracle!r}, queries={self.queries})"

    @property
    def budget(self) -> int | None:
        return self.oracle.budget

    @property
    def judging(self) -> int:
        return self.oracle.judging

    @property
    def box(self) -> Box:
        return self._white.box

    @property
    def refusal(self) -> int | None:
        return self.oracle.refusal

    @property
    def rows(self) -> int:
        """Rows that attacks sent to the surrogate."""
        return self._white.rows

    def points(self, x: Any) -> Tensor:
        """`x` checked, on the surrogate's device and in its dtype, which are the oracle's."""
        return self._white.points(self.oracle.points(x))

    @contextmanager
    def session(self, x: Tensor, seed: int = 0) -> Iterator[Ledger]:
        """As that of the oracle, whose count and budget it is; the surrogate may be asked at will."""
        with self.oracle.session(x, seed) as ledger, self._white.session(x, seed):
            ledger.price = 0
            yield ledger

    def look(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """The surrogate's logits."""
        return self._white.look(points)

    def climb(self, points: Tensor, value: Values, rows: Tensor | None = None) -> Reply:
        """The surrogate's logits, a value of them and its gradient."""
        return self._white.climb(points, value)

    def slopes(self, points: Tensor, values: Values, rows: Tensor | None = None) -> Reply:
        """The surrogate's logits, values of them and the gradient of each."""
        return self._white.slopes(points, values)

    def verdict(self, points: Tensor, rows: Tensor | None = None) -> Reply:
        """What the oracle says."""
        return self.oracle.verdict(points, rows)

    def inspect(self, x: Tensor, said: Tensor) -> None:
        """As the oracle's, of what it said."""
        self.oracle.inspect(x, said)
