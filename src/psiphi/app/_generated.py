"""What a model's samples are worth: modes of a mixture that is known, or fidelity to rows of the test split."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _console as out
from psiphi.basis.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from psiphi.divergences import Estimate
    from psiphi.evaluation import Fidelity, Frechet, KernelDistance, Memory, Modes

K = 5
TRAIN_ROWS = 10_000


@dataclass(frozen=True)
class Generated:
    """Of a mixture that is known: `modes`; of other data, the rest; what could not be measured: `why`."""

    modes: Modes | None = None
    fidelity: Fidelity | None = None
    sliced_wasserstein: Estimate | None = None
    kernel_distance: KernelDistance | None = None
    frechet: Frechet | None = None
    memory: Memory | None = None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value.as_dict() if hasattr(value, "as_dict") else value for name, value in values}


def generated(
    model: Any, data: Any, x: Any, classifier: Any = None, n: int = 2000, seed: int = 0
) -> Generated | None:
    """Judge n samples; against test rows x as many as there are. None of a model that does not sample, or a table."""
    from psiphi import divergences, evaluation
    from psiphi.evaluation._modes import is_mixture

    if not hasattr(model, "sample") or data.columns is not None:
        return None
    if is_mixture(data.reference):
        return Generated(evaluation.modes(model, data.reference, seed=seed))
    n = min(n, len(x))
    if n <= K:
        return Generated(why=f"{n} test rows are too few to compare samples with")
    try:
        y = model.sample(n, seed=seed, exact=True).detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", evaluation.SmallSampleWarning)  # the label says by how much
            return Generated(
                fidelity=evaluation.fidelity(y, x[:n], K, classifier, "test"),
                sliced_wasserstein=divergences.sliced_wasserstein(y.flatten(1), x[:n].flatten(1), seed=seed),
                kernel_distance=evaluation.kernel_distance(y, x[:n], classifier, "test"),
                frechet=evaluation.frechet(y, x[:n], classifier, "test", seed),
                memory=evaluation.nearest_training(y, data.train.x[:TRAIN_ROWS], x[:n], classifier),
            )
    except (ArgumentError, DataError) as error:
        return Generated(why=str(error))


def show(found: Generated) -> None:
    """Print it for people."""
    if found.modes is not None:
        return out.say(f"Modes: {found.modes}.")
    if found.why:
        return out.say(f"No fidelity of the samples: {found.why.rstrip('.')}.")
    f, sliced, kernel = found.fidelity, found.sliced_wasserstein, found.kernel_distance
    assert f is not None
    assert sliced is not None
    assert kernel is not None
    assert found.frechet is not None
    assert found.memory is not None
    rows = [
        ["precision", str(f.precision), "samples in a ball of the data"],
        ["recall", str(f.recall), "data in a ball of the samples"],
        ["density", f"{f.density:.3f}", "1 for the data's own density"],
        ["coverage", f"{f.coverage:.1%}", f"{f.expected_coverage:.1%} for the data's own density"],
        ["sliced Wasserstein", f"{sliced.value:.4g} ± {sliced.standard_error:.2g}", "of the numbers as they are"],
        ["kernel distance", f"{kernel.value:.4g} ± {kernel.standard_error:.2g}", "unbiased"],
        ["Fréchet distance", f"{found.frechet.value:.4g}", f"biased: halves of the data {found.frechet.halves:.4g}"],
        ["nearest training row", f"{found.memory.ratio:.3f}", "of a held-out row's distance, medians"],
        ["copies", str(found.memory.copies), "nearer than 99% of held-out rows: 1% expected"],
    ]  # fmt: skip
    out.table(["samples", "", "beside"], rows)
    return out.say(
        f"{f.n} samples against {f.m} test rows, by {f.features}; balls reach to the {f.k}th nearest row; "
        f"{found.memory.m} training rows. "
        "Samples are draws: where p(x|z) has noise, they have it."
    )


def picture(path: Path, model: Any, data: Any, seed: int) -> None:
    """Modes on a map, as a PNG."""
    from psiphi.app import modes_map, plots

    plots.png(
        path, modes_map.draw(modes_map.modes_map(model, data.reference, model.title, seed=seed)), (4.6, 4.6)
    )


@contextmanager
def spoken() -> Iterator[None]:
    """Inside, a warning of collapse or of a schedule is a line on stderr, without the place that gave it."""
    from psiphi.evaluation import CollapseWarning
    from psiphi.formulas.schedules import ScheduleWarning

    ours = (CollapseWarning, ScheduleWarning)

    with warnings.catch_warnings():
        otherwise = warnings.showwarning

        def say(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ours):
                out.note(f"warning: {message}")
            else:
                otherwise(message, category, *place, **more)

        for each in ours:
            warnings.simplefilter("always", each)
        warnings.showwarning = say
        yield


def watchers(model: Any, data: Any) -> tuple[Any, ...]:
    """What looks for collapse while `fit` runs: for models of several players that sample, against the data.

    A mixture that is known has its modes counted; of other data validation rows serve, else none.
    """
    import torch

    from psiphi.basis.shapes import as_float
    from psiphi.evaluation import watch_modes
    from psiphi.evaluation._modes import is_mixture

    if len(model.players()) < 2 or not hasattr(model, "sample"):
        return ()
    if is_mixture(data.reference):
        return (watch_modes(data.reference),)
    rows = data.validation.x
    held = as_float(torch.as_tensor(rows[: watch_modes.n])) if len(rows) > 1 else None
    return (watch_modes(held),)
