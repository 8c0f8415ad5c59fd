"""A purifier's level of noise, or any other option, chosen on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.access import white_box
from psiphi.attacks import Attack, Battery
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import forked
from psiphi.defenses._purify import Purified
from psiphi.formulas import goals
from psiphi.models import DenoiserModel, LatentModel

SIGMAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # in units of the data's σ
STEPS = (1, 2, 3, 5)
_ROWS = 256


@dataclass(frozen=True)
class Tuned:
    """What was chosen, and the table it was chosen from.

    safe: the defence with the best of the options; option: the settings tried, in their order; clean, changed: the
    accuracy of each on the validation rows as they are, and as the attack left them; chosen: the place of the best.
    """

    safe: Purified
    option: tuple[dict[str, Any], ...]
    clean: tuple[float, ...]
    changed: tuple[float, ...]
    chosen: int
    rows: int

    def as_dict(self) -> dict[str, Any]:
        lines = zip(self.option, self.clean, self.changed)
        table = [{**option, "clean": clean, "changed": changed} for option, clean, changed in lines]
        return {"rows": self.rows, "chosen": self.option[self.chosen], "table": table}

    def __str__(self) -> str:
        lines = [f"{self.safe!r}, chosen on {self.rows} validation rows: accuracy clean, changed"]
        for i, (option, clean, changed) in enumerate(zip(self.option, self.clean, self.changed)):
            told = ", ".join(
                f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in option.items()
            )
            lines.append(f"{'→' if i == self.chosen else ' '} {told:24s} {clean:7.1%} {changed:7.1%}")
        return "\n".join(lines)


def tuned(
    safe: Purified,
    x: Tensor,
    y: Tensor,
    attack: Attack | Battery | None = None,
    *,
    draws: int = 8,
    seed: int = 0,
    bounds: tuple[Any, Any] = (0.0, 1.0),
    on_progress: Callable[[int, int], None] | None = None,
    **levels: Sequence[Any],
) -> Tuned:
    """The defence with the options of its projection that do best on validation rows, and the table of all.

    x (n, *x), y (n,): rows that neither classifier nor model was trained on, other ones than those of the evaluation.
    The accuracy is that on the rows as `attack` leaves them, which attacks the bare classifier with all its steps;
    without one, on the rows as given, changed by you. Chosen is the first that comes within one standard error of the
    highest, √(p(1 − p)/n): the least noise that does as well, which leaves most of the clean accuracy. levels: values
    to try by the name of the option, every combination of several; unless given σ = 0.1 to 1 times the data's for a
    denoiser, 1 to 5 steps for an autoencoder. draws: passes that a random defence is judged by.

    The attack does not know the purifier, so the number that is best here says nothing about robustness: it picks a
    setting, and `evaluation.adaptive` judges it, on other rows. Raises `ArgumentError`; `DataError` or `ShapeError` for
    missing labels.

    Source: the rule of one standard error: Breiman, Friedman, Olshen, Stone, "Classification and regression trees",
    1984, section 3.4.3.
    """
    check_whole("draws", draws)
    x = checks.as_points(x)
    if not len(x):
        raise ArgumentError("there are no validation rows: one at least is needed.")
    x = x.to(next((p for p in safe.parameters() if p.is_floating_point()), x))
    y = checks.as_labels(y, len(x))
    if attack is not None and not isinstance(attack, Attack | Battery):
        raise ArgumentError(
            f"attack is one of ours, e.g. pp.attacks.pgd(Linf(0.3)), or None; got {attack!r}."
        )
    names = levels or _usual(safe)
    for name, values in names.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
            raise ArgumentError(f"{name} needs a list of values to try, e.g. [0.1, 0.2]; got {values!r}.")
    tried = [dict(zip(names, values)) for values in product(*names.values())]
    candidates = [safe.altered(**option) for option in tried]
    changed = x
    if attack is not None:
        changed = attack(
            white_box(safe.classifier, bounds), x, y, seed=seed, stop_early=False, batch_size=None
        ).x
    clean, after = [], []
    for i, each in enumerate(candidates):
        clean.append(accuracy(each, x, y, draws, seed))
        after.append(clean[-1] if attack is None else accuracy(each, changed, y, draws, seed))
        if on_progress is not None:
            on_progress(i + 1, len(candidates))
    top = max(after)
    best = next(i for i, p in enumerate(after) if p >= top - (top * (1 - top) / len(x)) ** 0.5)
    return Tuned(candidates[best], tuple(tried), tuple(clean), tuple(after), best, len(x))


@torch.no_grad()
def accuracy(safe: Purified, x: Tensor, y: Tensor, draws: int, seed: int) -> float:
    """Share of rows classified rightly; of a random defence its mean over draws."""
    passes = draws if safe.random else 1
    with forked(seed, "tuned"):
        right = [
            goals.standing(safe(part), label.to(part.device)) == 0
            for _ in range(passes)
            for part, label in zip(x.split(_ROWS), y.split(_ROWS))
        ]
    return float(torch.cat(right).double().mean())


def _usual(safe: Purified) -> dict[str, Sequence[Any]]:
    if isinstance(safe.model, DenoiserModel):
        least, unit = safe.model.schedule.sigma_min, float(safe.model.statistics.sigma)
        return {"sigma": [float(f"{unit * level:.3g}") for level in SIGMAS if level > 1.01 * least]}
    if isinstance(safe.model, LatentModel):
        return {"steps": list(STEPS)}
    raise ArgumentError(
        f"{safe!r} has no option that is tried unless told: name one with its values, e.g. restarts=[1, 4]."
    )
