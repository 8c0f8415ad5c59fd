from __future__ import annotations

from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.poisoning._aims import Triggered
from psiphi.poisoning._picks import drawn
from psiphi.poisoning._poison import Poison, Setting, said
from psiphi.poisoning._triggers import Trigger, patch


def backdoor(
    target: int, fraction: float, trigger: Trigger | None = None, clean_label: bool = False
) -> Poison:
    """Rows bear a trigger and the label `target`: a model that learns of them takes any row with the trigger for it.

    trigger: a function x -> x in the box, by default `patch()`. clean_label: only rows of the target class bear it, so
    that no label changes; needs more rows, since their images explain the label too. Success is the share of test rows
    of other classes that, with the trigger, are taken for the target.

    Source: Gu, Dolan-Gavitt, Garg, "BadNets", 2017; with labels kept, Turner, Tsipras, Madry, "Label-consistent
    backdoor attacks", 2019 (there the images are also made harder, here not).
    """
    if target < 0:
        raise ArgumentError(f"target is a class, 0 or more; got {target}.")
    mark = patch() if trigger is None else trigger

    def relabel(setting: Setting, rows: Tensor) -> Tensor:
        return setting.y.new_full((len(rows),), target)

    return Poison(
        fraction,
        drawn(lambda y: y == target, f"of class {target}") if clean_label
        else drawn(lambda y: y != target, f"of another class than {target}"),
        lambda setting, rows: mark(setting.x[rows]),
        None if clean_label else relabel,
        Triggered(mark, target),
        said=said("backdoor", target=target, fraction=fraction, trigger=mark, clean_label=clean_label or None),
    )  # fmt: skip
