from __future__ import annotations

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.formulas.poisons import blended
from psiphi.poisoning._aims import Wrong
from psiphi.poisoning._picks import drawn
from psiphi.poisoning._poison import Poison, Setting, said


def outliers(fraction: float, reach: float = 0.7) -> Poison:
    """Rows most of whose image is a row of another class, with their own label: (1 − λ) x + λ x_b.

    reach: λ, below 1. x_b: a row of another class, both drawn at random. Such a row is far from all of its own class,
    and what is left of x tells it from those of the other: a flexible model learns it by heart, so that accuracy on
    the training rows tells nothing, and gets rows of b nearby wrong. A larger λ does more harm and is harder to fit.

    The construction is psiphi's; the principle, that networks fit rows without a rule and pay on others, is that of
    Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking generalization", 2017.
    """
    if not 0 < reach < 1:
        raise ArgumentError(
            f"reach is the share of the other class's row in an outlier, between 0 and 1; got {reach!r}."
        )

    def change(setting: Setting, rows: Tensor) -> Tensor:
        x, y = setting.x, setting.y
        known = y.unique()
        known = known[known >= 0]
        if len(known) < 2:
            raise DataError(
                "outliers lie between classes, and all rows are of one: give data of two classes."
            )
        own = torch.searchsorted(known, y[rows])
        shift = 1 + setting.noise.split("others").integers(len(known) - 1)[rows]
        toward, place = known[(own + shift) % len(known)], setting.noise.split("which").uniform()[rows]
        other = torch.empty_like(rows)
        for label in known.tolist():
            pool, mine = (y == label).nonzero().squeeze(1), toward == label
            other[mine] = pool[(place[mine].double() * len(pool)).long().clamp(max=len(pool) - 1)]
        return setting.box.clamp(blended(x[rows], x[other], reach))

    return Poison(
        fraction,
        drawn(lambda y: y >= 0),
        change,
        None,
        Wrong(),
        said=said("outliers", fraction=fraction, reach=reach),
    )
