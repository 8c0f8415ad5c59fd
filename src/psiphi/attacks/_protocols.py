"""What threats and searches are to the engine.

A *state* is a frozen dataclass that describes b rows at once: each of its fields is a tensor (b, ...), a
`Noise` of b rows, or a dataclass of such; whatever else a field holds is the same for every row. The
engine drops, adds and reorders rows with `take` and `join`, and looks no further inside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.formulas.geometry import Box

Needs = Literal["labels", "scores", "gradient", "jacobian"]


class Threat(Protocol):
    """The set of changes allowed to x; the box of the data is handed in, never carried.

    Its points `u` (b, *u) live in a *chart*: inputs themselves, or where `charted` the coordinates of a change, such as
    an angle and a shift, that `decode` makes an input of, differentiably. Searches move in the chart alone, from
    `origin`, the point that is x, within `walls`; below, x and the box are those of the chart. A threat has of `Offers`
    what makes sense for it, and `norm` if it is the ball of one.
    """

    charted: ClassVar[bool]

    def origin(self, x: Tensor) -> Tensor:
        """The point of the chart that leaves x as it is, (b, *u)."""
        ...

    def walls(self, box: Box, x: Tensor) -> Box:
        """The box of the chart."""
        ...

    def decode(self, u: Tensor, x: Tensor, box: Box) -> Tensor:
        """The inputs (b, *x) that points of the chart stand for; here x and the box are those of the data."""
        ...

    def expand(self, x: Tensor) -> Threat:
        """The threat with one radius a row of `x`."""
        ...

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """A random point of set ∩ box, (b, *x)."""
        ...

    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        """The nearest point to `v` of set ∩ box."""
        ...

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """How large the change from `x` to `v` is, (b,)."""
        ...


class Offers(Protocol):
    """What a threat may have besides: a search names in `uses` what it needs of these."""

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """The unit step from `v` that raises a score of gradient `g` most, given the length of the step to come."""
        ...

    def slope(self, v: Tensor, x: Tensor) -> Tensor:
        """The gradient of the distance at `v`, (b, *x)."""
        ...

    def reach(self, a: Tensor, b: Tensor, x: Tensor, box: Box) -> tuple[Tensor, Tensor]:
        """The least δ with ⟨a, δ⟩ ≥ b and x + δ in the box, (b, *x), and whether there is one, (b,)."""
        ...

    def dual(self, g: Tensor) -> Tensor:
        """The largest ⟨g, δ⟩ of a change of size 1, (b,)."""
        ...

    def grid(self, counts: int | tuple[int, ...]) -> Tensor:
        """All points of a grid over the chart, (m, u)."""
        ...

    def paint(self, x: Tensor, place: Tensor, colour: Tensor) -> Tensor:
        """`x` with pixels at places (b, k) of colours (b, k, C)."""
        ...


@dataclass(frozen=True)
class Answer:
    """What is known of n points.

    score      of the goal, (n,); of an access that shows labels only, 1 where the goal holds and −1 elsewhere
    broken     whether the goal holds by more than rounding, (n,)
    gradient   of the score, (n, *x), where the search needs "gradient"
    gaps       values any one of which is positive once the goal holds, (n, R), where it needs "jacobian"
    jacobian   of the gaps, (n, R, *x)
    label      (n,) where it needs "labels"
    """

    score: Tensor
    broken: Tensor
    gradient: Tensor | None = None
    gaps: Tensor | None = None
    jacobian: Tensor | None = None
    label: Tensor | None = None


class Search(Protocol):
    """How to move: a state machine without a loop. Only the engine loops, and it alone asks the access.

    `uses`, if there, names what it asks of a threat besides (`Offers`), and `norms` the norms that it knows. One that
    `roams` asks about points beyond the radius too. A search that needs "jacobian" may have `rivals`, the number of
    other classes that it looks at. One with `ahead` may ask about moves before it needs them; of a black box, whose
    queries are what counts, one at a time. One whose attribute `surveys` is true is given the gaps and their Jacobian
    at x as a last argument of `start`.
    """

    needs: ClassVar[Needs]

    def start(self, x: Tensor, y: Tensor, threat: Any, box: Box, noise: Noise) -> Any:
        """The state of b fresh rows."""
        ...

    def ask(self, s: Any, room: int) -> tuple[Tensor, Tensor]:
        """Points (n, *x) to judge, at most about `room` of them, and the row of the state each is of, (n,).

        For a row that is `done`: its last point if it was not judged yet, else none.
        """
        ...

    def tell(self, s: Any, points: Tensor, owner: Tensor, answer: Answer) -> Any:
        """The state after the answer to these points."""
        ...

    def done(self, s: Any) -> Tensor:
        """Rows that have nothing left to learn from an answer, (b,)."""
        ...


_OFFERED = {
    "steepest": "a steepest step",
    "reach": "a least change onto a plane",
    "grid": "a grid of points",
    "slope": "a gradient of its distance",
    "paint": "pixels to paint",
}


def check_pair(threat: Any, search: Any) -> None:
    """Raises `ArgumentError`, with the reason, where the search cannot move in the threat."""
    name, norm = type(search).__name__, getattr(threat, "norm", None)
    for use in getattr(search, "uses", ()):
        if not hasattr(threat, use):
            raise ArgumentError(f"{name} needs {_OFFERED[use]}, which {threat!r} does not have.")
    if (norms := getattr(search, "norms", None)) is not None and norm not in norms:
        raise ArgumentError(f"{name} searches balls of {', '.join(norms)}, and {threat!r} is none of them.")


def take(rows: Any, index: Tensor) -> Any:
    """The rows `index` of a state."""
    if isinstance(rows, Tensor):
        return rows[index]
    if isinstance(rows, Noise):
        return rows.take(index)
    if is_dataclass(rows) and not isinstance(rows, type):
        return replace(rows, **{f.name: take(getattr(rows, f.name), index) for f in fields(rows)})
    return rows


def join(first: Any, second: Any) -> Any:
    """The rows of one state, then those of another."""
    if isinstance(first, Tensor):
        return torch.cat((first, second))
    if isinstance(first, Noise):
        return replace(first, rows=torch.cat([torch.as_tensor(noise.rows) for noise in (first, second)]))
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: join(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)}
        return replace(first, **parts)
    return first
