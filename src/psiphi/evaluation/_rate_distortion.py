"""What a code costs against what it saves: models trained at several weights of the rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psiphi.basis.errors import ArgumentError
from psiphi.evaluation._elbo import elbo
from psiphi.evaluation._rows import codes_of, rows_of
from psiphi.evaluation._units import units
from psiphi.training import fit

JUDGED_ROWS = 2000


@dataclass(frozen=True)
class Point:
    """One trained model: rate = E KL(q ‖ p) and distortion = E −ln p(x|z), in nats a row; elbo = −their sum."""

    beta: float
    rate: float
    distortion: float
    elbo: float
    spread: float
    active_units: int


@dataclass(frozen=True)
class RateDistortion:
    """The sweep, a point a β; `held_out`: whether the rows judged were apart from those trained on."""

    points: tuple[Point, ...]
    measure: str
    rows: int
    held_out: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"β {p.beta:<8g} rate {p.rate:9.3f}   distortion {p.distortion:10.3f}   "
            f"ELBO {p.elbo:10.3f} ± {p.spread:.2g}   active units {p.active_units}"
            for p in self.points
        ]
        return "\n".join([*lines, f"nats a row ({self.measure}), {self.rows} rows"])


def rate_distortion(
    build: Callable[[float], Any],
    x: Any,
    betas: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
    *,
    test: Any = None,
    seed: int = 0,
    **fit_options: Any,
) -> RateDistortion:
    """Train build(β) on x for every β and measure rate and distortion on the first 2000 rows of `test`.

    build: β -> a model not trained yet, e.g. `lambda beta: zoo.vae(shape, 8, beta=beta)`; x: as in `fit`; test: a
    split, a pair or an array; by default the test split of x, or x itself where it has none. fit_options go to `fit`.
    All are judged by the same bound, whatever the β of their training.
    Source: Alemi et al., "Fixing a broken ELBO", 2018.
    """
    if not betas or not all(0 <= beta < float("inf") for beta in betas):
        raise ArgumentError(f"betas are numbers of at least 0, e.g. (0.1, 1, 10); got {list(betas)}.")
    held_out = test is not None or hasattr(x, "test")
    rows, points, measure, judged = test if test is not None else getattr(x, "test", x), [], "", 0
    for beta in betas:
        model = build(beta)
        judged_x = rows_of(rows, model.shape, JUDGED_ROWS, "test").x
        fit(model, x, seed=seed, **fit_options)
        found = elbo(model, judged_x, seed)
        active = units(model, codes_of(model, judged_x)).n_active
        points.append(Point(float(beta), found.rate, -found.reconstruction, found.elbo, found.spread, active))
        measure, judged = found.measure, found.rows
    return RateDistortion(tuple(points), measure, judged, held_out)
