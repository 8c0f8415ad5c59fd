"""The standard batteries of attacks."""

from __future__ import annotations

from collections.abc import Callable

from psiphi.attacks._attack import Attack
from psiphi.attacks._battery import Battery
from psiphi.attacks._fixed import apgd
from psiphi.attacks._minimum import fab
from psiphi.attacks._protocols import Threat
from psiphi.attacks._scores import square
from psiphi.attacks._targets import Rivals
from psiphi.attacks.threats import L1, L2, Linf
from psiphi.basis.errors import ArgumentError
from psiphi.basis.registry import attacks

_DRAWS = 20
_AHEAD = 16


@attacks.register
def auto(threat: Threat, version: str = "standard", steps: int = 100, queries: int = 5000) -> Battery:
    """AutoAttack: the standard battery, each attack on the rows that those before it left standing.

    `standard`: `apgd` on the cross-entropy; `apgd` on the targeted difference-of-logits ratio, towards the 9 likeliest
    other classes; `fab` towards the same; `square`. `plus`: five restarts of `apgd` on the cross-entropy, on the
    untargeted ratio, and of `fab`; `square`; then both with targets. `random`, of a classifier that draws: `apgd` on
    the cross-entropy and on the ratio, by the mean over 20 draws (`access.expectation` with draws=20, unless the
    classifier is an expectation already). In L1 `apgd` has five restarts on the cross-entropy, 5 targets, and walks
    that stay in balls of 3ε, 2ε and ε in turn. Of fewer classes, all others are targets; of two and three the ratio is
    what `formulas.goals.dlr` says. A targeted attack breaks a row wherever it is misclassified.

    steps    of each walk of `apgd` and `fab`
    queries  of `square`

    Forwards a row that stands all of `standard`: 10 (steps + 2) of `apgd`, 9 (steps + 4) of `fab`, queries + 1 and
    what `square` sends ahead;
    backwards 19 steps.

    Sources: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", 2020, section 6; "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", 2021,
    section 5; of `plus`, `random`, and the numbers of restarts and targets, the reference code.
    """
    if version not in _VERSIONS:
        raise ArgumentError(f"version is {', '.join(map(repr, _VERSIONS))}; got {version!r}.")
    if not isinstance(threat, (Linf, L2, L1)):
        raise ArgumentError(
            f"auto attacks balls of Linf, L2 and L1; got {threat!r}: of other threats, join attacks by Battery([...])."
        )
    return Battery(_VERSIONS[version](threat, steps, queries), draws=_DRAWS if version == "random" else None)


def _standard(threat: Threat, steps: int, queries: int) -> list[Attack]:
    return [
        _ascent(threat, steps, 5 if isinstance(threat, L1) else 1),
        *_targeted(threat, steps),
        square(threat, queries, ahead=_AHEAD),
    ]


def _plus(threat: Threat, steps: int, queries: int) -> list[Attack]:
    free = [_ascent(threat, steps, 5), _ascent(threat, steps, 5, "dlr"), fab(threat, steps, restarts=5)]
    return [*free, square(threat, queries, ahead=_AHEAD), *_targeted(threat, steps)]


def _random(threat: Threat, steps: int, queries: int) -> list[Attack]:
    return [_ascent(threat, steps), _ascent(threat, steps, goal="dlr")]


def _targeted(threat: Threat, steps: int) -> list[Attack]:
    few = Rivals(5 if isinstance(threat, L1) else 9)
    return [_ascent(threat, steps, goal="dlr", targets=few), fab(threat, steps, targets=Rivals(9))]


def _ascent(
    threat: Threat, steps: int, restarts: int = 1, goal: str = "cross_entropy", targets: Rivals | None = None
) -> Attack:
    widths = (3.0, 2.0, 1.0) if isinstance(threat, L1) else ()
    return apgd(threat, steps, restarts, goal=goal, targets=targets, widths=widths)


_VERSIONS: dict[str, Callable[[Threat, int, int], list[Attack]]] = {
    "standard": _standard,
    "random": _random,
    "plus": _plus,
}
