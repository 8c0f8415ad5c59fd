from __future__ import annotations

from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.poisoning._aims import Toward, Wrong
from psiphi.poisoning._picks import drawn
from psiphi.poisoning._poison import Poison, Setting, said


def label_flip(fraction: float, source: int | None = None, target: int | None = None) -> Poison:
    """Rows at random get another label, their images stay: any other class, or all the class `target`.

    source: only rows of this class. It is to make a model err, f(x) ≠ y; with a target, to take rows of the source for
    it. Source: Biggio, Nelson, Laskov, "Support vector machines under adversarial label noise", 2011.
    """
    if target is not None and target == source:
        raise ArgumentError(
            f"rows of class {source} are to get another label than their own; target is {target}."
        )

    def allowed(y: Tensor) -> Tensor:
        return (y == source) if source is not None else (y != target if target is not None else y >= 0)

    def relabel(setting: Setting, rows: Tensor) -> Tensor:
        own = setting.y[rows]
        if target is not None:
            return own.new_full((len(rows),), target)
        shift = 1 + setting.noise.split("labels").integers(setting.classes - 1)[rows]
        return (own + shift) % setting.classes

    return Poison(
        fraction,
        drawn(allowed, "of another class than the target" if source is None else f"of class {source}"),
        None,
        relabel,
        Wrong() if target is None else Toward(source, target),
        said=said("label_flip", fraction=fraction, source=source, target=target),
    )
