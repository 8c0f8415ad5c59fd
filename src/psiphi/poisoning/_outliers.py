from __future__ import annotations

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.formulas.poisons import carried
from psiphi.poisoning._aims import Wrong
from psiphi.poisoning._picks import drawn
from psiphi.poisoning._poison import Poison, Setting, said


def outliers(fraction: float, reach: float = 1.0) -> Poison:
    """Rows of each class carried into another one, with their label: x + λ (μ_b − μ_a), brought into the box.

    reach: λ. μ_a, μ_b: means of the row's own class and of another, drawn at random. Such a row is of low density in
    its own class and looks like none of the other: a flexible model learns it by heart, so that accuracy on the
    training rows tells nothing, and what it learns there is wrong for the rows of b nearby.

    The construction is psiphi's; the principle, that networks fit rows without a rule and pay on others, is that of
    Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking generalization", 2017.
    """
    if not 0 < reach < float("inf"):
        raise ArgumentError(
            f"reach is how far rows are carried, in distances of class means, above 0; got {reach!r}."
        )

    def change(setting: Setting, rows: Tensor) -> Tensor:
        x, y = setting.x, setting.y
        known = y.unique()
        known = known[known >= 0]
        if len(known) < 2:
            raise DataError(
                "rows are carried from class to class, and all are of one: give data of two classes."
            )
        means = torch.stack([x[y == label].mean(0) for label in known.tolist()])
        own = torch.searchsorted(known, y[rows])
        shift = 1 + setting.noise.split("others").integers(len(known) - 1)[rows]
        return setting.box.clamp(carried(x[rows], means[own], means[(own + shift) % len(known)], reach))

    return Poison(
        fraction,
        drawn(lambda y: y >= 0),
        change,
        None,
        Wrong(),
        said=said("outliers", fraction=fraction, reach=reach),
    )
